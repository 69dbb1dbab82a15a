//! `GET /v1/policy` and `/v1/policy/history`.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{Json, extract::State};
use edgequota_config::problems::{Located, Place};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, ApiState};

/// The policy that is served.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CurrentAnswer {
    /// `<generation>-<short hash>`.
    version: String,
    /// Milliseconds since 1970 when it was issued, or more.
    generation: u64,
    /// SHA-256 of the canonical form, in hex.
    hash: String,
    /// `files`, `state_dir`, or `adopted from <node>`.
    source: String,
    /// When this process first served this content, milliseconds since 1970.
    since_ms: u64,
    /// Size of the canonical form in bytes.
    bytes: usize,
    /// Size on the wire in bytes.
    compressed_bytes: usize,
    /// Why the files as they stand now are not in force; absent: they are.
    files_refused: Option<RefusedAnswer>,
    /// The policy with every inherited value, secrets as `[REDACTED]`.
    policy: serde_json::Value,
}

/// Why files are refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedAnswer {
    /// When, milliseconds since 1970.
    at_ms: u64,
    /// How many problems there are.
    count: usize,
    /// At most 200 of them.
    problems: Vec<ProblemAnswer>,
}

/// One problem with a place.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemAnswer {
    /// File; absent for an environment variable.
    file: Option<String>,
    /// From 1.
    line: Option<usize>,
    /// From 1.
    column: Option<usize>,
    /// Environment variable that set the value.
    variable: Option<String>,
    /// `routes[3].match.path_regex`; empty for the whole file.
    path: String,
    /// What is wrong and what is allowed.
    message: String,
}

impl ProblemAnswer {
    pub(super) fn of(problem: &Located) -> ProblemAnswer {
        let (file, line, column, variable) = match &problem.place {
            Place::File { file, line, column } => (Some(file.clone()), Some(*line), Some(*column), None),
            Place::Env(name) => (None, None, None, Some(name.clone())),
            Place::Whole(file) => (Some(file.clone()), None, None, None),
        };
        ProblemAnswer { file, line, column, variable, path: problem.path.clone(), message: problem.message.clone() }
    }
}

/// The policy that is served, and how the files stand.
#[utoipa::path(
    get, path = "/v1/policy",
    responses((status = 200, body = CurrentAnswer), (status = 503, body = ApiError, description = "None is served yet"))
)]
pub(super) async fn current(State(state): State<ApiState>) -> Result<Json<CurrentAnswer>, ApiError> {
    let Some(published) = state.publisher.current() else {
        return Err(ApiError::no_policy(state.publisher.waiting()));
    };
    let spec = std::sync::Arc::clone(&published.spec);
    // A policy of 16 MiB takes a while to be written for people.
    let turn = state.checks.acquire().await.map_err(|error| ApiError::internal(error.to_string()))?;
    let policy = tokio::task::spawn_blocking(move || spec.redacted())
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?;
    drop(turn);
    Ok(Json(CurrentAnswer {
        version: published.version.to_string(),
        generation: published.version.generation,
        hash: published.version.hash.to_string(),
        source: published.origin.to_string(),
        since_ms: millis(published.since),
        bytes: published.bytes.len(),
        compressed_bytes: published.gzip.len(),
        files_refused: state.status.refused().map(|refused| RefusedAnswer {
            at_ms: millis(refused.at),
            count: refused.count,
            problems: refused.problems.iter().map(ProblemAnswer::of).collect(),
        }),
        policy,
    }))
}

/// The last versions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryAnswer {
    /// Newest first, at most 50, of this process only.
    versions: Vec<ChangeAnswer>,
}

/// One version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangeAnswer {
    /// Version.
    version: String,
    /// When it was first served, milliseconds since 1970.
    at_ms: u64,
    /// Where it came from.
    source: String,
    /// Lines of the pretty-printed policy that were added.
    added: usize,
    /// Lines that were removed.
    removed: usize,
    /// Unified diff against the version before; empty for the first. Secrets as `[REDACTED]`, or
    /// `[REDACTED, changed]`. Cut at 64 KiB.
    diff: String,
}

/// What was served, and what changed each time.
#[utoipa::path(get, path = "/v1/policy/history", responses((status = 200, body = HistoryAnswer)))]
pub(super) async fn history(State(state): State<ApiState>) -> Json<HistoryAnswer> {
    let versions = state.history.list().into_iter().map(|change| ChangeAnswer {
        version: change.version.to_string(),
        at_ms: millis(change.at),
        source: change.origin.to_string(),
        added: change.lines.0,
        removed: change.lines.1,
        diff: change.diff,
    });
    Json(HistoryAnswer { versions: versions.collect() })
}

pub(super) fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
