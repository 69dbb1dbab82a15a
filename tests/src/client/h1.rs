//! HTTP/1.1 by hyper, one connection that is kept.

use std::{net::SocketAddr, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};

use super::{Answer, PATIENCE};
use crate::{body::AnyBody, eventually::eventually};

/// One kept-alive connection.
#[derive(Debug)]
pub struct H1 {
    sender: http1::SendRequest<AnyBody>,
    driver: JoinHandle<()>,
    local: SocketAddr,
}

impl H1 {
    /// Connects.
    pub async fn connect(addr: SocketAddr) -> H1 {
        H1::try_connect(addr).await.unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}"))
    }

    /// Connects; the failure is a value.
    pub async fn try_connect(addr: SocketAddr) -> Result<H1, std::io::Error> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(H1 { sender, driver, local })
    }

    /// This end's address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends, and reads the whole answer, within [`PATIENCE`].
    pub async fn send(&mut self, request: Request<AnyBody>) -> Result<Answer, String> {
        tokio::time::timeout(PATIENCE, async {
            let response = self.begin(request).await?;
            Answer::read(response).await.map_err(|e| format!("body: {e:?}"))
        })
        .await
        .map_err(|_| format!("no answer within {PATIENCE:?}"))?
    }

    /// Sends, and answers as soon as the head is there.
    pub async fn begin(&mut self, request: Request<AnyBody>) -> Result<Response<Incoming>, String> {
        self.sender.ready().await.map_err(|e| format!("connection closed: {e:?}"))?;
        self.sender.send_request(request).await.map_err(|e| format!("request: {e:?}"))
    }

    /// Whether the peer has closed.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the peer closes.
    pub async fn closed(&self, limit: Duration) {
        eventually("connection closed by the peer", limit, || async { self.is_closed().then_some(()) }).await;
    }
}

impl Drop for H1 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
