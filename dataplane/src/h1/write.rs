//! Heads onto the wire. Whatever came in, the framing that goes out is chosen here and nowhere else.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::Framing;

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
    out: &mut BytesMut,
    line: &RequestLine<'_>,
    headers: &HeaderMap,
    framing: Framing,
    expect: bool,
) {
    out.reserve(256 + headers.len() * 48);
    out.put_slice(line.method.as_str().as_bytes());
    out.put_u8(b' ');
    for part in line.target {
        out.put_slice(part.as_bytes());
    }
    out.put_slice(b" HTTP/1.1\r\n");
    write_line(out, &header::HOST, line.host);
    if expect {
        out.put_slice(b"Expect: 100-continue\r\n");
    }
    write_headers(out, headers, false);
    match framing {
        Framing::Length(n) => write_length(out, n),
        Framing::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        // A method that usually carries a body says that it has none, or some servers wait for one.
        Framing::None if matches!(*line.method, Method::POST | Method::PUT | Method::PATCH) => write_length(out, 0),
        Framing::None | Framing::UntilClose => {}
    }
    out.put_slice(b"\r\n");
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
    out: &mut BytesMut,
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    persistence: Persistence,
    to_head: bool,
) {
    out.reserve(256 + headers.len() * 48);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.put_slice(b"\r\n");
    let described = to_head || status == StatusCode::NOT_MODIFIED;
    write_headers(out, headers, described);
    match framing {
        Framing::Length(n) => write_length(out, n),
        Framing::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None if !described && !status.is_informational() && status != StatusCode::NO_CONTENT => {
            write_length(out, 0)
        }
        Framing::None | Framing::UntilClose => {}
    }
    match persistence {
        Persistence::Implied => {}
        Persistence::KeepAlive => out.put_slice(b"Connection: keep-alive\r\n"),
        Persistence::Close => out.put_slice(b"Connection: close\r\n"),
    }
    out.put_slice(b"\r\n");
}

/// Writes header lines, without those that only this side of the connection may decide.
fn write_headers(out: &mut BytesMut, headers: &HeaderMap, with_length: bool) {
    for (name, value) in headers {
        if *name == header::TRANSFER_ENCODING
            || *name == header::CONNECTION
            || (*name == header::CONTENT_LENGTH && !with_length)
        {
            continue;
        }
        write_line(out, name, value.as_bytes());
    }
}

/// `Name: value`, the name in the capitals that people expect to read.
pub(crate) fn write_line(out: &mut BytesMut, name: &HeaderName, value: &[u8]) {
    let start = out.len();
    out.put_slice(name.as_str().as_bytes());
    let mut upper = true;
    for byte in &mut out[start..] {
        if upper {
            byte.make_ascii_uppercase();
        }
        upper = *byte == b'-';
    }
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn write_length(out: &mut BytesMut, n: u64) {
    out.put_slice(b"Content-Length: ");
    out.put_slice(itoa::Buffer::new().format(n).as_bytes());
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn text(out: &BytesMut) -> String {
        String::from_utf8_lossy(out).into_owned()
    }

    #[test]
    fn framing_is_ours() {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from_static("7"));
        headers.insert("x-ratelimit-limit", HeaderValue::from_static("5"));
        let mut out = BytesMut::new();
        response_head(&mut out, StatusCode::OK, &headers, Framing::Chunked, Persistence::Close, false);
        assert_eq!(
            text(&out),
            "HTTP/1.1 200 OK\r\nX-Ratelimit-Limit: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        out.clear();
        response_head(&mut out, StatusCode::OK, &headers, Framing::None, Persistence::Implied, true);
        assert_eq!(text(&out), "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-Ratelimit-Limit: 5\r\n\r\n");
        out.clear();
        let line = RequestLine { method: &Method::POST, target: ["", "/a", "?", "b"], host: b"h" };
        request_head(&mut out, &line, &headers, Framing::None, true);
        assert_eq!(
            text(&out),
            "POST /a?b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nX-Ratelimit-Limit: 5\r\nContent-Length: 0\r\n\r\n"
        );
    }
}
