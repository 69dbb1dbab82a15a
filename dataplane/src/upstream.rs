//! The way to the backends: pools, connections, exchanges.

pub(crate) mod connect;
pub(crate) mod exchange;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod resolve;
pub(crate) mod single_flight;

pub(crate) use pool::{Pool, Pools};

use http::Method;

use crate::body::BodyError;

/// Methods that may be sent twice (RFC 9110 section 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

/// Why a request got no answer from its backend.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// 502.
    #[error("backend {backend} is unavailable: {why}")]
    Unavailable { backend: String, why: String },
    /// 504.
    #[error("backend {backend} did not answer in time: {why}")]
    TimedOut { backend: String, why: &'static str },
    /// 503: `max_conns` are in use.
    #[error("backend {backend} has all of its max_conns connections in use")]
    Full { backend: String },
    /// The request body failed: not the backend's fault.
    #[error(transparent)]
    Client(BodyError),
}
