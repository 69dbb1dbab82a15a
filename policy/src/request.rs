//! What the policy needs to see of a request. Filled by the data plane from a real one, by the control plane from
//! a described one.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Method};
use ipnet::IpNet;

/// Header lines, however they are kept: the data plane does not build a map for every request.
pub trait HeaderLines: Sync {
    /// The value of the `nth` line (from 0) with this name, in the order of the lines.
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]>;

    /// The only line with this name; `None`: there is none, or more than one.
    fn only_line(&self, name: &HeaderName) -> Option<&[u8]> {
        self.line(name, 0).filter(|_| self.line(name, 1).is_none())
    }
}

impl HeaderLines for HeaderMap {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        self.get_all(name).iter().nth(nth).map(http::HeaderValue::as_bytes)
    }
}

/// A request as routing and key extraction see it.
pub struct RequestView<'a> {
    /// Method.
    pub method: &'a Method,
    /// Lower case, without port, IPv6 in brackets dropped; empty when the client sent none.
    pub host: &'a str,
    /// Normalised (see [`crate::path`]), without query.
    pub path: &'a str,
    /// As the client sent them.
    pub headers: &'a dyn HeaderLines,
    /// Who is at the other end.
    pub caller: Caller<'a>,
}

/// The peer, and whose forwarding headers are believed when a limit has no list of its own.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Peer address; IPv4-mapped IPv6 already turned into IPv4.
    pub peer: IpAddr,
    /// `server.trusted_proxies`.
    pub trusted_proxies: &'a [IpNet],
}
