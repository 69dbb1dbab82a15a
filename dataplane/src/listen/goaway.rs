//! The two GOAWAYs of a graceful end, kept apart.
//!
//! `h2` sends the first one (no last stream) together with a PING, and the final one as soon as the PING is answered.
//! Some peers, load balancers among them, go on opening streams after the first, and lose the ones that cross the
//! final one on the wire. While the process is leaving and still welcome to serve, the answer to that PING is kept
//! back, so that the final GOAWAY waits for the drain.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Length of the client's preface, which comes before the first frame.
const PREFACE: usize = 24;
/// Length of a frame's header (RFC 9113 section 4.1).
const HEADER: usize = 9;
/// Length of a PING frame.
const PING: usize = HEADER + 8;
/// The answer to the PING that `h2` sends with its first GOAWAY. Should `h2` choose another payload, the final
/// GOAWAY merely comes early again; the drain test notices.
const PONG: [u8; PING] = [0, 0, 8, 6, 1, 0, 0, 0, 0, 0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

/// Whether the final GOAWAY has to wait; shared by a connection's socket and its task.
#[derive(Debug, Default)]
pub(crate) struct FinalGoaway {
    waits: Cell<bool>,
    kept_back: Cell<bool>,
}

impl FinalGoaway {
    /// From here on it waits.
    pub(crate) fn hold(&self) {
        self.waits.set(true);
    }

    /// It may go; the connection must be polled once more.
    pub(crate) fn release(&self) {
        self.waits.set(false);
    }
}

/// A client's socket as `h2` reads it: first what was read while the protocol was found out, then the rest, but for
/// the one frame that may have to wait.
#[derive(Debug)]
pub(crate) struct H2Socket {
    early: BytesMut,
    io: TcpStream,
    frames: Frames,
    last: Rc<FinalGoaway>,
}

impl H2Socket {
    pub(crate) fn new(early: BytesMut, io: TcpStream, last: Rc<FinalGoaway>) -> H2Socket {
        H2Socket { early, io, frames: Frames::default(), last }
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let early = &mut self.early;
        if early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = early.len().min(buf.remaining());
        buf.put_slice(&early[..n]);
        early.advance(n);
        if early.is_empty() {
            *early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for H2Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.last.kept_back.get() && !this.last.waits.get() && this.frames.at_boundary() && buf.remaining() >= PING {
            this.last.kept_back.set(false);
            buf.put_slice(&PONG);
            return Poll::Ready(Ok(()));
        }
        loop {
            let start = buf.filled().len();
            ready!(this.poll_raw(cx, buf))?;
            let came = buf.filled().len();
            let kept = this.frames.walk(&mut buf.filled_mut()[start..], this.last.waits.get());
            if kept.took_out {
                this.last.kept_back.set(true);
            }
            buf.set_filled(start + kept.len);
            // Nothing left of what came is not the end of the stream.
            if kept.len > 0 || came == start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for H2Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Where in the sequence of frames we are.
#[derive(Debug)]
struct Frames {
    header: [u8; HEADER],
    have: usize,
    skip: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Frames { header: [0; HEADER], have: 0, skip: PREFACE }
    }
}

struct Kept {
    len: usize,
    took_out: bool,
}

impl Frames {
    fn at_boundary(&self) -> bool {
        self.have == 0 && self.skip == 0
    }

    /// Walks over what came. With `filter` the frame [`PONG`] is taken out where it came in one piece (it is 17
    /// bytes that the peer wrote at once).
    fn walk(&mut self, bytes: &mut [u8], filter: bool) -> Kept {
        let (mut at, mut len, mut took_out) = (0, bytes.len(), false);
        while at < len {
            if self.skip > 0 {
                let n = self.skip.min(len - at);
                self.skip -= n;
                at += n;
                continue;
            }
            if self.have == 0 && filter && bytes[at..len].starts_with(&PONG) {
                bytes.copy_within(at + PING..len, at);
                len -= PING;
                took_out = true;
                continue;
            }
            self.header[self.have] = bytes[at];
            self.have += 1;
            at += 1;
            if self.have == HEADER {
                self.have = 0;
                self.skip = usize::from(self.header[0]) << 16 | usize::from(self.header[1]) << 8 | usize::from(self.header[2]);
            }
        }
        Kept { len, took_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, u8::try_from(payload.len()).unwrap_or(0), kind, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn only_that_frame_is_kept_back() {
        // The same bytes inside another frame's payload stay.
        let wire = [&[b'x'; PREFACE][..], &frame(4, &[]), &frame(0, &PONG), &PONG, &frame(1, b"headers")].concat();
        let expected = [&[b'x'; PREFACE][..], &frame(4, &[]), &frame(0, &PONG), &frame(1, b"headers")].concat();
        let mut bytes = wire.clone();
        let kept = Frames::default().walk(&mut bytes, true);
        assert!(kept.took_out);
        assert_eq!(&bytes[..kept.len], &expected[..]);
        let mut bytes = wire.clone();
        let kept = Frames::default().walk(&mut bytes, false);
        assert!(!kept.took_out && bytes[..kept.len] == wire[..]);
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_are_cut() {
        let wire = [&[b'x'; PREFACE][..], &frame(4, &[1, 2, 3]), &frame(0, &PONG)].concat();
        for step in 1..wire.len() {
            let mut frames = Frames::default();
            for piece in wire.clone().chunks_mut(step) {
                let len = piece.len();
                assert_eq!(frames.walk(piece, false).len, len);
            }
            assert!(frames.at_boundary(), "step {step}");
        }
    }
}
