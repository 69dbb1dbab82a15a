//! Time limits around a connection of the admin port, and how it is told from outside that it is idle.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// Limits of one connection; None: no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For a whole request head, counted from its first byte (from the start for the first one), and again for its body.
    pub(super) read: Option<Duration>,
    /// Longest pause in which the client takes nothing of an answer.
    pub(super) write: Option<Duration>,
    /// Longest time between two requests.
    pub(super) idle: Option<Duration>,
}

/// Whether a request is being answered. Shared by the socket, the service and the table of connections.
#[derive(Debug, Default)]
pub(super) struct Activity {
    busy: AtomicBool,
    /// Answers that are complete.
    answered: AtomicU64,
}

impl Activity {
    pub(super) fn busy(&self) -> bool {
        self.busy.load(SeqCst)
    }
}

/// Held while a request is answered, by the body of the answer.
pub(super) struct Answering(Arc<Activity>);

impl Answering {
    pub(super) fn begin(activity: &Arc<Activity>) -> Answering {
        activity.busy.store(true, SeqCst);
        Answering(activity.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, SeqCst);
        self.0.busy.store(false, SeqCst);
    }
}

/// A socket with limits. While a request is answered, waiting for the client costs nothing: the handler has its own.
pub(super) struct Timed {
    stream: TcpStream,
    limits: Limits,
    activity: Arc<Activity>,
    /// The answer after which `read_by` was set; None: before the first request.
    after: Option<u64>,
    in_head: bool,
    read_by: Timer,
    write_by: Timer,
}

impl Timed {
    pub(super) fn new(stream: TcpStream, limits: Limits, activity: Arc<Activity>) -> Timed {
        Timed {
            stream,
            limits,
            activity,
            after: None,
            in_head: true,
            read_by: Timer::new(limits.read),
            write_by: Timer::new(None),
        }
    }

    /// A new wait between requests begins.
    fn notice_answers(&mut self) {
        let answered = self.activity.answered.load(SeqCst);
        if answered > 0 && self.after != Some(answered) {
            self.after = Some(answered);
            self.in_head = false;
            self.read_by = Timer::new(self.limits.idle);
        }
    }

    /// Wraps the outcome of a write: progress ends the stall, waiting begins or continues one.
    fn watch_write<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_by = Timer::new(None);
            return outcome;
        }
        if self.write_by.0.is_none() {
            self.write_by = Timer::new(self.limits.write);
        }
        ready!(self.write_by.poll(cx));
        Poll::Ready(Err(timed_out("the client does not read its answer")))
    }
}

impl AsyncRead for Timed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.activity.busy() {
            return outcome;
        }
        this.notice_answers();
        if outcome.is_ready() {
            if buf.filled().len() > before && !this.in_head {
                this.in_head = true;
                this.read_by = Timer::new(this.limits.read);
            }
            return outcome;
        }
        ready!(this.read_by.poll(cx));
        if this.in_head && this.after.is_some() {
            return Poll::Ready(Err(timed_out("the request did not arrive in time")));
        }
        // an idle connection ends as if the client had closed it
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Timed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch_write(outcome, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch_write(outcome, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.watch_write(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A moment, or never.
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn new(after: Option<Duration>) -> Timer {
        Timer(after.map(|after| Box::pin(sleep_until(Instant::now() + after))))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}
