//! Heads: found strictly, parsed once.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

use super::{Framing, HeadLimits};
use crate::fields::{Fields, Known};

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the header section is larger than server.max_header_bytes")]
    TooLarge,
    #[error("there are more header lines than server.max_headers")]
    TooManyHeaders,
    #[error("{0}")]
    Malformed(&'static str),
}

use HeadError::Malformed;

/// Finds the end of a head in a growing buffer without reading any byte twice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadScan {
    scanned: usize,
    line_start: usize,
}

impl HeadScan {
    /// Length of the head with its empty line, once it is complete.
    pub(crate) fn find(&mut self, buf: &[u8], limits: HeadLimits) -> Result<Option<usize>, HeadError> {
        while let Some(offset) = memchr::memchr(b'\n', &buf[self.scanned..]) {
            let lf = self.scanned + offset;
            // A parser that ends lines at a bare LF and one that does not see two different requests.
            if lf == self.line_start || buf[lf - 1] != b'\r' {
                return Err(Malformed("a line ends in a bare LF"));
            }
            let empty = lf - 1 == self.line_start;
            self.scanned = lf + 1;
            self.line_start = lf + 1;
            if empty {
                return if lf < limits.max_bytes { Ok(Some(lf + 1)) } else { Err(HeadError::TooLarge) };
            }
            if matches!(buf.get(lf + 1), Some(b' ' | b'\t')) {
                return Err(Malformed("a header line is folded"));
            }
        }
        self.scanned = buf.len();
        if buf.len() >= limits.max_bytes { Err(HeadError::TooLarge) } else { Ok(None) }
    }
}

/// A request's head, and what it says about the message around it.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: Fields,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) expect_continue: bool,
}

/// A backend's answer.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: Fields,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
}

/// Most headers that are parsed on the stack; more take one allocation.
const ON_STACK: usize = 64;

/// Parses the bytes that [`HeadScan::find`] delimited.
pub(crate) fn parse_request(head: &Bytes, limits: HeadLimits) -> Result<RequestHead, HeadError> {
    let mut small = [const { MaybeUninit::uninit() }; ON_STACK];
    let mut request = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, head, &mut small) {
        Err(httparse::Error::TooManyHeaders) if limits.max_headers > ON_STACK => {
            let mut large = vec![MaybeUninit::uninit(); limits.max_headers];
            let mut request = httparse::Request::new(&mut []);
            httparse::ParserConfig::default()
                .parse_request_with_uninit_headers(&mut request, head, &mut large)
                .map_err(in_words)?;
            request_head(head, &request, limits)
        }
        Err(e) => Err(in_words(e)),
        Ok(_) => request_head(head, &request, limits),
    }
}

fn request_head(
    head: &Bytes,
    parsed: &httparse::Request<'_, '_>,
    limits: HeadLimits,
) -> Result<RequestHead, HeadError> {
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Malformed("the head is incomplete"));
    };
    if parsed.headers.len() > limits.max_headers {
        return Err(HeadError::TooManyHeaders);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed("the method is not a token"))?;
    // `http::Uri` would drop a fragment in silence: the backend would see another target than the one that was logged.
    if target.bytes().any(|b| b == b'#' || !(0x21..0x7f).contains(&b)) {
        return Err(Malformed("the request target holds a forbidden character"));
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes()))
        .map_err(|_| Malformed("the request target is malformed"))?;
    let version = if minor == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let headers = fields(head, parsed.headers);
    let framing = request_framing(&headers, version)?;
    let keep_alive = keeps_alive(&headers, version);
    let expect_continue = version == Version::HTTP_11
        && framing != Framing::None
        && headers.get(Known::Expect).is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"));
    Ok(RequestHead { method, uri, version, headers, framing, keep_alive, expect_continue })
}

/// Parses a backend's head. `method` is the request's: an answer to HEAD has no body whatever it says.
pub(crate) fn parse_response(head: &Bytes, method: &Method) -> Result<ResponseHead, HeadError> {
    let mut small = [httparse::EMPTY_HEADER; ON_STACK];
    let mut response = httparse::Response::new(&mut small);
    match response.parse(head) {
        Ok(_) => response_head(head, &response, method),
        Err(httparse::Error::TooManyHeaders) => {
            let mut large = vec![httparse::EMPTY_HEADER; HeadLimits::ANSWER.max_headers];
            let mut response = httparse::Response::new(&mut large);
            response.parse(head).map_err(in_words)?;
            response_head(head, &response, method)
        }
        Err(e) => Err(in_words(e)),
    }
}

fn response_head(
    head: &Bytes,
    parsed: &httparse::Response<'_, '_>,
    method: &Method,
) -> Result<ResponseHead, HeadError> {
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Malformed("the head is incomplete"));
    };
    let status = StatusCode::from_u16(code).map_err(|_| Malformed("the status code is out of range"))?;
    let version = if minor == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let headers = fields(head, parsed.headers);
    let framing = if method == Method::HEAD || status.is_informational() || matches!(status.as_u16(), 204 | 304) {
        Framing::None
    } else {
        match message_framing(&headers, version)? {
            Framing::None => Framing::UntilClose,
            known => known,
        }
    };
    let keep_alive = framing != Framing::UntilClose && keeps_alive(&headers, version);
    Ok(ResponseHead { status, headers, framing, keep_alive })
}

/// Trailer lines of a chunked body, without the last chunk and with the empty line at the end.
pub(crate) fn parse_trailers(bytes: &Bytes) -> Result<HeaderMap, HeadError> {
    let mut lines = [httparse::EMPTY_HEADER; ON_STACK];
    match httparse::parse_headers(bytes, &mut lines) {
        Ok(httparse::Status::Complete((_, lines))) => header_map(bytes, lines),
        Ok(httparse::Status::Partial) => Err(Malformed("the trailers are incomplete")),
        Err(e) => Err(in_words(e)),
    }
}

