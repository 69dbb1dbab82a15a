//! From the request line to a backend.

use std::{borrow::Cow, rc::Rc, sync::Arc};

use bytes::Bytes;
use edgequota_policy::{Backend, Caller, Limit, RequestView, host, path};
use http::{Method, Uri, Version};
use http_body::Body as _;
use smallvec::SmallVec;

use super::{Received, reject::Reject};
use crate::{fields::Known, listen::client::Client, upstream::Pool, worker::Current};

/// Where a request wants to go.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// For matching: lower case, no port.
    pub(crate) host: Cow<'a, str>,
    /// As the client wrote it, for `Host` and `X-Forwarded-Host`.
    pub(crate) host_header: Option<&'a Bytes>,
    /// Normalised: what is matched is what is sent on.
    pub(crate) path: Cow<'a, str>,
    /// With its question mark; empty for none.
    pub(crate) query: &'a str,
}

/// Where it goes.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) route: Option<Arc<str>>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) limits: SmallVec<[Arc<Limit>; 2]>,
}

fn bad(why: impl Into<String>) -> Reject {
    Reject::BadRequest { why: why.into() }
}

/// `server.max_headers`.
pub(crate) fn check_headers(client: &Client, received: &Received) -> Result<(), Reject> {
    if received.headers.len() > client.worker.live().max_headers {
        return Err(Reject::HeadersTooLarge { why: "there are more header lines than server.max_headers".into() });
    }
    Ok(())
}

/// Reads path and query, and refuses what could mean two things. `uri` is the request's, `host` what [`host`] found.
pub(crate) fn target<'a>(
    received: &Received,
    uri: &'a Uri,
    host_header: Option<&'a Bytes>,
) -> Result<Target<'a>, Reject> {
    if received.method == Method::CONNECT
        || received.uri.path().is_empty() && received.uri.authority().is_some() && received.uri.scheme().is_none()
    {
        return Err(bad("CONNECT is not supported"));
    }
    if received.uri.path() == "*" {
        return Err(bad("the request target * is not supported"));
    }
    let text = host_header.and_then(|h| std::str::from_utf8(h).ok()).unwrap_or_default();
    let path = path::normalise(uri.path()).map_err(|error| bad(error.to_string()))?;
    let query = uri.path_and_query().and_then(|whole| whole.as_str().get(uri.path().len()..)).unwrap_or_default();
    Ok(Target { host: host::normalise(text), host_header, path, query })
}

/// The one host that the request names. Two that differ would let one server route by the first and the next by the
/// second.
pub(crate) fn host(received: &Received) -> Result<Option<Bytes>, Reject> {
    let mut lines = received.headers.all(Known::Host);
    let line = lines.next();
    if lines.next().is_some() {
        return Err(bad("Host stands on more than one line"));
    }
    if let Some(line) = line
        && !is_host(line)
    {
        return Err(bad("Host is malformed"));
    }
    let authority = received.uri.authority();
    match (authority, line) {
        (Some(authority), _) if authority.as_str().contains('@') => {
            Err(bad("the request target holds user information"))
        }
        (Some(authority), Some(line)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(line) => {
            Err(bad("Host differs from the request target"))
        }
        (Some(authority), _) => Ok(Some(Bytes::copy_from_slice(authority.as_str().as_bytes()))),
        (None, Some(line)) if !line.is_empty() => Ok(received.headers.keep(Known::Host)),
        (None, None) if received.version == Version::HTTP_11 => Err(bad("Host is missing")),
        (None, _) => Ok(None),
    }
}

fn is_host(host: &[u8]) -> bool {
    host.len() <= 255 && host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(b))
}

/// WebSockets are a later version's; other upgrades are simply not taken, as HTTP allows.
pub(crate) fn refuse_upgrade(received: &Received) -> Result<(), Reject> {
    let asks =
        received.headers.all(Known::Upgrade).any(|v| v.to_ascii_lowercase().windows(9).any(|w| w == b"websocket"));
    if asks && received.version == Version::HTTP_11 {
        return Err(Reject::NotBuilt { why: "WebSocket is not built yet in this version of EdgeQuota".into() });
    }
    Ok(())
}

/// What the policy sees of a request.
pub(crate) fn view<'a>(
    client: &Client,
    target: &'a Target<'a>,
    received: &'a Received,
    trusted_proxies: &'a [ipnet::IpNet],
) -> RequestView<'a> {
    RequestView {
        method: &received.method,
        host: &target.host,
        path: &target.path,
        headers: &received.headers,
        caller: Caller { peer: client.peer.ip(), trusted_proxies },
    }
}

/// Finds the route, its backend's pool and its limits.
pub(crate) fn route(
    client: &Client,
    current: &Current,
    target: &Target<'_>,
    received: &Received,
) -> Result<Routed, Reject> {
    let live = client.worker.live();
    let view = view(client, target, received, &live.trusted_proxies);
    let matched = current.in_force.policy.route(&view).ok_or(Reject::NoRoute)?;
    let pool = current.pool(matched.backend).ok_or(Reject::NoRoute)?;
    Ok(Routed {
        route: matched.route.cloned(),
        pool: Rc::clone(pool),
        limits: matched.limits.iter().cloned().collect(),
    })
}

/// A body that is announced larger than the backend takes is refused before anything is spent on it.
pub(crate) fn check_length(backend: &Backend, received: &Received) -> Result<(), Reject> {
    match (backend.max_request_body_size, received.body.size_hint().exact()) {
        (Some(most), Some(length)) if length > most => Err(Reject::BodyTooLarge { most }),
        _ => Ok(()),
    }
}
