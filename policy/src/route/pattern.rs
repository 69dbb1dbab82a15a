//! What a route's hosts and path conditions mean, in the form that tables are keyed by.

use crate::{host, path, path::PathError, spec::MatchSpec};

/// Which hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum HostKey {
    Exact(String),
    /// What follows `*.`.
    Wildcard(String),
    Any,
}

/// Which paths, normalised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PathKey {
    Exact(String),
    /// Without trailing slash; empty for `/`.
    Prefix(String),
    /// As it is written.
    Regex(String),
    Any,
}

/// Longest `path_regex`, in bytes.
pub(crate) const MOST_REGEX_BYTES: usize = 1_024;

impl HostKey {
    pub(crate) fn parse(text: &str) -> Result<HostKey, &'static str> {
        if text == "*" {
            return Ok(HostKey::Any);
        }
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if name.contains(['/', '*', '@', '?', '#', ' ']) {
            return Err("must be a host name without port, or *. and a host name");
        }
        let normal = host::normalise_host(name);
        if normal.is_empty() {
            return Err("must not be empty");
        }
        let unchanged = name.trim_end_matches('.').trim_matches(['[', ']']);
        if normal.len() != unchanged.len() {
            return Err("must be written without port");
        }
        Ok(if wildcard { HostKey::Wildcard(normal) } else { HostKey::Exact(normal) })
    }

    /// All hosts of a route, each once; those that cannot be read are left out.
    pub(crate) fn all(spec: &MatchSpec) -> Vec<HostKey> {
        if spec.hosts.is_empty() {
            return vec![HostKey::Any];
        }
        let mut keys: Vec<HostKey> = spec.hosts.iter().filter_map(|text| HostKey::parse(text).ok()).collect();
        if keys.len() > 1 {
            keys.sort_unstable();
            keys.dedup();
        }
        keys
    }
}

impl PathKey {
    /// The path condition of a route. When several are written, which is a problem, the most specific kind.
    pub(crate) fn of(spec: &MatchSpec) -> Result<PathKey, PathError> {
        if !spec.path_exact.is_empty() {
            return Ok(PathKey::Exact(path::normalise(&spec.path_exact)?.into_owned()));
        }
        if !spec.path_prefix.is_empty() {
            let normal = path::normalise(&spec.path_prefix)?;
            return Ok(PathKey::Prefix(normal.trim_end_matches('/').to_owned()));
        }
        if !spec.path_regex.is_empty() {
            return Ok(PathKey::Regex(spec.path_regex.clone()));
        }
        Ok(PathKey::Any)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn hosts_are_compared_in_one_form() {
        for (text, key) in [
            ("API.example.com", HostKey::Exact("api.example.com".into())),
            ("example.com.", HostKey::Exact("example.com".into())),
            ("*.Example.com", HostKey::Wildcard("example.com".into())),
            ("[2001:DB8::1]", HostKey::Exact("2001:db8::1".into())),
            ("::1", HostKey::Exact("::1".into())),
            ("*", HostKey::Any),
        ] {
            assert_eq!(HostKey::parse(text), Ok(key), "{text}");
        }
        for text in ["", "*.", "example.com:80", "http://x", "a*b", "*.*.x", "[::1]:80", "a/b"] {
            assert!(HostKey::parse(text).is_err(), "{text}");
        }
    }
}
