//! The URL of a backend or service: `scheme://host[:port][/prefix]`, nothing else.

use std::net::Ipv6Addr;

/// A URL taken apart. Text is borrowed where it can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    /// Lower case: http, https, ws or wss.
    pub(crate) scheme: &'static str,
    /// https or wss.
    pub(crate) tls: bool,
    /// As written, brackets dropped.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Path as written; empty or with a leading slash.
    pub(crate) path: &'a str,
    /// From `?` on; empty for none.
    pub(crate) query: &'a str,
}

impl Url<'_> {
    /// `scheme://host:port/path?query`.
    pub(crate) fn with_port(&self) -> String {
        let Url { scheme, host, port, path, query, .. } = self;
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}{path}{query}")
        } else {
            format!("{scheme}://{host}:{port}{path}{query}")
        }
    }
}

/// Why a text is no such URL. The text itself is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("scheme and host are required")]
    Incomplete,
    #[error("the scheme must be http, https, ws or wss")]
    Scheme,
    #[error("user information in a URL is not allowed: a credential does not belong there")]
    UserInfo,
    #[error("the port must be a number from 1 to 65535")]
    Port,
    #[error("the host is not valid")]
    Host,
    #[error("spaces, control characters and a fragment are not allowed")]
    Characters,
}

const SCHEMES: [(&str, bool, u16); 4] =
    [("http", false, 80), ("https", true, 443), ("ws", false, 80), ("wss", true, 443)];

pub(crate) fn parse(text: &str) -> Result<Url<'_>, UrlError> {
    let (scheme, rest) = text.split_once("://").ok_or(UrlError::Incomplete)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    if scheme.is_empty() || authority.is_empty() {
        return Err(UrlError::Incomplete);
    }
    if text.contains('#') || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(UrlError::Characters);
    }
    let (scheme, tls, default_port) =
        *SCHEMES.iter().find(|(name, ..)| scheme.eq_ignore_ascii_case(name)).ok_or(UrlError::Scheme)?;
    let (host, port) = host_and_port(authority)?;
    let port = match port {
        None => default_port,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
            Ok(0) | Err(_) => return Err(UrlError::Port),
            Ok(port) => port,
        },
        Some(_) => return Err(UrlError::Port),
    };
    let (path, query) = tail.split_at(tail.find('?').unwrap_or(tail.len()));
    Ok(Url { scheme, tls, host, port, path, query })
}

fn host_and_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(inner) = authority.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or(UrlError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(UrlError::Host),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if host.is_empty() {
        return Err(UrlError::Incomplete);
    }
    let valid = host.len() <= 253 && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if valid { Ok((host, port)) } else { Err(UrlError::Host) }
}

/// The URL with its port written out; a text that is no URL stays as it is.
pub(crate) fn with_port(text: &str) -> String {
    parse(text).map_or_else(|_| text.to_owned(), |url| url.with_port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_port_is_written_out() {
        for (text, full) in [
            ("http://a", "http://a:80"),
            ("HTTPS://a/x/", "https://a:443/x/"),
            ("ws://a", "ws://a:80"),
            ("wss://a", "wss://a:443"),
            ("http://my-backend_service.ns:8080", "http://my-backend_service.ns:8080"),
            ("http://[::1]/p", "http://[::1]:80/p"),
            ("http://[::1]:9/p", "http://[::1]:9/p"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(with_port(text), full);
            assert_eq!(with_port(full), full);
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for (text, error) in [
            ("", UrlError::Incomplete),
            ("a:8080", UrlError::Incomplete),
            ("http://", UrlError::Incomplete),
            ("://a", UrlError::Incomplete),
            ("http://:80", UrlError::Incomplete),
            ("http:///x", UrlError::Incomplete),
            ("ftp://a", UrlError::Scheme),
            ("http://u:p@a", UrlError::UserInfo),
            ("http://a:0", UrlError::Port),
            ("http://a:", UrlError::Port),
            ("http://a:65536", UrlError::Port),
            ("http://a:+80", UrlError::Port),
            ("http://a:b:80", UrlError::Port),
            ("http://[::1", UrlError::Host),
            ("http://[x]", UrlError::Host),
            ("http://[::1]x", UrlError::Host),
            ("http://a%b", UrlError::Host),
            ("http://a/x y", UrlError::Characters),
            ("http://a/#x", UrlError::Characters),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