/// The parser has made sure that names are tokens and that values hold no control character.
fn fields(head: &Bytes, lines: &[httparse::Header<'_>]) -> Fields {
    let mut fields = Fields::parsed(head.clone());
    for line in lines {
        fields.came(line.name.as_bytes(), line.value);
    }
    fields
}

fn header_map(head: &Bytes, lines: &[httparse::Header<'_>]) -> Result<HeaderMap, HeadError> {
    let mut map = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name =
            HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed("a header name is not a token"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value))
            .map_err(|_| Malformed("a header value holds a forbidden character"))?;
        map.append(name, value);
    }
    Ok(map)
}

fn request_framing(headers: &Fields, version: Version) -> Result<Framing, HeadError> {
    match message_framing(headers, version)? {
        Framing::Length(0) => Ok(Framing::None),
        known => Ok(known),
    }
}

/// RFC 9112 section 6, with every case that it leaves to the recipient decided for refusal.
fn message_framing(headers: &Fields, version: Version) -> Result<Framing, HeadError> {
    let mut encodings = headers.all(Known::TransferEncoding);
    let mut lengths = headers.all(Known::ContentLength);
    match (encodings.next(), lengths.next()) {
        (Some(_), Some(_)) => Err(Malformed("both Content-Length and Transfer-Encoding are given")),
        (Some(_), None) if version == Version::HTTP_10 => {
            Err(Malformed("Transfer-Encoding does not exist in HTTP/1.0"))
        }
        (Some(encoding), None) => {
            if encodings.next().is_none() && encoding.eq_ignore_ascii_case(b"chunked") {
                Ok(Framing::Chunked)
            } else {
                Err(Malformed("the only Transfer-Encoding that is understood is a single \"chunked\""))
            }
        }
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(Malformed("Content-Length stands on more than one line"));
            }
            content_length(length).map(Framing::Length).ok_or(Malformed("Content-Length is not a number"))
        }
        (None, None) => Ok(Framing::None),
    }
}

/// Digits only: a sign, white space or a list would be read differently elsewhere.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}

fn keeps_alive(headers: &Fields, version: Version) -> bool {
    let says = |word: &str| {
        headers
            .all(Known::Connection)
            .flat_map(|v| v.split(|b| *b == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    if version == Version::HTTP_11 { !says("close") } else { says("keep-alive") && !says("close") }
}

fn in_words(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        httparse::Error::HeaderName => Malformed("a header name is not a token"),
        httparse::Error::HeaderValue => Malformed("a header value holds a forbidden character"),
        httparse::Error::NewLine => Malformed("a line does not end in CRLF"),
        httparse::Error::Status => Malformed("the status line is malformed"),
        httparse::Error::Token => Malformed("the request line is malformed"),
        httparse::Error::Version => Malformed("the HTTP version is not 1.0 or 1.1"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { max_bytes: 4096, max_headers: 100 };

    fn request(text: &str) -> Result<RequestHead, HeadError> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let end = HeadScan::default().find(&bytes, LIMITS)?.ok_or(Malformed("incomplete"))?;
        parse_request(&bytes.slice(..end), LIMITS)
    }

    #[test]
    fn a_plain_request_is_read() {
        let head = request("POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nX-A:  b \r\n\r\n").unwrap();
        assert_eq!(head.method, Method::POST);
        assert_eq!(head.uri, "/a?b=c");
        assert_eq!(head.framing, Framing::Length(12));
        assert_eq!(head.headers.to_map()["x-a"], "b");
        assert!(head.keep_alive);
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for (name, text) in [
            ("bare LF", "GET / HTTP/1.1\nHost: x\r\n\r\n"),
            ("bare LF at the end", "GET / HTTP/1.1\r\nHost: x\n\n"),
            ("folded line", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
            ("space before the colon", "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n"),
            ("both framings", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n"),
            ("a list of lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\n"),
            ("a signed length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\n"),
            ("an empty length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n"),
            ("another encoding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
            (
                "chunked twice",
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            ("chunked in 1.0", "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("a fragment", "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("a CR in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n"),
            ("a NUL in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n"),
            ("another version", "GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
        ] {
            assert!(matches!(request(text), Err(Malformed(_))), "{name} was accepted");
        }
    }

    #[test]
    fn bounds_hold() {
        let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(5000));
        assert_eq!(request(&long).unwrap_err(), HeadError::TooLarge);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
        assert_eq!(request(&many).unwrap_err(), HeadError::TooManyHeaders);
        let enough = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
        assert_eq!(request(&enough).unwrap().headers.len(), 100);
    }

    #[test]
    fn a_head_is_found_however_it_is_cut() {
        let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        let mut scan = HeadScan::default();
        for cut in 0..27 {
            assert_eq!(scan.find(&text[..cut], LIMITS).unwrap(), None, "at {cut}");
        }
        assert_eq!(scan.find(text, LIMITS).unwrap(), Some(27));
    }

    #[test]
    fn answers_without_a_body_have_none() {
        let bytes = Bytes::from_static(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n");
        assert_eq!(parse_response(&bytes, &Method::GET).unwrap().framing, Framing::None);
        let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        assert_eq!(parse_response(&bytes, &Method::HEAD).unwrap().framing, Framing::None);
        assert_eq!(parse_response(&bytes, &Method::GET).unwrap().framing, Framing::Length(10));
        let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n");
        let head = parse_response(&bytes, &Method::GET).unwrap();
        assert_eq!((head.framing, head.keep_alive), (Framing::UntilClose, false));
    }
}
