//! One request to one backend: protocol, connection, at most one retry.

use std::{borrow::Cow, rc::Rc, sync::Arc};

use bytes::Bytes;
use edgequota_policy::{Backend, backend::BackendProtocol};
use http::{Method, Request, StatusCode, Uri, Version};

use super::{
    Pool, UpstreamError,
    h1::{self, Patience, upload_framing},
    h2, is_idempotent, probe,
};
use crate::{
    body::Body,
    fields::{Fields, Known},
    h1::{send::Sender, write},
    spare,
};

/// A request as it goes to the backend. Hop-by-hop headers are gone, forwarding headers are set.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) method: Method,
    /// Normalised path, without the backend's prefix.
    pub(crate) path: Cow<'a, str>,
    /// With its question mark; empty for none.
    pub(crate) query: &'a str,
    /// For `Host` or `:authority`.
    pub(crate) host: Option<Bytes>,
    pub(crate) headers: Fields,
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
    pub(crate) headers: Fields,
    pub(crate) body: Body,
    /// `h1` or `h2`, for the access log.
    pub(crate) protocol: &'static str,
}

/// A try that brought no answer.
struct Failed {
    error: UpstreamError,
    /// The backend had certainly, or very likely, not begun on it: the connection was an old one, or it was refused.
    may_repeat: bool,
}

impl From<UpstreamError> for Failed {
    fn from(error: UpstreamError) -> Failed {
        Failed { error, may_repeat: false }
    }
}

/// Which protocol a request goes out with.
enum Speaks {
    H1,
    H2,
    /// A probe found HTTP/2 a while ago.
    H2AsBelieved,
}

/// Sends and waits for the head of the answer.
pub(crate) async fn exchange(pool: &Rc<Pool>, request: Outgoing<'_>) -> Result<Incoming, UpstreamError> {
    match speaks(pool, &request).await? {
        Speaks::H1 => over_h1(pool, request).await,
        Speaks::H2 => over_h2(pool, request).await,
        Speaks::H2AsBelieved => {
            let again = request.copy();
            let result = over_h2(pool, request).await;
            if !matches!(result, Err(UpstreamError::Unavailable { .. })) {
                return result;
            }
            // Perhaps another server stands at that address by now.
            pool.belief.withdraw();
            match again {
                Some(again) if !probe::speaks_h2(pool).await? => over_h1(pool, again).await,
                _ => result,
            }
        }
    }
}

async fn speaks(pool: &Rc<Pool>, request: &Outgoing<'_>) -> Result<Speaks, UpstreamError> {
    match pool.backend.protocol {
        BackendProtocol::H1 => Ok(Speaks::H1),
        BackendProtocol::H2 | BackendProtocol::H3 => Ok(Speaks::H2),
        BackendProtocol::Auto if request.is_grpc => Ok(Speaks::H2),
        BackendProtocol::Auto if request.from_h2 && probe::speaks_h2(pool).await? => Ok(Speaks::H2AsBelieved),
        BackendProtocol::Auto => Ok(Speaks::H1),
    }
}

impl<'a> Outgoing<'a> {
    /// The same request once more; `None` when it must not be sent twice.
    fn copy(&self) -> Option<Outgoing<'a>> {
        (self.body.is_empty() && is_idempotent(&self.method)).then(|| Outgoing {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query,
            host: self.host.clone(),
            headers: self.headers.copy(),
            body: Body::default(),
            expect_continue: false,
            from_h2: self.from_h2,
            is_grpc: self.is_grpc,
        })
    }
}

async fn over_h1(pool: &Rc<Pool>, request: Outgoing<'_>) -> Result<Incoming, UpstreamError> {
    let Outgoing { method, path, query, host, mut headers, body, expect_continue, .. } = request;
    join_cookies(&mut headers);
    let backend = &pool.backend;
    let framing = upload_framing(&body);
    let mut head = spare::text();
    let own_host;
    let host = match &host {
        Some(host) => host,
        None => {
            own_host = authority(backend);
            own_host.as_bytes()
        }
    };
    let line = write::RequestLine { method: &method, target: ["", &backend.path_prefix, &path, query], host };
    write::request_head(&mut head, &line, &headers, framing, expect_continue);
    drop(headers);
    let patience = Patience { answer: backend.timeout, proceed: backend.expect_continue_timeout };
    let again = body.is_empty() && is_idempotent(&method);
    let mut sender = Sender::new(head, body, framing);
    // Without a time to wait the body goes at once.
    if expect_continue && patience.proceed.is_some() {
        sender.hold();
    }
    let mut answered = attempt(pool, &mut sender, &method, patience, false).await;
    if again && matches!(answered, Err(Failed { may_repeat: true, .. })) {
        sender.again();
        answered = attempt(pool, &mut sender, &method, patience, true).await;
    }
    let (head, body) = answered.map_err(|failed| failed.error)?.into_parts(Rc::clone(pool), sender);
    Ok(Incoming { status: head.status, headers: head.headers, body: Body::answer_h1(body), protocol: "h1" })
}

