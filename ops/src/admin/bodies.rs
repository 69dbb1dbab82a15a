//! Bodies with what the connection needs to know of them.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Incoming;

use super::timed::Answering;

/// An answer's body: the connection is busy until it is gone.
pub(super) struct Answered {
    body: Body,
    _answering: Answering,
}

impl Answered {
    pub(super) fn new(body: Body, answering: Answering) -> Answered {
        Answered { body, _answering: answering }
    }
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// A request body that must be complete within a time from when it is first asked for.
pub(super) struct BodyInTime {
    body: Incoming,
    limit: Option<Duration>,
    until: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl BodyInTime {
    pub(super) fn new(body: Incoming, limit: Option<Duration>) -> BodyInTime {
        BodyInTime { body, limit, until: None }
    }
}

impl HttpBody for BodyInTime {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        std::task::ready!(until.as_mut().poll(cx));
        Poll::Ready(Some(Err("the request body did not arrive within admin.read_timeout".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
