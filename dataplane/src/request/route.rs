//! From the request line to a backend.

use std::{borrow::Cow, rc::Rc, sync::Arc};

use edgequota_policy::{Backend, Caller, Limit, RequestView, host::normalise_host, path};
use http::{HeaderValue, Method, Version, header};
use http_body::Body as _;

use super::{Received, reject::Reject};
use crate::{listen::client::Client, upstream::Pool, worker::Current};

/// Where a request wants to go.
#[derive(Debug)]
pub(crate) struct Target {
    /// For matching: lower case, no port.
    pub(crate) host: String,
    /// As the client wrote it, for `Host` and `X-Forwarded-Host`.
    pub(crate) host_header: Option<HeaderValue>,
    /// Normalised: what is matched is what is sent on.
    pub(crate) path: String,
    /// With its question mark; empty for none.
    pub(crate) query: String,
}

/// Where it goes.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) route: Option<Arc<str>>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) limits: Vec<Arc<Limit>>,
}

fn bad(why: impl Into<String>) -> Reject {
    Reject::BadRequest { why: why.into() }
}

/// `server.max_headers`.
pub(crate) fn check_headers(client: &Client, received: &Received) -> Result<(), Reject> {
    if received.headers.len() > client.worker.shared.live().max_headers {
        return Err(Reject::HeadersTooLarge { why: "there are more header lines than server.max_headers".into() });
    }
    Ok(())
}

/// Reads host, path and query, and refuses what could mean two things.
pub(crate) fn target(received: &Received) -> Result<Target, Reject> {
    if received.method == Method::CONNECT
        || received.uri.path().is_empty() && received.uri.authority().is_some() && received.uri.scheme().is_none()
    {
        return Err(bad("CONNECT is not supported"));
    }
    if received.uri.path() == "*" {
        return Err(bad("the request target * is not supported"));
    }
    let host_header = host(received)?;
    let text = host_header.as_ref().and_then(|h| h.to_str().ok()).unwrap_or_default();
    let path = match path::normalise(received.uri.path()) {
        Ok(Cow::Borrowed(path)) => path.to_owned(),
        Ok(Cow::Owned(path)) => path,
        Err(error) => return Err(bad(error.to_string())),
    };
    let query = received.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    Ok(Target { host: normalise_host(text), host_header, path, query })
}

/// The one host that the request names. Two that differ would let one server route by the first and the next by the
/// second.
fn host(received: &Received) -> Result<Option<HeaderValue>, Reject> {
    let mut lines = received.headers.get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(bad("Host stands on more than one line"));
    }
    if let Some(line) = line
        && !is_host(line.as_bytes())
    {
        return Err(bad("Host is malformed"));
    }
    let authority = received.uri.authority();
    match (authority, line) {
        (Some(authority), _) if authority.as_str().contains('@') => {
            Err(bad("the request target holds user information"))
        }
        (Some(authority), Some(line)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(line.as_bytes()) => {
            Err(bad("Host differs from the request target"))
        }
        (Some(authority), _) => {
            HeaderValue::from_str(authority.as_str()).map(Some).map_err(|_| bad("the request target is malformed"))
        }
        (None, Some(line)) if !line.is_empty() => Ok(Some(line.clone())),
        (None, None) if received.version == Version::HTTP_11 => Err(bad("Host is missing")),
        (None, _) => Ok(None),
    }
}

fn is_host(host: &[u8]) -> bool {
    host.len() <= 255 && host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(b))
}

/// WebSockets are a later version's; other upgrades are simply not taken, as HTTP allows.
pub(crate) fn refuse_upgrade(received: &Received) -> Result<(), Reject> {
    let asks = received
        .headers
        .get_all(header::UPGRADE)
        .iter()
        .any(|v| v.as_bytes().to_ascii_lowercase().windows(9).any(|w| w == b"websocket"));
    if asks && received.version == Version::HTTP_11 {
        return Err(Reject::NotBuilt { why: "WebSocket is not built yet in this version of EdgeQuota".into() });
    }
    Ok(())
}

/// What the policy sees of a request.
pub(crate) fn view<'a>(
    client: &Client,
    target: &'a Target,
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
    target: &Target,
    received: &Received,
) -> Result<Routed, Reject> {
    let live = client.worker.shared.live();
    let view = view(client, target, received, &live.trusted_proxies);
    let matched = current.in_force.policy.route(&view).ok_or(Reject::NoRoute)?;
    let pool = current.pool(matched.backend).ok_or(Reject::NoRoute)?;
    Ok(Routed { route: matched.route.cloned(), pool: Rc::clone(pool), limits: matched.limits.to_vec() })
}

/// A body that is announced larger than the backend takes is refused before anything is spent on it.
pub(crate) fn check_length(backend: &Backend, received: &Received) -> Result<(), Reject> {
    match (backend.max_request_body_size, received.body.size_hint().exact()) {
        (Some(most), Some(length)) if length > most => Err(Reject::BodyTooLarge { most }),
        _ => Ok(()),
    }
}
