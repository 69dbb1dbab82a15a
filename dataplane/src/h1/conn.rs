//! What one client connection holds, and the request body that reads from it.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use socket2::SockRef;
use tokio::{io::AsyncWrite, net::TcpStream};

use super::decode::{Decoded, Decoder};
use crate::{body::BodyError, io::poll_fill, listen::pace::Pace, spare, timer::Deadline};

/// Bytes of an unread body that are thrown away so that the client sees its answer.
pub(crate) const DISCARD_BYTES: usize = 64 << 10;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(1);
/// A lingering close ends after this much silence, and after this long in all.
const LINGER_SILENCE: Duration = Duration::from_secs(1);
const LINGER_TIME: Duration = Duration::from_secs(5);
/// Pipelined bytes that are taken in while an answer is under way.
const READ_AHEAD: usize = 16 << 10;
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the connection task and the request body of the moment share. Each borrows it within one poll only.
#[derive(Debug)]
pub(crate) struct Conn {
    /// `None` once the connection is over, whoever still holds a body of it.
    io: Option<TcpStream>,
    pub(super) buf: BytesMut,
    pub(super) decoder: Decoder,
    /// What is still to be written of `100 Continue`; `None`: the client does not wait for it.
    pub(super) owed: Option<&'static [u8]>,
    /// Which request the connection is at. A body of an earlier one, which a backend's HTTP/2 connection may still
    /// hold, must never read the bytes of a later one.
    turn: u64,
    /// Whoever waits for more of the body.
    reader: Option<Waker>,
}

impl Conn {
    pub(super) fn new(io: TcpStream, early: BytesMut) -> Conn {
        Conn { io: Some(io), buf: early, decoder: Decoder::Done, owed: None, turn: 0, reader: None }
    }

    /// Reads once. 0: the end, also when the connection is already over.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Some(io) => poll_fill(io, &mut self.buf, cx),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// Gives an empty buffer back to the worker.
    pub(super) fn release_buffer(&mut self) {
        spare::keep_read_buffer(std::mem::take(&mut self.buf));
    }

    pub(super) fn io(&mut self) -> io::Result<&mut TcpStream> {
        self.io.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    /// The request's answer is sent, or will never be: its body is nobody's any more. Whoever still holds it is told.
    pub(super) fn revoke_body(&mut self) {
        self.turn += 1;
        self.owed = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Closes the socket, also when a body that somebody holds keeps the rest alive.
    pub(super) fn close(&mut self) {
        self.revoke_body();
        self.io = None;
    }

    /// Makes the close a reset.
    pub(super) fn reset_on_close(&self) {
        if let Some(io) = &self.io {
            // At worst the close is an orderly one.
            let _ = SockRef::from(io).set_linger(Some(Duration::ZERO));
        }
    }

    /// Whether bytes have arrived that the event loop has not told us of yet.
    pub(super) fn has_unseen_bytes(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        self.io.as_ref().is_some_and(|io| SockRef::from(io).peek(&mut byte).is_ok_and(|n| n > 0))
    }

    /// Writes the `100 Continue` that the client waits for.
    fn poll_proceed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.owed {
            let n = ready!(Pin::new(self.io()?).poll_write(cx, rest))?;
            self.owed = rest.get(n..).filter(|rest| !rest.is_empty());
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the client hung up while its answer is being made. Reads ahead, within a bound.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        // Until the body is at its end, whoever reads the body notices.
        while self.decoder.is_done() && self.buf.len() < READ_AHEAD {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return false,
            }
        }
        false
    }
}

/// Reads the rest of a body that nobody wanted, within bounds. False: there is more than that.
pub(super) async fn discard(conn: &RefCell<Conn>) -> bool {
    if conn.borrow().decoder.is_done() {
        return true;
    }
    let mut deadline = Deadline::after(Some(DISCARD_TIME));
    let mut left = DISCARD_BYTES;
    poll_fn(|cx| {
        let conn = &mut *conn.borrow_mut();
        loop {
            match conn.decoder.step(&mut conn.buf) {
                Ok(Decoded::End | Decoded::Trailers(_)) => return Poll::Ready(true),
                Ok(Decoded::Data(data)) => match left.checked_sub(data.len()) {
                    Some(rest) => left = rest,
                    None => return Poll::Ready(false),
                },
                Err(_) => return Poll::Ready(false),
                Ok(Decoded::NeedMore) => match conn.poll_fill(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return deadline.poll(cx).map(|()| false),
                },
            }
        }
    })
    .await
}

/// Closes so that the client can read the answer: a close with unread bytes would reset the connection, and with it
/// the answer.
pub(super) async fn linger(conn: &RefCell<Conn>) {
    let mut silence = Deadline::after(Some(LINGER_SILENCE));
    let mut all = Deadline::after(Some(LINGER_TIME));
    let mut shut = false;
    poll_fn(|cx| {
        let conn = &mut *conn.borrow_mut();
        if all.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while !shut {
            let Ok(io) = conn.io() else { return Poll::Ready(()) };
            match Pin::new(io).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return silence.poll(cx),
            }
        }
        loop {
            conn.buf.clear();
            match conn.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => silence.set(Some(LINGER_SILENCE)),
                Poll::Pending => return silence.poll(cx),
            }
        }
    })
    .await;
}

/// The body of the request that a connection is at. Reads from the connection when it is polled and not before, so
/// a slow backend slows the client down.
#[derive(Debug)]
pub(crate) struct RequestBody {
    conn: Rc<RefCell<Conn>>,
    turn: u64,
    pace: Pace,
    ended: bool,
}

impl RequestBody {
    pub(super) fn new(conn: Rc<RefCell<Conn>>, pace: Pace) -> RequestBody {
        let turn = conn.borrow().turn;
        RequestBody { conn, turn, pace, ended: false }
    }

    pub(crate) fn never_slow(&mut self) {
        self.pace.exempt();
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let conn = self.conn.borrow();
        match conn.decoder {
            _ if conn.turn != self.turn => SizeHint::default(),
            Decoder::Length(left) => SizeHint::with_exact(left),
            Decoder::Done => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let conn = &mut *self.conn.borrow_mut();
        if conn.turn != self.turn {
            self.ended = true;
            return Poll::Ready(Some(Err(BodyError::ClientGone)));
        }
        if ready!(conn.poll_proceed(cx)).is_err() {
            return Poll::Ready(Some(Err(BodyError::ClientGone)));
        }
        loop {
            match conn.decoder.step(&mut conn.buf) {
                Ok(Decoded::Data(data)) => {
                    let kept = self.pace.progress(data.len());
                    return Poll::Ready(Some(kept.map(|()| Frame::data(data)).map_err(|_| BodyError::ClientSlow)));
                }
                Ok(Decoded::Trailers(trailers)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Decoded::End) => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Err(malformed) => return Poll::Ready(Some(Err(BodyError::ClientMalformed(malformed.0)))),
                Ok(Decoded::NeedMore) => match conn.poll_fill(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Err(BodyError::ClientGone))),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        if !conn.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                            conn.reader = Some(cx.waker().clone());
                        }
                        return self.pace.poll_wait(cx).map(|_| Some(Err(BodyError::ClientSlow)));
                    }
                },
            }
        }
    }
}
