//! `GET /v1/dataplanes`.

use std::time::SystemTime;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiState, policy::millis};
use crate::fleet::Entry;

/// The fleet.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FleetAnswer {
    /// Version that is served; absent: none yet.
    policy: Option<String>,
    /// Data planes that are connected.
    connected: usize,
    /// Of those, how many have the served content in force.
    in_step: usize,
    /// Workers of all of them.
    workers: u32,
    /// The size that data planes are told; absent in the first 30 s.
    told_planes: Option<u32>,
    /// Each of them.
    dataplanes: Vec<DataPlaneAnswer>,
}

/// One data plane.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DataPlaneAnswer {
    /// Host name, or `control_plane.node_id`.
    node: String,
    /// Random for each process.
    instance: String,
    /// Labels.
    labels: std::collections::BTreeMap<String, String>,
    /// Version of its binary.
    binary: String,
    /// Workers.
    workers: u32,
    /// Where it connects from.
    peer: String,
    /// The stream is encrypted.
    tls: bool,
    /// It proved who it is, by certificate or token.
    authenticated: bool,
    /// When the stream began, milliseconds since 1970.
    connected_at_ms: u64,
    /// Seconds since it was last heard.
    silent_seconds: f64,
    /// What it has in force.
    accepted: Option<String>,
    /// Where it has that from: `control_plane`, `state_dir`, `own_file`.
    source: Option<String>,
    /// Seconds since it has that in force, as far as this control plane knows.
    accepted_age_seconds: Option<f64>,
    /// It has the served content in force.
    in_step: bool,
    /// It was sent this and has not answered yet.
    pending: Option<String>,
    /// What it refused last, and why.
    rejected: Option<RejectedAnswer>,
    /// Why it gets nothing.
    withheld: Option<String>,
}

/// A refusal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RejectedAnswer {
    /// What was refused.
    version: String,
    /// `unsupported`: not sent again on this stream. `local`: sent again later.
    class: &'static str,
    /// Why.
    reason: String,
    /// Path in the policy, where known.
    path: Option<String>,
    /// Seconds since then.
    age_seconds: f64,
}

/// Who is connected, and what each has accepted and refused.
#[utoipa::path(get, path = "/v1/dataplanes", responses((status = 200, body = FleetAnswer)))]
pub(super) async fn list(State(state): State<ApiState>) -> Json<FleetAnswer> {
    let served = state.publisher.current().map(|p| p.version);
    let entries = state.fleet.list();
    let count = state.fleet.count();
    let in_step = |e: &Entry| served.is_some_and(|served| e.accepted.is_some_and(|v| v.hash == served.hash));
    let told = *state.fleet.size().borrow();
    Json(FleetAnswer {
        policy: served.map(|v| v.to_string()),
        connected: count.planes as usize,
        in_step: served.map_or(0, |served| state.fleet.accepted(served.hash)),
        workers: count.workers,
        told_planes: told.map(|size| size.planes),
        dataplanes: entries.iter().map(|e| one(e, in_step(e))).collect(),
    })
}

fn one(entry: &Entry, in_step: bool) -> DataPlaneAnswer {
    let identity = entry.identity.clone().unwrap_or_default();
    DataPlaneAnswer {
        node: identity.node,
        instance: identity.instance,
        labels: identity.labels,
        binary: identity.binary,
        workers: identity.workers,
        peer: entry.peer.to_string(),
        tls: entry.tls,
        authenticated: entry.authenticated,
        connected_at_ms: millis(entry.connected),
        silent_seconds: entry.heard.elapsed().as_secs_f64(),
        accepted: entry.accepted.map(|v| v.to_string()),
        source: entry.accepted.map(|_| entry.source.clone()),
        accepted_age_seconds: entry.accepted_at.map(age),
        in_step,
        pending: entry.pending.map(|v| v.to_string()),
        rejected: entry.rejected.as_ref().map(|r| RejectedAnswer {
            version: r.version.to_string(),
            class: r.class.as_str(),
            reason: r.reason.clone(),
            path: (!r.path.is_empty()).then(|| r.path.clone()),
            age_seconds: age(r.at),
        }),
        withheld: entry.withheld.clone(),
    }
}

fn age(since: SystemTime) -> f64 {
    since.elapsed().unwrap_or_default().as_secs_f64()
}
