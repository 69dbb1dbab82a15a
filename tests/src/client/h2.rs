//! HTTP/2 with prior knowledge by hyper.

use std::net::SocketAddr;

use http::{Request, Response, Uri};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinHandle};

use super::{Answer, PATIENCE};
use crate::body::AnyBody;

/// One connection; requests run side by side on clones of its sender.
#[derive(Debug)]
pub struct H2 {
    sender: http2::SendRequest<AnyBody>,
    driver: JoinHandle<()>,
}

impl H2 {
    /// Connects.
    pub async fn connect(addr: SocketAddr) -> H2 {
        H2::try_connect(addr).await.unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}"))
    }

    /// Connects; the failure is a value.
    pub async fn try_connect(addr: SocketAddr) -> Result<H2, std::io::Error> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(H2 { sender, driver })
    }

    /// Sends, and reads the whole answer, within [`PATIENCE`]. `Host` becomes `:authority`.
    pub async fn send(&self, request: Request<AnyBody>) -> Result<Answer, String> {
        tokio::time::timeout(PATIENCE, async {
            let response = self.begin(request).await?;
            Answer::read(response).await.map_err(|e| format!("body: {e:?}"))
        })
        .await
        .map_err(|_| format!("no answer within {PATIENCE:?}"))?
    }

    /// Sends, and answers as soon as the head is there.
    pub async fn begin(&self, mut request: Request<AnyBody>) -> Result<Response<Incoming>, String> {
        let host = request.headers_mut().remove("host").map(|h| h.to_str().unwrap().to_owned());
        if let (Some(host), None) = (host, request.uri().authority()) {
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            *request.uri_mut() = format!("http://{host}{path}").parse::<Uri>().unwrap();
        }
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(|e| format!("connection closed: {e:?}"))?;
        sender.send_request(request).await.map_err(|e| format!("request: {e:?}"))
    }

    /// Whether the peer has closed, or said that it will.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for H2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
