//! What one client connection holds, and the request body that reads from it.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::{io::AsyncWrite, net::TcpStream};

use super::decode::{Decoded, Decoder};
use crate::{body::BodyError, io::poll_fill, listen::pace::Pace, timer::Deadline};

/// Bytes of an unread body that are thrown away so that the client sees its answer.
pub(crate) const DISCARD_BYTES: usize = 64 << 10;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(1);
/// Pipelined bytes that are taken in while an answer is under way.
const READ_AHEAD: usize = 16 << 10;
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the connection task and the request body of the moment share. Each borrows it within one poll only.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(super) io: TcpStream,
    pub(super) buf: BytesMut,
    pub(super) decoder: Decoder,
    /// What is still to be written of `100 Continue`; `None`: the client does not wait for it.
    pub(super) owed: Option<&'static [u8]>,
}

impl Conn {
    pub(super) fn new(io: TcpStream, early: BytesMut) -> Conn {
        Conn { io, buf: early, decoder: Decoder::Done, owed: None }
    }

    /// Writes the `100 Continue` that the client waits for.
    fn poll_proceed(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while let Some(rest) = self.owed {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            self.owed = rest.get(n..).filter(|rest| !rest.is_empty());
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the client hung up while its answer is being made. Reads ahead, within a bound.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        // Until the body is at its end, whoever reads the body notices.
        while self.decoder.is_done() && self.buf.len() < READ_AHEAD {
            match poll_fill(&mut self.io, &mut self.buf, cx) {
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
                Ok(Decoded::NeedMore) => match poll_fill(&mut conn.io, &mut conn.buf, cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return deadline.poll(cx).map(|()| false),
                },
            }
        }
    })
    .await
}

/// Closes so that the client can read the answer: a close with unread bytes would reset the connection.
pub(super) async fn linger(conn: &RefCell<Conn>) {
    let mut deadline = Deadline::after(Some(DISCARD_TIME));
    let mut left = DISCARD_BYTES;
    let mut shut = false;
    poll_fn(|cx| {
        let conn = &mut *conn.borrow_mut();
        while !shut {
            match Pin::new(&mut conn.io).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return deadline.poll(cx),
            }
        }
        loop {
            conn.buf.clear();
            match poll_fill(&mut conn.io, &mut conn.buf, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(n)) => match left.checked_sub(n) {
                    Some(rest) => left = rest,
                    None => return Poll::Ready(()),
                },
                Poll::Pending => return deadline.poll(cx),
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
    pace: Pace,
    ended: bool,
}

impl RequestBody {
    pub(super) fn new(conn: Rc<RefCell<Conn>>, pace: Pace) -> RequestBody {
        RequestBody { conn, pace, ended: false }
    }

    pub(crate) fn never_slow(&mut self) {
        self.pace.exempt();
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.conn.borrow().decoder {
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
                Ok(Decoded::NeedMore) => match poll_fill(&mut conn.io, &mut conn.buf, cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Err(BodyError::ClientGone))),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return self.pace.poll_wait(cx).map(|_| Some(Err(BodyError::ClientSlow))),
                },
            }
        }
    }
}
