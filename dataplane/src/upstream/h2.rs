//! HTTP/2 connections to backends, shared by the requests of one worker.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use edgequota_policy::Backend;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::Instant};

use super::{UpstreamError, is_idempotent, pool::Permit};
use crate::{
    body::{Body, BodyError},
    timer::Deadline,
};

/// Streams that we open on one connection before we open another. Servers usually allow 100 or more; what a server
/// allows less than that makes a request wait for a free stream.
const MAX_STREAMS: usize = 100;
/// Windows of the answers: of one stream, and of a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of one request that wait for the backend's window.
const SEND_BUFFER: usize = 64 << 10;
/// Header bytes of an answer.
const MAX_HEADER_LIST: u32 = 256 << 10;

/// A connection.
#[derive(Debug)]
pub(crate) struct H2Conn {
    send: SendRequest<Upload>,
    pub(super) address: SocketAddr,
    pub(super) born: Instant,
    streams: Rc<Streams>,
    /// An answer came on it: it worked once, and may have been closed since.
    served: Cell<bool>,
    _permit: Permit,
}

#[derive(Debug)]
struct Streams {
    open: Cell<usize>,
    idle_since: Cell<Instant>,
}

/// Tasks of a connection stay on their worker.
#[derive(Clone, Copy, Debug)]
struct OnThisWorker;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisWorker {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

impl H2Conn {
    pub(super) async fn open(
        io: TcpStream,
        address: SocketAddr,
        backend: &Backend,
        permit: Permit,
    ) -> Result<H2Conn, UpstreamError> {
        let mut builder = http2::Builder::new(OnThisWorker);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEADER_LIST)
            .keep_alive_interval(backend.h2_read_idle_timeout);
        if let Some(limit) = backend.h2_ping_timeout {
            builder.keep_alive_timeout(limit);
        }
        let unavailable = |why: String| UpstreamError::Unavailable { backend: backend.name.to_string(), why };
        let (send, connection) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(|e| unavailable(format!("the HTTP/2 handshake failed: {e}")))?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "a connection to a backend ended");
            }
        });
        let now = Instant::now();
        let streams = Rc::new(Streams { open: Cell::new(0), idle_since: Cell::new(now) });
        Ok(H2Conn { send, address, born: now, streams, served: Cell::new(false), _permit: permit })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.send.is_closed()
    }

    pub(super) fn has_room(&self) -> bool {
        self.streams.open.get() < MAX_STREAMS
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.open.get()
    }

    pub(super) fn idle_since(&self) -> Instant {
        self.streams.idle_since.get()
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn exchange(
        self: &Rc<Self>,
        request: Request<Body>,
        patience: Option<Duration>,
    ) -> Result<Response<AnswerH2>, Failure> {
        let stream = Stream::open(self);
        let progress = Rc::new(Progress::default());
        let empty = request.body().is_empty();
        let may_repeat = empty && self.served.get() && is_idempotent(request.method());
        let (parts, body) = request.into_parts();
        progress.done.set(empty);
        let request = Request::from_parts(parts, Upload { body, progress: Rc::clone(&progress) });
        let mut send = self.send.clone();
        let mut deadline = Deadline::after(patience);
        let mut answering = std::pin::pin!(send.try_send_request(request));
        let mut seen = progress.moved.get();
        let answer = poll_fn(|cx| {
            progress.watch(cx.waker());
            if let Poll::Ready(answer) = answering.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            // The backend's time runs once the request is sent, and while it takes nothing of what we have for it.
            if progress.waits_for_client.get() {
                deadline.set(None);
                seen = u64::MAX;
            } else if progress.moved.get() != seen {
                seen = progress.moved.get();
                deadline.set(patience);
            }
            deadline.poll(cx).map(|()| None)
        })
        .await;
        match answer {
            None => Err(Failure::TimedOut),
            Some(Ok(answer)) => {
                progress.exempt.set(true);
                self.served.set(true);
                Ok(answer.map(|body| AnswerH2 { body, _stream: stream }))
            }
            Some(Err(mut error)) => {
                if let Some(client) = progress.failed.take() {
                    return Err(Failure::Client(client));
                }
                let unsent = error.take_message().is_some_and(|request| request.into_body().body.is_empty());
                let retry = empty && (unsent || was_refused(error.error()));
                let lost = may_repeat && !was_reset(error.error());
                Err(Failure::Broke { why: describe(error.error()), retry: retry || lost })
            }
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// `retry`: the backend certainly did not work on it.
    Broke {
        why: String,
        retry: bool,
    },
    TimedOut,
    Client(BodyError),
}

fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// REFUSED_STREAM, or a GOAWAY that leaves this stream out: RFC 9113 section 8.7 says that it was not processed.
fn was_refused(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<h2::Error>());
    source.is_some_and(|e| {
        e.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (e.is_go_away() && e.is_remote() && e.reason() == Some(h2::Reason::NO_ERROR))
    })
}

/// The backend ended this stream by itself: it has seen the request.
fn was_reset(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<h2::Error>());
    source.is_some_and(h2::Error::is_reset)
}

/// Counts one stream.
#[derive(Debug)]
struct Stream {
    streams: Rc<Streams>,
    /// A connection that left the pool lives as long as its streams.
    _conn: Rc<H2Conn>,
}

impl Stream {
    fn open(conn: &Rc<H2Conn>) -> Stream {
        conn.streams.open.set(conn.streams.open.get() + 1);
        Stream { streams: Rc::clone(&conn.streams), _conn: Rc::clone(conn) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.open.set(self.streams.open.get() - 1);
        self.streams.idle_since.set(Instant::now());
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct AnswerH2 {
    body: hyper::body::Incoming,
    _stream: Stream,
}

impl AnswerH2 {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(|e| BodyError::Backend(describe(&e)))))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the task that waits for the answer knows of the task that sends the request.
#[derive(Debug, Default)]
struct Progress {
    done: Cell<bool>,
    moved: Cell<u64>,
    waits_for_client: Cell<bool>,
    exempt: Cell<bool>,
    failed: RefCell<Option<BodyError>>,
    waiter: RefCell<Option<Waker>>,
}

impl Progress {
    fn watch(&self, waker: &Waker) {
        let mut waiter = self.waiter.borrow_mut();
        if !waiter.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *waiter = Some(waker.clone());
        }
    }

    fn tell(&self, waits_for_client: bool) {
        let before = self.waits_for_client.replace(waits_for_client);
        self.moved.set(self.moved.get() + 1);
        if (before != waits_for_client || self.done.get())
            && let Some(waiter) = &*self.waiter.borrow()
        {
            waiter.wake_by_ref();
        }
    }
}

/// A request body that reports how it gets on.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Body,
    progress: Rc<Progress>,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.progress.exempt.get() {
            this.body.answer_began();
        }
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        match &frame {
            Poll::Pending => this.progress.tell(true),
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => this.progress.tell(false),
            Poll::Ready(_) => {
                this.progress.done.set(true);
                this.progress.tell(false);
            }
        }
        match frame {
            Poll::Ready(Some(Err(error))) => {
                *this.progress.failed.borrow_mut() = Some(error);
                Poll::Ready(Some(Err(BodyError::ClientGone)))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
