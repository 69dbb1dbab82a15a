//! Sends one message: head, body in the chosen framing, trailers. Used for answers and for requests alike.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body as _;
use tokio::{io::AsyncWrite, net::TcpStream};

use super::{Framing, write::write_line};
use crate::{
    body::{Body, BodyError},
    spare,
};

/// Why a message was not sent whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("writing failed: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the body is not as long as its Content-Length says")]
    Length,
}

/// Most bytes of a body that are copied behind a head.
const GATHERED: usize = 2 << 10;

/// What a pending send waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// The next piece of the body.
    Body,
    /// Room in the socket.
    Socket,
}

/// A message on its way out. Everything that is ready goes out in one system call: the head with the first piece
/// of the body, the last piece with the end of the framing.
#[derive(Debug)]
pub(crate) struct Sender {
    head: Vec<u8>,
    /// How much of `head` is out.
    head_sent: usize,
    data: Bytes,
    tail: Vec<u8>,
    tail_sent: usize,
    ahead: Option<Bytes>,
    body: Body,
    framing: Framing,
    left: u64,
    ended: bool,
    held: bool,
    /// Why the body broke off; told once what came before it is on its way.
    failed: Option<SendError>,
    waits_for: WaitsFor,
    body_bytes: u64,
    written: u64,
}

impl Sender {
    /// `head` is already serialised, with the header line that `framing` asks for.
    pub(crate) fn new(head: Vec<u8>, body: Body, framing: Framing) -> Sender {
        let left = if let Framing::Length(n) = framing { n } else { 0 };
        Sender {
            head,
            head_sent: 0,
            data: Bytes::new(),
            tail: Vec::new(),
            tail_sent: 0,
            ahead: None,
            body,
            framing,
            left,
            ended: framing == Framing::None,
            held: false,
            failed: None,
            waits_for: WaitsFor::Socket,
            body_bytes: 0,
            written: 0,
        }
    }

    /// From its first byte again: for a message without a body.
    pub(crate) fn again(&mut self) {
        self.head_sent = 0;
        self.failed = None;
    }

    /// Sends the head only, until [`Sender::release`].
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    pub(crate) fn release(&mut self) {
        self.held = false;
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    pub(crate) fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Bytes of the body handed to the socket so far.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Bytes written so far; grows with every progress.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// What the last pending [`Sender::poll`] waits for.
    pub(crate) fn waits_for(&self) -> WaitsFor {
        self.waits_for
    }

    /// Sends as much as can be sent. Ready: the whole message is in the socket.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, io: &mut TcpStream) -> Poll<Result<(), SendError>> {
        loop {
            ready!(self.poll_body(cx))?;
            if ready!(self.poll_socket(cx, io))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// First half of [`Sender::poll`]: ready when there is something to write or nothing left to come. Apart from
    /// the second half because the body may need the very socket that the message goes to.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if let Err(error) = self.fill(cx) {
            self.failed = Some(error);
            self.ended = true;
        }
        if self.ended || self.has_output() {
            return Poll::Ready(Ok(()));
        }
        self.waits_for = WaitsFor::Body;
        Poll::Pending
    }

    /// Second half: writes what is ready. True: that was all.
    pub(crate) fn poll_socket(&mut self, cx: &mut Context<'_>, io: &mut TcpStream) -> Poll<Result<bool, SendError>> {
        self.gather();
        while self.has_output() {
            self.waits_for = WaitsFor::Socket;
            let io = Pin::new(&mut *io);
            let n = if self.data.is_empty() && self.tail.is_empty() {
                ready!(io.poll_write(cx, &self.head[self.head_sent..]))?
            } else {
                let slices = [
                    IoSlice::new(&self.head[self.head_sent..]),
                    IoSlice::new(&self.data),
                    IoSlice::new(&self.tail[self.tail_sent..]),
                ];
                ready!(io.poll_write_vectored(cx, &slices))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.advance(n);
        }
        match self.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(self.ended)),
        }
    }

    /// Puts little pieces behind an unsent head: copying them is cheaper than handing the kernel a list.
    fn gather(&mut self) {
        if self.head_sent < self.head.len() && self.data.len() + self.tail.len() <= GATHERED && self.tail_sent == 0 {
            self.head.extend_from_slice(&self.data);
            self.head.extend_from_slice(&self.tail);
            self.data = Bytes::new();
            self.tail.clear();
        }
    }

    fn has_output(&self) -> bool {
        self.head_sent < self.head.len() || self.data.has_remaining() || self.tail_sent < self.tail.len()
    }

    /// Moves pieces of the body into the slots, looking one piece ahead so that the end of the framing travels with
    /// the last piece.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), SendError> {
        while !self.ended && !self.held {
            if self.data.has_remaining() || self.tail_sent < self.tail.len() {
                if self.ahead.is_none() {
                    self.body_ready(cx)?;
                }
                return Ok(());
            }
            match self.ahead.take() {
                Some(piece) => self.place(piece)?,
                None if self.body_ready(cx)? => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether the next piece (or the end) came.
    fn body_ready(&mut self, cx: &mut Context<'_>) -> Result<bool, SendError> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(None) => {
                    self.end(None)?;
                    return Ok(true);
                }
                Poll::Ready(Some(Err(e))) => return Err(e.into()),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.ahead = Some(data);
                        return Ok(true);
                    }
                    Err(frame) => {
                        self.end(frame.into_trailers().ok())?;
                        return Ok(true);
                    }
                },
            }
        }
    }

    fn place(&mut self, piece: Bytes) -> Result<(), SendError> {
        self.body_bytes += piece.len() as u64;
        if self.head_sent == self.head.len() {
            self.head.clear();
            self.head_sent = 0;
        }
        self.tail.clear();
        self.tail_sent = 0;
        match self.framing {
            Framing::Length(_) => {
                self.left = self.left.checked_sub(piece.len() as u64).ok_or(SendError::Length)?;
            }
            Framing::Chunked => {
                put_hex(&mut self.head, piece.len());
                self.tail.extend_from_slice(b"\r\n");
            }
            Framing::None | Framing::UntilClose => {}
        }
        self.data = piece;
        Ok(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), SendError> {
        self.ended = true;
        match self.framing {
            Framing::Length(_) if self.left > 0 => return Err(SendError::Length),
            Framing::Chunked => {
                self.tail.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.iter().flatten() {
                    write_line(&mut self.tail, name, value.as_bytes());
                }
                self.tail.extend_from_slice(b"\r\n");
            }
            _ => {}
        }
        Ok(())
    }

    fn advance(&mut self, mut n: usize) {
        self.written += n as u64;
        let head = n.min(self.head.len() - self.head_sent);
        self.head_sent += head;
        n -= head;
        let data = n.min(self.data.len());
        self.data.advance(data);
        n -= data;
        self.tail_sent += n.min(self.tail.len() - self.tail_sent);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        spare::keep_text(std::mem::take(&mut self.head));
    }
}

/// `HEX CRLF`.
fn put_hex(out: &mut Vec<u8>, n: usize) {
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut rest = n;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}