async fn attempt(
    pool: &Rc<Pool>,
    sender: &mut Sender,
    method: &Method,
    patience: Patience,
    fresh: bool,
) -> Result<h1::Answered, Failed> {
    let conn = pool.take_h1(fresh).await?;
    let reused = conn.reused;
    h1::exchange(conn, sender, method, patience).await.map_err(|failure| match failure {
        h1::Failure::Broke { why, silent } => {
            Failed { error: unavailable(&pool.backend, why), may_repeat: reused && silent }
        }
        h1::Failure::Malformed(why) => unavailable(&pool.backend, format!("its answer is malformed: {why}")).into(),
        h1::Failure::TimedOut => timed_out(&pool.backend).into(),
        h1::Failure::Client(error) => UpstreamError::Client(error).into(),
    })
}

/// HTTP/2 splits cookies for its compression; HTTP/1 allows one line only (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut Fields) {
    let mut crumbs = headers.all(Known::Cookie);
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut whole = first.to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb);
    }
    headers.put(Known::Cookie, &whole);
}

async fn over_h2(pool: &Rc<Pool>, request: Outgoing<'_>) -> Result<Incoming, UpstreamError> {
    let backend = Arc::clone(&pool.backend);
    let Outgoing { method, path, query, host, headers, body, .. } = request;
    let uri = h2_uri(&backend, &path, query, host.as_deref())
        .ok_or_else(|| unavailable(&backend, "the request target cannot be written".to_owned()))?;
    let again = body.is_empty().then(|| (method.clone(), uri.clone(), headers.copy()));
    let first = attempt_h2(pool, build(method, uri, headers, body), false).await;
    let answer = match (first, again) {
        (Err(Failed { may_repeat: true, .. }), Some((method, uri, headers))) => {
            attempt_h2(pool, build(method, uri, headers, Body::default()), true).await
        }
        (first, _) => first,
    };
    let (head, body) = answer.map_err(|failed| failed.error)?.into_parts();
    Ok(Incoming {
        status: head.status,
        headers: Fields::from_map(&head.headers),
        body: Body::answer_h2(body),
        protocol: "h2",
    })
}

async fn attempt_h2(
    pool: &Rc<Pool>,
    request: Request<Body>,
    fresh: bool,
) -> Result<http::Response<h2::AnswerH2>, Failed> {
    let conn = pool.take_h2(fresh).await?;
    conn.exchange(request, pool.backend.timeout).await.map_err(|failure| match failure {
        h2::Failure::Broke { why, retry } => Failed { error: unavailable(&pool.backend, why), may_repeat: retry },
        h2::Failure::TimedOut => timed_out(&pool.backend).into(),
        h2::Failure::Client(error) => UpstreamError::Client(error).into(),
    })
}

fn build(method: Method, uri: Uri, headers: Fields, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers.to_map();
    request
}

fn h2_uri(backend: &Backend, path: &str, query: &str, host: Option<&[u8]>) -> Option<Uri> {
    let authority = match host.and_then(|h| std::str::from_utf8(h).ok()) {
        Some(host) => host.to_owned(),
        None => authority(backend),
    };
    Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(format!("{}{path}{query}", backend.path_prefix))
        .build()
        .ok()
}

/// Host and port, as a request names them.
fn authority(backend: &Backend) -> String {
    if backend.host.contains(':') {
        format!("[{}]:{}", backend.host, backend.port)
    } else {
        format!("{}:{}", backend.host, backend.port)
    }
}

fn unavailable(backend: &Backend, why: String) -> UpstreamError {
    UpstreamError::Unavailable { backend: backend.name.to_string(), why }
}

fn timed_out(backend: &Backend) -> UpstreamError {
    UpstreamError::TimedOut { backend: backend.name.to_string(), why: "no answer within backend.timeout" }
}
