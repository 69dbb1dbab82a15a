//! Clients: well-behaved ones by hyper, and a raw one that sends what it is told.

pub mod frames;
mod h1;
mod h2;
mod raw;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

pub use h1::H1;
pub use h2::H2;
pub use raw::{Raw, RawAnswer};

use crate::body::{self, AnyBody};

/// No well-behaved exchange of these tests takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Protocol of the answer.
    pub version: Version,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers, when there were any.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// Reads an answer to its end; an error: the body was cut off.
    pub async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
        let (parts, body) = response.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned();
        Ok(Answer {
            status: parts.status,
            version: parts.version,
            headers: parts.headers,
            body: collected.to_bytes(),
            trailers,
        })
    }

    /// A header's value; empty: absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// A header's value as a number.
    ///
    /// # Panics
    /// When it is absent or no number.
    pub fn number(&self, name: &str) -> i64 {
        self.header(name).parse().unwrap_or_else(|_| panic!("header {name} is no number: {self:?}"))
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `error` of the error body.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

/// A request in origin form for `host`.
pub fn request(method: &str, host: &str, path: &str, headers: &[(&str, &str)], body: AnyBody) -> Request<AnyBody> {
    let mut builder = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body).unwrap()
}

/// GET on a connection of its own.
pub async fn get(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(addr, "GET", path, headers, body::empty()).await
}

/// POST on a connection of its own.
pub async fn post(addr: SocketAddr, path: &str, headers: &[(&str, &str)], bytes: impl Into<Bytes>) -> Answer {
    send(addr, "POST", path, headers, body::full(bytes)).await
}

/// Any method on a connection of its own. A `host` header may be among `headers`.
pub async fn send(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: AnyBody) -> Answer {
    try_send(addr, method, path, headers, body)
        .await
        .unwrap_or_else(|e| panic!("{method} {path} to {addr} failed: {e}"))
}

/// As [`send`], with the failure as a value.
pub async fn try_send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: AnyBody,
) -> Result<Answer, String> {
    let host = headers.iter().find(|(n, _)| *n == "host").map_or("test.example", |(_, v)| v);
    let rest: Vec<_> = headers.iter().filter(|(n, _)| *n != "host").copied().collect();
    let mut connection = H1::try_connect(addr).await.map_err(|e| format!("connect: {e}"))?;
    connection.send(request(method, host, path, &rest, body)).await
}
