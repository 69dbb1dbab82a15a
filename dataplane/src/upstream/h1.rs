//! One exchange over an HTTP/1 connection to a backend.

use std::{
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::{net::TcpStream, time::Instant};

use super::pool::{Permit, Pool};
use crate::{
    body::BodyError,
    h1::{
        Framing, HeadLimits,
        decode::{Decoded, Decoder},
        head::{HeadScan, ResponseHead, parse_response},
        send::{SendError, Sender, WaitsFor},
    },
    io::poll_fill,
    spare,
    timer::Deadline,
};

/// Informational answers before the real one; more is a broken backend.
const MAX_INFORMATIONAL: usize = 16;

/// A connection to a backend.
#[derive(Debug)]
pub(crate) struct H1Conn {
    io: TcpStream,
    buf: BytesMut,
    /// For the answer of the moment: one timer a connection.
    deadline: Deadline,
    pub(super) address: SocketAddr,
    pub(super) born: Instant,
    pub(super) idle_since: Instant,
    /// Whether an exchange was completed on it before: the backend may have closed it meanwhile.
    pub(crate) reused: bool,
    _permit: Permit,
}

impl H1Conn {
    pub(super) fn new(io: TcpStream, address: SocketAddr, permit: Permit) -> H1Conn {
        let now = Instant::now();
        H1Conn {
            io,
            buf: BytesMut::new(),
            deadline: Deadline::default(),
            address,
            born: now,
            idle_since: now,
            reused: false,
            _permit: permit,
        }
    }

    /// Whether an idle connection may be used: nothing to read, neither bytes nor an end.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        self.buf.is_empty()
            && matches!(self.io.try_read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    }
}

/// Times of one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// `backend.timeout`.
    pub(crate) answer: Option<Duration>,
    /// `transport.expect_continue_timeout`; the body waits for `100 Continue` only when the sender is held.
    pub(crate) proceed: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection broke. `silent`: nothing at all came back on it.
    Broke { why: String, silent: bool },
    /// `backend.timeout`.
    TimedOut,
    /// What came back is not HTTP.
    Malformed(String),
    /// The request body failed.
    Client(BodyError),
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) head: ResponseHead,
    conn: H1Conn,
    uploading: bool,
    reusable: bool,
}

/// Sends the request and reads the head of the answer, both at once: a backend may answer before it has read all.
pub(crate) async fn exchange(
    mut conn: H1Conn,
    upload: &mut Sender,
    method: &Method,
    patience: Patience,
) -> Result<Answered, Failure> {
    conn.deadline.set_at(None);
    let mut state = Waiting {
        uploading: true,
        upload_failed: None,
        written: u64::MAX,
        informational: 0,
        scan: HeadScan::default(),
        proceed: Deadline::after(upload.is_held().then_some(patience.proceed).flatten()),
    };
    let head = poll_fn(|cx| state.poll(cx, &mut conn, upload, method, patience)).await?;
    // Both sides talk now: how long the client thinks about its next piece is between the two of them.
    upload.body_mut().answer_began();
    let reusable = head.keep_alive && state.upload_failed.is_none() && !upload.is_held();
    Ok(Answered { head, conn, uploading: state.uploading, reusable })
}

/// Waiting for the head of an answer.
struct Waiting {
    uploading: bool,
    upload_failed: Option<String>,
    written: u64,
    informational: usize,
    scan: HeadScan,
    proceed: Deadline,
}

impl Waiting {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut H1Conn,
        upload: &mut Sender,
        method: &Method,
        patience: Patience,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            if self.uploading {
                self.poll_upload(cx, conn, upload, patience)?;
            }
            match self.poll_head(cx, conn, upload, method) {
                Poll::Ready(result) => return Poll::Ready(result),
                Poll::Pending if upload.is_held() && self.proceed.poll(cx).is_ready() => upload.release(),
                Poll::Pending => return conn.deadline.poll(cx).map(|()| Err(Failure::TimedOut)),
            }
        }
    }

    /// The backend's time runs from the last byte of the request, and while it does not read what we have for it.
    fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut H1Conn,
        upload: &mut Sender,
        patience: Patience,
    ) -> Result<(), Failure> {
        match upload.poll(cx, &mut conn.io) {
            Poll::Ready(Ok(())) => {
                self.uploading = false;
                conn.deadline.set(patience.answer);
            }
            // It may have answered and closed without reading on: the answer, if any, is what counts.
            Poll::Ready(Err(SendError::Io(error))) => {
                self.uploading = false;
                self.upload_failed = Some(error.to_string());
                conn.deadline.set(patience.answer);
            }
            Poll::Ready(Err(SendError::Body(error))) => return Err(Failure::Client(error)),
            Poll::Ready(Err(SendError::Length)) => {
                return Err(Failure::Client(BodyError::ClientMalformed(
                    "it is not as long as its Content-Length says",
                )));
            }
            Poll::Pending => match upload.waits_for() {
                WaitsFor::Body => {
                    self.written = u64::MAX;
                    conn.deadline.set(None);
                }
                WaitsFor::Socket if upload.written() != self.written => {
                    self.written = upload.written();
                    conn.deadline.set(patience.answer);
                }
                WaitsFor::Socket => {}
            },
        }
        Ok(())
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut H1Conn,
        upload: &mut Sender,
        method: &Method,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            match self.scan.find(&conn.buf, HeadLimits::ANSWER) {
                Err(error) => return Poll::Ready(Err(Failure::Malformed(error.to_string()))),
                Ok(None) => {}
                Ok(Some(end)) => {
                    let bytes = conn.buf.split_to(end).freeze();
                    self.scan = HeadScan::default();
                    let head = parse_response(&bytes, method).map_err(|e| Failure::Malformed(e.to_string()))?;
                    if !head.status.is_informational() {
                        return Poll::Ready(Ok(head));
                    }
                    self.informational += 1;
                    if head.status == StatusCode::SWITCHING_PROTOCOLS || self.informational > MAX_INFORMATIONAL {
                        return Poll::Ready(Err(Failure::Malformed(format!("an unexpected {}", head.status))));
                    }
                    if head.status == StatusCode::CONTINUE && upload.is_held() {
                        upload.release();
                        // The released body is sent by the caller's next turn.
                        cx.waker().wake_by_ref();
                    }
                    continue;
                }
            }
            let came = match poll_fill(&mut conn.io, &mut conn.buf, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(came) => came,
            };
            let why = match came {
                Ok(0) => "the connection was closed before the answer".to_owned(),
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            let silent = conn.buf.is_empty() && self.informational == 0;
            let why = self.upload_failed.take().unwrap_or(why);
            return Poll::Ready(Err(Failure::Broke { why, silent }));
        }
    }
}

