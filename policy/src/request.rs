//! What the policy needs to see of a request. Filled by the data plane from a real one, by the control plane from
//! a described one.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use ipnet::IpNet;

/// A request as routing and key extraction see it.
pub struct RequestView<'a> {
    /// Method.
    pub method: &'a Method,
    /// Lower case, without port, IPv6 in brackets dropped; empty when the client sent none.
    pub host: &'a str,
    /// Normalised (see [`crate::path`]), without query.
    pub path: &'a str,
    /// As the client sent them.
    pub headers: &'a HeaderMap,
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
