//! Where a server listens.

use std::fmt;

/// Port of Redis where none is named.
const PORT: u16 = 6379;

/// Host and port of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl Endpoint {
    pub(super) fn new(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }

    /// `host:port`, `[v6]:port`, or a host with the usual port; `redis://` and `rediss://` before it are allowed, and what
    /// stands before an `@` is left out: it may be a secret, which belongs elsewhere and is shown nowhere.
    pub(super) fn parse(text: &str) -> Option<Endpoint> {
        let rest = text.rsplit('@').next().unwrap_or_default();
        let rest = rest.strip_prefix("redis://").or_else(|| rest.strip_prefix("rediss://")).unwrap_or(rest);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()?),
            _ => (rest, PORT),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        (!host.is_empty()).then(|| Endpoint::new(host, port))
    }

    /// As a node of a cluster writes it in `MOVED` and `ASK`: an IPv6 address stands there without brackets, and without a
    /// host it is the one that was asked, `of`.
    pub(super) fn parse_redirect(text: &str, of: &str) -> Option<Endpoint> {
        let (host, port) = text.rsplit_once(':')?;
        let host = if host.is_empty() || host == "?" { of } else { host };
        Some(Endpoint::new(host, port.parse().ok()?))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_person_writes_it() {
        for (text, wanted) in [
            ("localhost:6380", Some(("localhost", 6380))),
            ("redis://r:1", Some(("r", 1))),
            ("rediss://r:1/", Some(("r", 1))),
            ("redis://user:secret@r:1", Some(("r", 1))),
            ("r", Some(("r", 6379))),
            ("[::1]:7", Some(("::1", 7))),
            ("[::1]", Some(("::1", 6379))),
            ("::1", Some(("::1", 6379))),
            ("r:no", None),
            ("", None),
        ] {
            assert_eq!(Endpoint::parse(text), wanted.map(|(host, port)| Endpoint::new(host, port)), "{text}");
        }
    }

    #[test]
    fn as_a_node_writes_it() {
        for (text, wanted) in [
            ("10.0.0.1:6381", Some(("10.0.0.1", 6381))),
            ("::1:6381", Some(("::1", 6381))),
            (":6381", Some(("asked", 6381))),
            ("?:6381", Some(("asked", 6381))),
            ("node.example:6381", Some(("node.example", 6381))),
            ("nothing", None),
            ("a:b", None),
        ] {
            let wanted = wanted.map(|(host, port)| Endpoint::new(host, port));
            assert_eq!(Endpoint::parse_redirect(text, "asked"), wanted, "{text}");
        }
        assert_eq!(Endpoint::new("::1", 7).to_string(), "[::1]:7");
    }
}
