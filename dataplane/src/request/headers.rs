//! Headers on their way to the backend and back.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ipnet::IpNet;

use super::route::Target;
use crate::listen::client::Client;

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
    let peer = client.peer.ip();
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
pub(crate) fn to_client(status: StatusCode, headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    // RFC 9110 section 8.6: an answer that cannot have a body describes none.
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// Headers that concern one connection only (RFC 9110 section 7.6.1, and the ones that old software sends).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Removes what must not pass, the headers that `Connection` names included. `TE: trailers` is put back by who may.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}
