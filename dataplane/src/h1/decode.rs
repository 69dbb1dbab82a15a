//! Bodies off the wire: lengths counted, chunks unwrapped, everything bounded.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::{
    Framing, HeadLimits,
    head::{HeadScan, parse_trailers},
};

/// Longest chunk-size line, extensions included; they are dropped, never forwarded.
const MAX_SIZE_LINE: usize = 1024;
/// Bounds of the trailer section.
const TRAILERS: HeadLimits = HeadLimits { max_bytes: 16 << 10, max_headers: 64 };

/// One step of a body.
#[derive(Debug)]
pub(crate) enum Decoded {
    /// Bytes of the body, never empty.
    Data(Bytes),
    /// The trailers; the body is over.
    Trailers(HeaderMap),
    /// The body is over.
    End,
    /// Nothing more in the buffer.
    NeedMore,
}

/// The body's framing is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Where in a body we are.
#[derive(Debug)]
pub(crate) enum Decoder {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers(HeadScan),
    UntilClose,
    Done,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Decoder {
        match framing {
            Framing::None | Framing::Length(0) => Decoder::Done,
            Framing::Length(n) => Decoder::Length(n),
            Framing::Chunked => Decoder::ChunkSize,
            Framing::UntilClose => Decoder::UntilClose,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Decoder::Done)
    }

    /// Takes the next step out of `buf`.
    pub(crate) fn step(&mut self, buf: &mut BytesMut) -> Result<Decoded, Malformed> {
        loop {
            match self {
                Decoder::Done => return Ok(Decoded::End),
                Decoder::UntilClose => {
                    return Ok(if buf.is_empty() { Decoded::NeedMore } else { Decoded::Data(buf.split().freeze()) });
                }
                Decoder::Length(left) => {
                    let Some(data) = take(buf, left) else { return Ok(Decoded::NeedMore) };
                    if *left == 0 {
                        *self = Decoder::Done;
                    }
                    return Ok(Decoded::Data(data));
                }
                Decoder::ChunkData(left) => {
                    let Some(data) = take(buf, left) else { return Ok(Decoded::NeedMore) };
                    if *left == 0 {
                        *self = Decoder::ChunkEnd;
                    }
                    return Ok(Decoded::Data(data));
                }
                Decoder::ChunkEnd => match &buf[..] {
                    [b'\r', b'\n', ..] => {
                        buf.advance(2);
                        *self = Decoder::ChunkSize;
                    }
                    [] | [b'\r'] => return Ok(Decoded::NeedMore),
                    _ => return Err(Malformed("a chunk is longer than its size")),
                },
                Decoder::ChunkSize => match chunk_size(buf)? {
                    None => return Ok(Decoded::NeedMore),
                    Some(0) => *self = Decoder::Trailers(HeadScan::default()),
                    Some(size) => *self = Decoder::ChunkData(size),
                },
                Decoder::Trailers(scan) => {
                    if buf.starts_with(b"\r\n") {
                        buf.advance(2);
                        *self = Decoder::Done;
                        return Ok(Decoded::End);
                    }
                    let end =
                        scan.find(buf, TRAILERS).map_err(|_| Malformed("the trailers are malformed or too large"))?;
                    let Some(end) = end else { return Ok(Decoded::NeedMore) };
                    let trailers = parse_trailers(&buf.split_to(end).freeze())
                        .map_err(|_| Malformed("the trailers are malformed"))?;
                    *self = Decoder::Done;
                    return Ok(Decoded::Trailers(trailers));
                }
            }
        }
    }
}

fn take(buf: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    if buf.is_empty() {
        return None;
    }
    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
    *left -= n as u64;
    Some(buf.split_to(n).freeze())
}

/// Reads `HEX[;extension]CRLF`.
fn chunk_size(buf: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    let Some(lf) = memchr::memchr(b'\n', &buf[..buf.len().min(MAX_SIZE_LINE)]) else {
        return if buf.len() >= MAX_SIZE_LINE { Err(Malformed("a chunk-size line is too long")) } else { Ok(None) };
    };
    let Some(line) = buf[..lf].strip_suffix(b"\r") else {
        return Err(Malformed("a chunk-size line ends in a bare LF"));
    };
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let rest = &line[digits..];
    if digits == 0 || digits > 15 || !(rest.is_empty() || rest[0] == b';') || rest.contains(&b'\r') {
        return Err(Malformed("a chunk size is not a hexadecimal number"));
    }
    let size = line[..digits].iter().fold(0u64, |n, b| n * 16 + u64::from((*b as char).to_digit(16).unwrap_or(0)));
    buf.advance(lf + 1);
    Ok(Some(size))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    /// Body, trailers, and what is left over.
    type Whole = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Feeds `wire` in pieces of `step` bytes; answers the body, the trailers and what is left over.
    fn decode(framing: Framing, wire: &[u8], step: usize) -> Result<Whole, Malformed> {
        let (mut decoder, mut buf, mut body) = (Decoder::new(framing), BytesMut::new(), Vec::new());
        let mut pieces = wire.chunks(step.max(1));
        loop {
            match decoder.step(&mut buf)? {
                Decoded::Data(data) => body.extend_from_slice(&data),
                Decoded::Trailers(t) => {
                    return Ok((body, Some(t), [&buf[..], &pieces.collect::<Vec<_>>().concat()].concat()));
                }
                Decoded::End => return Ok((body, None, [&buf[..], &pieces.collect::<Vec<_>>().concat()].concat())),
                Decoded::NeedMore => match pieces.next() {
                    Some(piece) => buf.extend_from_slice(piece),
                    None => return Err(Malformed("cut off")),
                },
            }
        }
    }

    #[test]
    fn chunks_and_trailers() {
        for step in 1..40 {
            let (body, trailers, rest) =
                decode(Framing::Chunked, b"4;x=y\r\nwiki\r\n0B\r\npedia pages\r\n0\r\nA: b\r\n\r\nGET", step).unwrap();
            assert_eq!((&body[..], &rest[..]), (&b"wikipedia pages"[..], &b"GET"[..]));
            assert_eq!(trailers.unwrap()["a"], "b");
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for wire in [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "0x4\r\n",
            "4\nwiki\r\n",
            "4\r\nwikix\r\n",
            " 4\r\n",
            "4 \r\nwiki\r\n",
            "fffffffffffffffff\r\n",
            "0\r\nA b\r\n\r\n",
            "0\r\n: b\r\n\r\n",
            "0\r\nA: b\n\n",
        ] {
            assert_ne!(decode(Framing::Chunked, wire.as_bytes(), 64).unwrap_err(), Malformed("cut off"), "{wire:?}");
        }
    }

    proptest! {
        #[test]
        fn any_body_survives_any_cut(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..8), step in 1usize..64) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\nNEXT");
            let (body, _, rest) = decode(Framing::Chunked, &wire, step).unwrap();
            prop_assert_eq!(&body, &chunks.concat());
            prop_assert_eq!(&rest[..], b"NEXT");
            if !body.is_empty() {
                let plain = [&body[..], b"NEXT"].concat();
                let (again, _, rest) = decode(Framing::Length(body.len() as u64), &plain, step).unwrap();
                prop_assert_eq!(again, body);
                prop_assert_eq!(&rest[..], b"NEXT");
            }
        }

        #[test]
        fn garbage_never_panics(wire in proptest::collection::vec(any::<u8>(), 0..200), step in 1usize..64) {
            let _ = decode(Framing::Chunked, &wire, step);
        }
    }
}
