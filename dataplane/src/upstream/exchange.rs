//! One request to one backend: protocol, connection, at most one retry.

use std::{rc::Rc, sync::Arc};

use bytes::BytesMut;
use edgequota_policy::{Backend, backend::BackendProtocol};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};

use super::{
    Pool, UpstreamError,
    h1::{self, Patience, upload_framing},
    h2, probe,
};
use crate::{
    body::Body,
    h1::{send::Sender, write},
};

/// A request as it goes to the backend. Hop-by-hop headers are gone, forwarding headers are set.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    /// Normalised path, without the backend's prefix.
    pub(crate) path: String,
    /// With its question mark; empty for none.
    pub(crate) query: String,
    /// For `Host` or `:authority`.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) expect_continue: bool,
    /// The client speaks HTTP/2.
    pub(crate) from_h2: bool,
    pub(crate) is_grpc: bool,
}

/// An answer of a backend.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// `h1` or `h2`, for the access log.
    pub(crate) protocol: &'static str,
}

/// Sends and waits for the head of the answer.
pub(crate) async fn exchange(pool: &Rc<Pool>, request: Outgoing) -> Result<Incoming, UpstreamError> {
    if uses_h2(pool, &request).await? { over_h2(pool, request).await } else { over_h1(pool, request).await }
}

async fn uses_h2(pool: &Pool, request: &Outgoing) -> Result<bool, UpstreamError> {
    match pool.backend.protocol {
        BackendProtocol::H1 => Ok(false),
        BackendProtocol::H2 | BackendProtocol::H3 => Ok(true),
        BackendProtocol::Auto if request.is_grpc => Ok(true),
        BackendProtocol::Auto if request.from_h2 => probe::speaks_h2(pool).await,
        BackendProtocol::Auto => Ok(false),
    }
}

async fn over_h1(pool: &Rc<Pool>, request: Outgoing) -> Result<Incoming, UpstreamError> {
    let Outgoing { method, path, query, host, mut headers, body, expect_continue, .. } = request;
    join_cookies(&mut headers);
    let backend = &pool.backend;
    let framing = upload_framing(&body);
    let mut head = BytesMut::new();
    // Host goes first (RFC 9110 section 7.2).
    let mut lines = HeaderMap::with_capacity(headers.len() + 1);
    if let Some(host) = host {
        lines.insert(header::HOST, host);
    }
    lines.extend(headers);
    if expect_continue {
        lines.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    write::request_head(&mut head, &method, ["", &backend.path_prefix, &path, &query], &lines, framing);
    drop(lines);
    let patience = Patience { answer: backend.timeout, proceed: backend.expect_continue_timeout };
    let may_repeat = body.is_empty() && is_idempotent(&method);
    let again = may_repeat.then(|| head.clone());
    let first = attempt(pool, Sender::new(head, body, framing), expect_continue, &method, patience, false).await;
    let answered = match (first, again) {
        (Err((true, _)), Some(head)) => {
            attempt(pool, Sender::new(head, Body::default(), framing), false, &method, patience, true).await
        }
        (first, _) => first,
    };
    let (head, body) = answered.map_err(|(_, error)| error)?.into_parts(Rc::clone(pool));
    Ok(Incoming { status: head.status, headers: head.headers, body: Body::answer_h1(body), protocol: "h1" })
}

/// One try. The flag of a failure says that the connection was an old one on which nothing came back: the backend may
/// just have closed it.
async fn attempt(
    pool: &Rc<Pool>,
    sender: Sender,
    hold: bool,
    method: &Method,
    patience: Patience,
    fresh: bool,
) -> Result<h1::Answered, (bool, UpstreamError)> {
    let conn = pool.take_h1(fresh).await.map_err(|error| (false, error))?;
    let reused = conn.reused;
    // Without a time to wait the body goes at once.
    let sender = if hold && patience.proceed.is_some() { sender.hold() } else { sender };
    h1::exchange(conn, sender, method, patience).await.map_err(|failure| match failure {
        h1::Failure::Broke { why, silent } => (reused && silent, unavailable(&pool.backend, why)),
        h1::Failure::Malformed(why) => (false, unavailable(&pool.backend, format!("its answer is malformed: {why}"))),
        h1::Failure::TimedOut => (false, timed_out(&pool.backend)),
        h1::Failure::Client(error) => (false, UpstreamError::Client(error)),
    })
}

fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

/// HTTP/2 splits cookies for its compression; HTTP/1 allows one line only (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut whole = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(whole) = HeaderValue::from_bytes(&whole) {
        headers.insert(header::COOKIE, whole);
    }
}

async fn over_h2(pool: &Rc<Pool>, request: Outgoing) -> Result<Incoming, UpstreamError> {
    let backend = Arc::clone(&pool.backend);
    let Outgoing { method, path, query, host, headers, body, .. } = request;
    let uri = h2_uri(&backend, &path, &query, host.as_ref())
        .ok_or_else(|| unavailable(&backend, "the request target cannot be written".to_owned()))?;
    let again = body.is_empty().then(|| (method.clone(), uri.clone(), headers.clone()));
    let first = attempt_h2(pool, build(method, uri, headers, body), false).await;
    let answer = match (first, again) {
        (Err((true, _)), Some((method, uri, headers))) => {
            attempt_h2(pool, build(method, uri, headers, Body::default()), true).await
        }
        (first, _) => first,
    };
    let (head, body) = answer.map_err(|(_, error)| error)?.into_parts();
    Ok(Incoming { status: head.status, headers: head.headers, body: Body::answer_h2(body), protocol: "h2" })
}

async fn attempt_h2(
    pool: &Rc<Pool>,
    request: Request<Body>,
    fresh: bool,
) -> Result<http::Response<h2::AnswerH2>, (bool, UpstreamError)> {
    let conn = pool.take_h2(fresh).await.map_err(|error| (false, error))?;
    conn.exchange(request, pool.backend.timeout).await.map_err(|failure| match failure {
        h2::Failure::Broke { why, retry } => (retry, unavailable(&pool.backend, why)),
        h2::Failure::TimedOut => (false, timed_out(&pool.backend)),
        h2::Failure::Client(error) => (false, UpstreamError::Client(error)),
    })
}

fn build(method: Method, uri: Uri, headers: HeaderMap, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    request
}

fn h2_uri(backend: &Backend, path: &str, query: &str, host: Option<&HeaderValue>) -> Option<Uri> {
    let authority = match host.and_then(|h| h.to_str().ok()) {
        Some(host) => host.to_owned(),
        None => format!("{}:{}", backend.host, backend.port),
    };
    Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(format!("{}{path}{query}", backend.path_prefix))
        .build()
        .ok()
}

fn unavailable(backend: &Backend, why: String) -> UpstreamError {
    UpstreamError::Unavailable { backend: backend.name.to_string(), why }
}

fn timed_out(backend: &Backend) -> UpstreamError {
    UpstreamError::TimedOut { backend: backend.name.to_string(), why: "no answer within backend.timeout" }
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
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
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
