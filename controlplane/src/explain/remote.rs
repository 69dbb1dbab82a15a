//! Asks a control plane over its admin port.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::ExplainError;
use crate::effective::{Described, answer::Answer};

const PATIENCE: Duration = Duration::from_secs(10);
const MOST_ANSWER: usize = 4 << 20;

/// Asks the control plane at `url` (`http://host:9090`, its admin port) which limits the request meets. Gives up after
/// 10 s.
pub async fn ask(url: &str, described: &Described) -> Result<Answer, ExplainError> {
    let bad = || ExplainError::Url(url.to_owned());
    let text = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = text.parse().map_err(|_| bad())?;
    if uri.scheme_str() != Some("http") {
        return Err(bad());
    }
    let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(bad)?;
    let port = uri.port_u16().unwrap_or(9090);
    let address = format!("{host}:{port}");
    let unreachable = |reason: String| ExplainError::Unreachable { address: address.clone(), reason };
    match tokio::time::timeout(PATIENCE, exchange(&address, described)).await {
        Err(_) => Err(unreachable(format!("no answer within {PATIENCE:?}"))),
        Ok(Err(Failed::Transport(reason))) => Err(unreachable(reason)),
        Ok(Err(Failed::Explain(error))) => Err(error),
        Ok(Ok(answer)) => Ok(answer),
    }
}

enum Failed {
    Transport(String),
    Explain(ExplainError),
}

async fn exchange(address: &str, described: &Described) -> Result<Answer, Failed> {
    let transport = |error: &dyn std::fmt::Display| Failed::Transport(error.to_string());
    let tcp = TcpStream::connect(address).await.map_err(|e| transport(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(|e| transport(&e))?;
    // Ends with the sender.
    let driving = tokio::spawn(connection);
    let body = serde_json::to_vec(described).map_err(|e| transport(&e))?;
    let request = Request::post("/v1/limits/effective")
        .header(header::HOST, address)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| transport(&e))?;
    let response = sender.send_request(request).await.map_err(|e| transport(&e))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MOST_ANSWER).collect().await.map_err(|e| transport(&e))?.to_bytes();
    driving.abort();
    if !status.is_success() {
        let message = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let message = message.and_then(|m| m.get("message")?.as_str().map(str::to_owned));
        let message = message.unwrap_or_else(|| "is this the admin port of a control plane?".to_owned());
        return Err(Failed::Explain(ExplainError::Refused { status: status.as_u16(), message }));
    }
    serde_json::from_slice(&body).map_err(|error| Failed::Explain(ExplainError::Answer(error.to_string())))
}
