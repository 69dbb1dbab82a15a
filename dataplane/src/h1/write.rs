//! Heads onto the wire. Whatever came in, the framing that goes out is chosen here and nowhere else.

use http::{HeaderName, Method, StatusCode};

use super::Framing;
use crate::fields::{Fields, Known, Names, capitalise};

/// The first two lines of a request: Host follows at once (RFC 9110 section 7.2).
#[derive(Debug)]
pub(crate) struct RequestLine<'a> {
    pub(crate) method: &'a Method,
    /// What stands between method and version, in parts.
    pub(crate) target: [&'a str; 4],
    pub(crate) host: &'a [u8],
}

/// Writes a request's head. `expect`: the body waits for `100 Continue`.
pub(crate) fn request_head(
    out: &mut Vec<u8>,
    line: &RequestLine<'_>,
    headers: &Fields,
    framing: Framing,
    expect: bool,
) {
    out.extend_from_slice(line.method.as_str().as_bytes());
    out.push(b' ');
    for part in line.target {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    out.extend_from_slice(b"Host: ");
    out.extend_from_slice(line.host);
    out.extend_from_slice(b"\r\n");
    if expect {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    headers.write_to(out, FRAMING.and(Names::of(&[Known::Host, Known::ContentLength])));
    match framing {
        Framing::Length(n) => write_length(out, n),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        // A method that usually carries a body says that it has none, or some servers wait for one.
        Framing::None if matches!(*line.method, Method::POST | Method::PUT | Method::PATCH) => write_length(out, 0),
        Framing::None | Framing::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// What the answer's connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// HTTP/1.1 default: say nothing.
    Implied,
    /// To an HTTP/1.0 client that asked for it.
    KeepAlive,
    Close,
}

/// Writes a status line and headers. The backend's `Content-Length` is kept only where there is no body to count
/// (HEAD, 304).
pub(crate) fn response_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &Fields,
    framing: Framing,
    persistence: Persistence,
    to_head: bool,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
    let described = to_head || status == StatusCode::NOT_MODIFIED;
    headers.write_to(out, if described { FRAMING } else { FRAMING.and(Names::of(&[Known::ContentLength])) });
    match framing {
        Framing::Length(n) => write_length(out, n),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None if !described && !status.is_informational() && status != StatusCode::NO_CONTENT => {
            write_length(out, 0)
        }
        Framing::None | Framing::UntilClose => {}
    }
    match persistence {
        Persistence::Implied => {}
        Persistence::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        Persistence::Close => out.extend_from_slice(b"Connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// What only this side of the connection may decide.
const FRAMING: Names = Names::of(&[Known::TransferEncoding, Known::Connection]);

/// `Name: value`, the name in the capitals that people expect to read.
pub(crate) fn write_line(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let start = out.len();
    out.extend_from_slice(name.as_str().as_bytes());
    capitalise(&mut out[start..]);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: &[u8]) -> String {
        String::from_utf8_lossy(out).into_owned()
    }

    #[test]
    fn framing_is_ours() {
        let mut headers = Fields::default();
        headers.put_number(Known::ContentLength, 7);
        headers.put_number(Known::XRateLimitLimit, 5);
        let mut out = Vec::new();
        response_head(&mut out, StatusCode::OK, &headers, Framing::Chunked, Persistence::Close, false);
        assert_eq!(
            text(&out),
            "HTTP/1.1 200 OK\r\nX-RateLimit-Limit: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        out.clear();
        response_head(&mut out, StatusCode::OK, &headers, Framing::None, Persistence::Implied, true);
        assert_eq!(text(&out), "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-RateLimit-Limit: 5\r\n\r\n");
        out.clear();
        let line = RequestLine { method: &Method::POST, target: ["", "/a", "?", "b"], host: b"h" };
        request_head(&mut out, &line, &headers, Framing::None, true);
        assert_eq!(
            text(&out),
            "POST /a?b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nX-RateLimit-Limit: 5\r\nContent-Length: 0\r\n\r\n"
        );
    }
}
