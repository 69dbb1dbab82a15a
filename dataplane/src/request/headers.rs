//! Headers on their way to the backend and back.

use http::{HeaderName, StatusCode};
use ipnet::IpNet;

use super::route::Target;
use crate::{
    fields::{Fields, HOP_BY_HOP, Known, Names},
    listen::client::Client,
};

/// Turns the client's headers into the backend's.
pub(crate) fn to_backend(headers: &mut Fields, client: &Client, target: &Target<'_>, request_id: &[u8]) {
    let takes_trailers = headers
        .all(Known::Te)
        .any(|v| v.split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers")));
    strip_hop_by_hop(headers);
    if takes_trailers {
        headers.add(Known::Te, b"trailers");
    }
    headers.remove(Names::of(&[Known::Host, Known::Expect]));
    let live = client.worker.live();
    if distrusts(&live.trusted_proxies, client.peer.ip()) {
        headers.remove(Names::of(&[Known::XForwardedFor, Known::XForwardedHost, Known::XForwardedProto]));
    }
    append_forwarded_for(headers, client.peer_ip.as_bytes());
    if !headers.has(Known::XForwardedHost)
        && let Some(host) = target.host_header
    {
        headers.add(Known::XForwardedHost, host);
    }
    if !headers.has(Known::XForwardedProto) {
        headers.add(Known::XForwardedProto, b"http");
    }
    headers.put(Known::XRequestId, request_id);
}

/// Only a list that says whom to believe says whom not to.
fn distrusts(trusted: &[IpNet], peer: std::net::IpAddr) -> bool {
    !trusted.is_empty() && !trusted.iter().any(|net| net.contains(&peer))
}

/// One line, the peer last.
fn append_forwarded_for(headers: &mut Fields, peer: &[u8]) {
    let mut value: Vec<u8> = Vec::new();
    for line in headers.all(Known::XForwardedFor) {
        value.extend_from_slice(line);
        value.extend_from_slice(b", ");
    }
    headers.remove(Names::of(&[Known::XForwardedFor]));
    headers.write(Known::XForwardedFor, |out| {
        out.extend_from_slice(&value);
        out.extend_from_slice(peer);
    });
}

/// Turns the backend's headers into the client's.
pub(crate) fn to_client(status: StatusCode, headers: &mut Fields) {
    strip_hop_by_hop(headers);
    // RFC 9110 section 8.6: an answer that cannot have a body describes none.
    if status == StatusCode::NO_CONTENT {
        headers.remove(Names::of(&[Known::ContentLength]));
    }
}

/// Removes what must not pass, the headers that `Connection` names included. `TE: trailers` is put back by who may.
fn strip_hop_by_hop(headers: &mut Fields) {
    let named: Vec<HeaderName> = headers
        .all(Known::Connection)
        .flat_map(|value| value.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        // What nearly every such line says: both go in any case, or are no header at all.
        .filter(|token| !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect();
    for name in named {
        headers.remove_named(name.as_str().as_bytes());
    }
    headers.remove(HOP_BY_HOP);
}
