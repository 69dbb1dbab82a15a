//! Reading from a socket into a buffer that is only there while there is something to read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::net::TcpStream;

/// Room made for one read. A head fits; a body comes in pieces that are worth a system call.
const READ: usize = 16 << 10;

/// Reads once. The buffer is allocated after the socket turned readable, so an idle connection holds none. 0: end.
pub(crate) fn poll_fill(io: &mut TcpStream, buf: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    ready!(io.poll_read_ready(cx))?;
    if buf.capacity() - buf.len() < READ / 4 {
        buf.reserve(READ);
    }
    tokio_util::io::poll_read_buf(Pin::new(io), cx, buf)
}
