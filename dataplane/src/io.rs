//! Reading from a socket into a buffer that is only there while there is something to read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::net::TcpStream;

use crate::spare::{self, READ};

/// Reads once. The buffer is taken after the socket turned readable, so an idle connection holds none. 0: end.
pub(crate) fn poll_fill(io: &mut TcpStream, buf: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    ready!(io.poll_read_ready(cx))?;
    if buf.capacity() - buf.len() < READ / 4 {
        if buf.is_empty() {
            *buf = spare::read_buffer();
        } else {
            buf.reserve(READ);
        }
    }
    tokio_util::io::poll_read_buf(Pin::new(io), cx, buf)
}
