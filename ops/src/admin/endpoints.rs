//! The endpoints that both planes have.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};

use super::{Shared, errors};
use crate::probes::Answer;

/// Longest wait for the store in a deep check.
const PING: Duration = Duration::from_secs(2);
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Router with the shared endpoints; unknown methods on them: 405 with `Allow`, JSON bodies everywhere. It may be
/// merged with further routes: [`super::Bound::serve`] gives those the same error bodies.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/startz", get(async |State(shared): State<Shared>| shared.probes.startz()))
        .route("/healthz", get(async |State(shared): State<Shared>| shared.probes.healthz()))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/config", get(async |State(shared): State<Shared>| Json((shared.config)())))
        .route("/v1/stats", get(async |State(shared): State<Shared>| Json((shared.stats)())))
        .layer(axum::middleware::map_response(errors::as_json))
        .with_state(shared)
}

async fn readyz(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Answer {
    let mut answer = shared.probes.readyz();
    let deep = query.is_some_and(|query| query.split('&').any(|pair| matches!(pair, "deep=true" | "deep=1")));
    let Some(ping) = shared.ping_store.as_ref().filter(|_| deep) else {
        return answer;
    };
    let reached = tokio::time::timeout(PING, ping()).await.unwrap_or(false);
    answer.ok &= reached;
    answer.body["status"] = if answer.ok { "ready" } else { "not_ready" }.into();
    answer.body["redis"] = if reached { "ok" } else { "unreachable" }.into();
    answer
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let openmetrics = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("application/openmetrics-text"));
    let content_type = if openmetrics { OPENMETRICS } else { TEXT };
    ([(CONTENT_TYPE, content_type)], shared.metrics.render(openmetrics)).into_response()
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = if self.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self.body)).into_response()
    }
}
