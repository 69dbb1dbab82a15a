//! The admin server: probes, metrics, `/v1/config`, `/v1/stats`; the control plane adds its API to it.

mod bodies;
mod connections;
mod endpoints;
mod errors;
mod serve;
mod timed;
mod token;

#[cfg(test)]
mod tests;

use std::{pin::Pin, sync::Arc};

use crate::{metrics::Metrics, probes::Probes};

pub use endpoints::router;
pub use errors::error_response;
pub use serve::Bound;
pub use token::AdminToken;

/// Pings the store: true when it answered.
pub type PingStore = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Makes a JSON document when it is asked for.
pub type Document = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What the shared endpoints need from the plane. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// Probes.
    pub probes: Probes,
    /// Metrics.
    pub metrics: Metrics,
    /// `/readyz?deep=true`: pings the store; no answer within 2 s counts as unreachable. None where there is no store.
    pub ping_store: Option<PingStore>,
    /// `/v1/config`: the configuration in force, redacted.
    pub config: Document,
    /// `/v1/stats`.
    pub stats: Document,
}
