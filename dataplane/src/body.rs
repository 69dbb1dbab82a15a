//! One body type for every way in and out, so that the pipeline and both senders are written once.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use crate::{
    h1::conn::RequestBody,
    listen::h2::H2Body,
    timer::Deadline,
    upstream::{h1::AnswerBody, h2::AnswerH2},
};

/// Why a body ended before its end, and at whose hands.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the client went away")]
    ClientGone,
    #[error("the client paused or dripped for longer than server.read_timeout")]
    ClientSlow,
    #[error("the request body is malformed: {0}")]
    ClientMalformed(&'static str),
    #[error("the request body is larger than the {most} bytes allowed")]
    TooLarge { most: u64 },
    #[error("the request took longer than server.request_timeout")]
    RequestTimeout,
    #[error("the backend broke off: {0}")]
    Backend(String),
}

/// A message body.
#[derive(Debug, Default)]
pub(crate) struct Body {
    kind: Kind,
    /// Bytes that may come in all, and that came; `None`: any number.
    allowance: Option<(u64, u64)>,
    /// `server.request_timeout`.
    deadline: Option<Box<Deadline>>,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    FromH1(RequestBody),
    FromH2(H2Body),
    AnswerH1(Box<AnswerBody>),
    AnswerH2(AnswerH2),
}

impl Body {
    pub(crate) fn full(bytes: Bytes) -> Body {
        Kind::Full(bytes).into()
    }

    pub(crate) fn h1(body: RequestBody) -> Body {
        Kind::FromH1(body).into()
    }

    pub(crate) fn h2(body: H2Body) -> Body {
        Kind::FromH2(body).into()
    }

    pub(crate) fn answer_h1(body: AnswerBody) -> Body {
        Kind::AnswerH1(Box::new(body)).into()
    }

    pub(crate) fn answer_h2(body: AnswerH2) -> Body {
        Kind::AnswerH2(body).into()
    }

    /// At most `most` bytes may come; one more is [`BodyError::TooLarge`].
    pub(crate) fn at_most(mut self, most: Option<u64>) -> Body {
        self.allowance = most.map(|most| (most, 0));
        self
    }

    /// What has not come by then is [`BodyError::RequestTimeout`].
    pub(crate) fn until(mut self, at: Option<Instant>) -> Body {
        self.deadline = at.map(|at| {
            let mut deadline = Deadline::default();
            deadline.set_at(Some(at));
            Box::new(deadline)
        });
        self
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::FromH1(body) => body.poll_frame(cx),
            Kind::FromH2(body) => body.poll_frame(cx),
            Kind::AnswerH1(body) => body.poll_frame(cx),
            Kind::AnswerH2(body) => body.poll_frame(cx),
        }
    }

    /// Whether nothing at all will come.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.kind, Kind::Empty)
    }

    /// From here on a pause of the client is its own affair: the answer has begun.
    pub(crate) fn answer_began(&mut self) {
        match &mut self.kind {
            Kind::FromH1(body) => body.never_slow(),
            Kind::FromH2(body) => body.never_slow(),
            _ => {}
        }
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Body {
        Body { kind, allowance: None, deadline: None }
    }
}

/// RFC 9110 section 6.5.1: what frames, routes or authenticates a message cannot come after it.
const MAY_NOT_TRAIL: [HeaderName; 8] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::HOST,
    header::TRAILER,
    header::TE,
    header::AUTHORIZATION,
    header::UPGRADE,
];

fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            for name in &MAY_NOT_TRAIL {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        // Before the body: one that never has to be waited for has to end in time too.
        if let Some(deadline) = &mut this.deadline
            && deadline.poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(BodyError::RequestTimeout)));
        }
        let frame = ready!(this.poll_kind(cx)).map(|frame| frame.map(without_forbidden_trailers));
        if let (Some((most, came)), Some(Ok(frame))) = (&mut this.allowance, &frame)
            && let Some(data) = frame.data_ref()
        {
            *came += data.len() as u64;
            if *came > *most {
                return Poll::Ready(Some(Err(BodyError::TooLarge { most: *most })));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::FromH2(body) => body.is_end_stream(),
            Kind::AnswerH2(body) => body.is_end_stream(),
            Kind::AnswerH1(body) => body.is_end_stream(),
            // Trailers may follow the last byte.
            Kind::FromH1(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::FromH1(body) => body.size_hint(),
            Kind::FromH2(body) => body.size_hint(),
            Kind::AnswerH1(body) => body.size_hint(),
            Kind::AnswerH2(body) => body.size_hint(),
        }
    }
}
