//! The admin port as a client sees it.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;

pub async fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> Response<Bytes> {
    with_token(address, method, path, body, None).await
}

pub async fn with_token(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    token: Option<&str>,
) -> Response<Bytes> {
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "control")
        .header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

/// Status and JSON.
pub async fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    json(send(address, "GET", path, "").await)
}

pub async fn post(address: SocketAddr, path: &str, body: &str) -> (u16, Value) {
    json(send(address, "POST", path, body).await)
}

pub fn json(response: Response<Bytes>) -> (u16, Value) {
    let value =
        serde_json::from_slice(response.body()).unwrap_or_else(|error| panic!("{error}: {:?}", response.body()));
    (response.status().as_u16(), value)
}
