//! Which protocol a plain-text client speaks, found out under a timer.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use edgequota_ops::shutdown::Stage;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::client::Client;
use crate::{io::poll_fill, timer::Deadline};

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

fn judge(bytes: &[u8]) -> Option<Protocol> {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] != PREFACE[..common] {
        Some(Protocol::Http1)
    } else {
        (common == PREFACE.len()).then_some(Protocol::Http2)
    }
}

/// Reads until the protocol is known. `None`: the client hung up or was silent for `server.read_header_timeout`, or
/// the process is draining.
pub(crate) async fn sniff(io: &mut TcpStream, client: &Client) -> Option<(Protocol, BytesMut)> {
    let mut deadline = Deadline::after(client.worker.live().read_header_timeout);
    let mut draining = pin!(client.worker.stage.reached(Stage::Draining));
    let mut buf = BytesMut::new();
    let protocol = poll_fn(|cx| {
        loop {
            if !buf.is_empty()
                && let Some(protocol) = judge(&buf)
            {
                return Poll::Ready(Some(protocol));
            }
            match poll_fill(io, &mut buf, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if buf.is_empty() && draining.as_mut().poll(cx).is_ready() => return Poll::Ready(None),
                Poll::Pending => return deadline.poll(cx).map(|()| None),
            }
        }
    })
    .await?;
    Some((protocol, buf))
}

/// A socket whose first bytes were already read.
#[derive(Debug)]
pub(crate) struct Rewound {
    early: BytesMut,
    io: TcpStream,
}

impl Rewound {
    pub(crate) fn new(early: BytesMut, io: TcpStream) -> Rewound {
        Rewound { early, io }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..n]);
        self.early.advance(n);
        if self.early.is_empty() {
            self.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differing_byte_decides() {
        assert_eq!(judge(b"G"), Some(Protocol::Http1));
        assert_eq!(judge(b"PRI * HTTP/2.0\r\n"), None);
        assert_eq!(judge(b"PRI * HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(judge(b"PUT / HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(judge(&[PREFACE, b"more"].concat()), Some(Protocol::Http2));
    }
}
