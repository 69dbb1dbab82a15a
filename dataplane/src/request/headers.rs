//! Headers on their way to the backend and back.

use edgequota_ops::resources::canonical_ip;
use http::{HeaderMap, HeaderValue, header};
use ipnet::IpNet;

use super::route::Target;
use crate::{listen::client::Client, upstream::exchange::strip_hop_by_hop};

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_HOST: &str = "x-forwarded-host";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Turns the client's headers into the backend's.
pub(crate) fn to_backend(headers: &mut HeaderMap, client: &Client, target: &Target, request_id: &HeaderValue) {
    let takes_trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|v| v.as_bytes().split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers")));
    strip_hop_by_hop(headers);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    headers.remove(header::HOST);
    headers.remove(header::EXPECT);
    let live = client.worker.shared.live();
    let peer = canonical_ip(client.peer.ip());
    if distrusts(&live.trusted_proxies, peer) {
        headers.remove(X_FORWARDED_FOR);
        headers.remove(X_FORWARDED_HOST);
        headers.remove(X_FORWARDED_PROTO);
    }
    append_forwarded_for(headers, &peer.to_string());
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Some(host) = &target.host_header
    {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    headers.insert("x-request-id", request_id.clone());
}

/// Only a list that says whom to believe says whom not to.
fn distrusts(trusted: &[IpNet], peer: std::net::IpAddr) -> bool {
    !trusted.is_empty() && !trusted.iter().any(|net| net.contains(&peer))
}

/// One line, the peer last.
fn append_forwarded_for(headers: &mut HeaderMap, peer: &str) {
    let mut value: Vec<u8> = Vec::with_capacity(48);
    for line in headers.get_all(X_FORWARDED_FOR) {
        value.extend_from_slice(line.as_bytes());
        value.extend_from_slice(b", ");
    }
    value.extend_from_slice(peer.as_bytes());
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

/// Turns the backend's headers into the client's.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
}