impl Answered {
    /// Splits into what the client's side needs.
    pub(crate) fn into_parts(self, pool: Rc<Pool>, upload: Sender) -> (ResponseHead, AnswerBody) {
        let decoder = Decoder::new(self.head.framing);
        let mut body = AnswerBody {
            conn: Some(self.conn),
            decoder,
            upload: self.uploading.then(|| Box::new(upload)),
            reusable: self.reusable,
            pool,
        };
        if body.decoder.is_done() && body.upload.is_none() {
            body.release();
        }
        (self.head, body)
    }
}

/// The body of an answer. Carries the rest of the request body along, so both directions flow in one task; hands the
/// connection back to the pool at its end, and closes it when it is dropped before.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    conn: Option<H1Conn>,
    decoder: Decoder,
    upload: Option<Box<Sender>>,
    reusable: bool,
    pool: Rc<Pool>,
}

impl AnswerBody {
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.decoder {
            Decoder::Done => SizeHint::with_exact(0),
            Decoder::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }

    /// Nothing is left to come, and the connection has moved on.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.conn.is_none()
    }

    fn release(&mut self) {
        self.upload = None;
        if let Some(mut conn) = self.conn.take()
            && self.reusable
            && conn.buf.is_empty()
        {
            spare::keep_read_buffer(std::mem::take(&mut conn.buf));
            conn.reused = true;
            self.pool.give_back(conn);
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(conn) = &mut self.conn else { return Poll::Ready(None) };
        if let Some(upload) = &mut self.upload {
            match upload.poll(cx, &mut conn.io) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.upload = None,
                // The backend has stopped reading: its answer is what counts.
                Poll::Ready(Err(SendError::Io(_))) => {
                    self.upload = None;
                    self.reusable = false;
                }
                // The request is broken, and the backend may wait for the rest of it for ever.
                Poll::Ready(Err(error)) => return self.fail(error.to_string()),
            }
        }
        let frame = loop {
            match self.decoder.step(&mut conn.buf) {
                Ok(Decoded::Data(data)) => break Some(Frame::data(data)),
                Ok(Decoded::Trailers(trailers)) => break Some(Frame::trailers(trailers)),
                Ok(Decoded::End) => break None,
                Err(malformed) => return self.fail(malformed.0.to_owned()),
                Ok(Decoded::NeedMore) => match poll_fill(&mut conn.io, &mut conn.buf, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0)) if matches!(self.decoder, Decoder::UntilClose) => {
                        self.decoder = Decoder::Done;
                        break None;
                    }
                    Poll::Ready(Ok(0)) => {
                        return self.fail("the connection was closed before the end of the answer".to_owned());
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return self.fail(error.to_string()),
                },
            }
        };
        // An answer that is over while its request is still on the way ends the connection: nobody reads the rest.
        if self.decoder.is_done() {
            if self.upload.is_some() {
                self.reusable = false;
            }
            self.release();
        }
        Poll::Ready(frame.map(Ok))
    }

    fn fail(&mut self, why: String) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.conn = None;
        self.upload = None;
        Poll::Ready(Some(Err(BodyError::Backend(why))))
    }
}

/// Framing for a request body whose length is or is not known.
pub(crate) fn upload_framing(body: &crate::body::Body) -> Framing {
    use http_body::Body as _;
    match body.size_hint().exact() {
        Some(0) => Framing::None,
        Some(n) => Framing::Length(n),
        None => Framing::Chunked,
    }
}
