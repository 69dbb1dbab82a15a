//! HTTP/1.1 on the wire, the same code towards clients and backends.
//!
//! Ours rather than a library's, for two reasons. A proxy must refuse what two parsers could read differently (bare
//! LF, folded lines, both framings at once) and must answer in its own words, which takes sight of the raw head. And
//! forwarding is what this product is for: request and response run in one task over two sockets, with no channel,
//! no second task and no copy between them.

pub(crate) mod conn;
pub(crate) mod decode;
pub(crate) mod head;
pub(crate) mod send;
pub(crate) mod server;
pub(crate) mod write;

/// How the end of a message body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection closes (answers only).
    UntilClose,
}

/// Bounds of a head; the same numbers hold for HTTP/2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// `server.max_header_bytes`.
    pub(crate) max_bytes: usize,
    /// `server.max_headers`.
    pub(crate) max_headers: usize,
}

impl HeadLimits {
    /// What a backend's answer may hold.
    pub(crate) const ANSWER: HeadLimits = HeadLimits { max_bytes: 256 << 10, max_headers: 400 };
}
