//! The admin server: probes, metrics, `/v1/config`, `/v1/stats`; the control plane adds its API to it.
use crate::{metrics::Metrics, probes::Probes};
use edgequota_config::settings::Admin;
use std::{net::SocketAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

/// What the shared endpoints need from the plane.
pub struct Shared {
    /// Probes.
    pub probes: Probes,
    /// Metrics.
    pub metrics: Metrics,
    /// `/readyz?deep=true`: pings the store, answers within 2 s; None where there is no store.
    pub ping_store:
        Option<Arc<dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>>,
    /// `/v1/config`: the configuration in force, redacted.
    pub config: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// `/v1/stats`.
    pub stats: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}
/// Router with the shared endpoints; unknown methods on them: 405 with `Allow`, JSON bodies everywhere.
pub fn router(_shared: Shared) -> axum::Router {
    todo!()
}
/// A bound listener that does not serve yet.
pub struct Bound {}
impl Bound {
    /// Binds `admin.address` (dual stack, see [`crate::resources::listen`]).
    pub fn bind(_admin: &Admin) -> std::io::Result<Bound> {
        todo!()
    }
    /// The real address.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }
    /// Serves until `stop`, with the timeouts and bounds (connections 256, body 17 MiB) of the settings.
    pub async fn serve(self, _router: axum::Router, _stop: CancellationToken) {
        todo!()
    }
}
/// Guards changing calls: constant-time comparison, 403 with none configured, 401 for a wrong one.
#[derive(Clone, Debug)]
pub struct AdminToken {}
impl AdminToken {
    /// From `admin.token` or `admin.token_file` (watched).
    pub fn new(_admin: &Admin) -> AdminToken {
        todo!()
    }
    /// Checks `Authorization: Bearer ...`; the error is the ready answer.
    #[allow(clippy::result_large_err)]
    pub fn check(&self, _headers: &http::HeaderMap) -> Result<(), axum::response::Response> {
        todo!()
    }
}
