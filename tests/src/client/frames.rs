//! HTTP/2 frames by hand, for what a library would not send.

/// The client preface with empty SETTINGS.
pub const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Flag of DATA and HEADERS: nothing follows.
pub const END_STREAM: u8 = 1;
/// Flag of HEADERS: the header block is whole.
pub const END_HEADERS: u8 = 4;

/// Types of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// DATA.
    Data = 0,
    /// HEADERS.
    Headers = 1,
    /// RST_STREAM.
    Reset = 3,
    /// SETTINGS.
    Settings = 4,
    /// PING.
    Ping = 6,
    /// GOAWAY.
    GoAway = 7,
    /// WINDOW_UPDATE.
    WindowUpdate = 8,
    /// CONTINUATION.
    Continuation = 9,
}

/// One frame.
pub fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind as u8, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HEADERS of a whole request head, with these fields as they are: literals that are never indexed (RFC 7541, 6.2.3).
pub fn headers(stream: u32, fields: &[(&str, &str)], end: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend(text.as_bytes());
        }
    }
    frame(Kind::Headers, END_HEADERS | if end { END_STREAM } else { 0 }, stream, &block)
}

/// DATA.
pub fn data(stream: u32, bytes: &[u8], end: bool) -> Vec<u8> {
    frame(Kind::Data, if end { END_STREAM } else { 0 }, stream, bytes)
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1), no Huffman.
fn length(n: usize, into: &mut Vec<u8>) {
    if n < 127 {
        into.push(n as u8);
        return;
    }
    into.push(127);
    let mut rest = n - 127;
    while rest >= 128 {
        into.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    into.push(rest as u8);
}

/// A frame as received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Type, as on the wire.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream; 0: the connection.
    pub stream: u32,
    /// Payload.
    pub payload: Vec<u8>,
}

/// Splits received bytes into frames; what is incomplete at the end is left out.
pub fn split(bytes: &[u8]) -> Vec<Received> {
    let (mut all, mut rest) = (Vec::new(), bytes);
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest.len() < 9 + length {
            break;
        }
        all.push(Received {
            kind: rest[3],
            flags: rest[4],
            stream: u32::from_be_bytes([rest[5], rest[6], rest[7], rest[8]]) & 0x7fff_ffff,
            payload: rest[9..9 + length].to_vec(),
        });
        rest = &rest[9 + length..];
    }
    all
}
