//! `POST /v1/policy/validate`.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use edgequota_config::{Document, load::Environment};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, ApiState, policy::ProblemAnswer};
use crate::{assemble, publish::Prepared, status::MOST_PROBLEMS};

/// How a document is called in problems.
const NAME: &str = "request body";

/// Whether a document would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ValidateAnswer {
    /// It would be published as it is.
    valid: bool,
    /// SHA-256 of its canonical form, in hex; absent when it is not valid.
    hash: Option<String>,
    /// It is what is served already.
    unchanged: bool,
    /// `invalid_policy`, or absent.
    error: Option<&'static str>,
    /// In words.
    message: String,
    /// Every problem, at most 200.
    problems: Vec<ProblemAnswer>,
    /// What is allowed, but worth a look.
    warnings: Vec<ProblemAnswer>,
}

/// Checks a policy (YAML or JSON) as a file would be checked, with the environment of this process over it. Nothing is published. A document that does not do is
/// answered with 422 and every problem with its line and column.
#[utoipa::path(
    post, path = "/v1/policy/validate",
    request_body(content = String, content_type = "application/yaml"),
    responses((status = 200, body = ValidateAnswer), (status = 422, body = ValidateAnswer), (status = 413, body = ApiError))
)]
pub(super) async fn validate(
    State(state): State<ApiState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|error| ApiError {
        status: error.status(),
        error: if error.status() == StatusCode::PAYLOAD_TOO_LARGE { "request_too_large" } else { "bad_request" },
        message: error.body_text(),
    })?;
    let turn = state.checks.acquire().await.map_err(|error| ApiError::internal(error.to_string()))?;
    let served = state.publisher.current().map(|p| p.version.hash);
    let environment = Arc::clone(&state.environment);
    let checked = tokio::task::spawn_blocking(move || check(&body, &environment)).await;
    drop(turn);
    let (prepared, answer) = checked.map_err(|error| ApiError::internal(error.to_string()))?;
    let Some(prepared) = prepared else {
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, Json(answer)).into_response());
    };
    let unchanged = served == Some(prepared.hash());
    let message = if unchanged { "valid, and what is served already" } else { "valid" };
    let hash = Some(prepared.hash().to_string());
    Ok(Json(ValidateAnswer { unchanged, hash, message: message.into(), ..answer }).into_response())
}

fn check(body: &[u8], environment: &Environment) -> (Option<Prepared>, ValidateAnswer) {
    let assembled = std::str::from_utf8(body)
        .map_err(|_| edgequota_config::Problems::whole(NAME, "is not valid UTF-8"))
        .and_then(|text| Document::parse(NAME, text))
        .and_then(|document| assemble::document(document, Some(environment)));
    let prepared = assembled.and_then(|assembled| {
        let warnings = assembled.warnings.iter().map(ProblemAnswer::of).collect::<Vec<_>>();
        let prepared = Prepared::new(assembled.spec)
            .map_err(|error| edgequota_config::Problems::whole(NAME, error.to_string()))?;
        Ok((prepared, warnings))
    });
    match prepared {
        Ok((prepared, warnings)) => {
            let answer = ValidateAnswer {
                valid: true,
                hash: None,
                unchanged: false,
                error: None,
                message: String::new(),
                problems: Vec::new(),
                warnings,
            };
            (Some(prepared), answer)
        }
        Err(problems) => {
            let count = problems.0.len();
            let answer = ValidateAnswer {
                valid: false,
                hash: None,
                unchanged: false,
                error: Some("invalid_policy"),
                message: format!("{count} problem{}", if count == 1 { "" } else { "s" }),
                problems: problems.0.iter().take(MOST_PROBLEMS).map(ProblemAnswer::of).collect(),
                warnings: Vec::new(),
            };
            (None, answer)
        }
    }
}
