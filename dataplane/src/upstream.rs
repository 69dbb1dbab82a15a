//! The way to the backends: pools, connections, exchanges.

pub(crate) mod connect;
pub(crate) mod exchange;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod resolve;

pub(crate) use pool::{Pool, Pools};

use crate::body::BodyError;

/// Why a request got no answer from its backend.
#[derive(Debug, thiserror::Error)]
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
