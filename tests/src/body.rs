//! Bodies of requests and answers.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tokio::sync::mpsc;

/// Any body.
pub type AnyBody = UnsyncBoxBody<Bytes, io::Error>;

/// No bytes.
pub fn empty() -> AnyBody {
    full(Bytes::new())
}

/// All bytes at once, so that HTTP/1.1 frames it by `Content-Length`.
pub fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that a test feeds piece by piece; dropping the feeder ends it.
pub fn channel() -> (Feeder, AnyBody) {
    let (tx, rx) = mpsc::channel(1);
    (Feeder { tx }, Channel { rx }.boxed_unsync())
}

/// Feeds a body.
#[derive(Debug)]
pub struct Feeder {
    tx: mpsc::Sender<io::Result<Frame<Bytes>>>,
}

impl Feeder {
    /// One piece; false: nobody reads any more. Waits while the reader is behind by one piece.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> bool {
        self.tx.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Trailers end the body.
    pub async fn trailers(self, trailers: HeaderMap) {
        let _ = self.tx.send(Ok(Frame::trailers(trailers))).await;
    }

    /// Breaks the body off.
    pub async fn fail(self) {
        let _ = self.tx.send(Err(io::Error::other("scripted failure"))).await;
    }
}

struct Channel {
    rx: mpsc::Receiver<io::Result<Frame<Bytes>>>,
}

impl Body for Channel {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.rx.poll_recv(cx)
    }
}
