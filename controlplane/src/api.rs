//! The control plane's JSON API on the admin port. Only counters can be changed here, with the admin token.

mod counters;
mod effective;
mod error;
mod fleet;
mod openapi;
mod policy;
mod validate;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use edgequota_counters::Decider;
use edgequota_ops::admin::AdminToken;
use edgequota_policy::snapshot::MAX_PLAIN;
use ipnet::IpNet;

pub use error::ApiError;
pub use openapi::document;

use crate::{fleet::Fleet, history::History, publish::Publisher, status::Status};

/// What the endpoints answer from.
#[derive(Clone)]
pub struct ApiState {
    /// What is served.
    pub publisher: Arc<Publisher>,
    /// Who is connected.
    pub fleet: Fleet,
    /// What was served.
    pub history: Arc<History>,
    /// How the files stand.
    pub status: Arc<Status>,
    /// Looks at counters and changes them.
    pub decider: Decider,
    /// `server.trusted_proxies` of this process, for descriptions that name none.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Laid over documents that are checked, as over the files.
    pub environment: Arc<edgequota_config::load::Environment>,
    /// Documents that are checked at the same moment: it is the one expensive thing that anyone may ask for.
    pub checks: Arc<tokio::sync::Semaphore>,
    /// What changing calls must show.
    pub token: AdminToken,
    /// Calls about counters at the same moment: the store is there for the data planes.
    pub counter_calls: Arc<tokio::sync::Semaphore>,
}

/// The endpoints. A wrong method is answered with 405 and `Allow`.
pub fn router(state: ApiState) -> Router {
    let small = DefaultBodyLimit::max(counters::MOST_BODY);
    let of_subject = get(counters::read).patch(counters::edit).delete(counters::reset).layer(small);
    Router::new()
        // The rest of the path, slashes and all: a network's subject may stand there as it is.
        .route("/v1/counters/{*subject}", of_subject)
        .route("/v1/counters", get(counters::nobody))
        .route("/v1/counters/", get(counters::nobody))
        .route("/v1/limits/effective", get(effective::by_query).post(effective::by_body))
        .route("/v1/policy", get(policy::current))
        .route("/v1/policy/history", get(policy::history))
        .route("/v1/policy/validate", post(validate::validate))
        .route("/v1/dataplanes", get(fleet::list))
        .route("/openapi.json", get(openapi::serve))
        .layer(DefaultBodyLimit::max(MAX_PLAIN))
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(state)
}
