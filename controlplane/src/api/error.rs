//! Refusals of the API: `{"error": CODE, "message": TEXT}`.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// The body of a refusal.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ApiError {
    /// HTTP status; not part of the body.
    #[serde(skip)]
    #[schema(ignore)]
    pub(crate) status: StatusCode,
    /// A code for programs.
    pub error: &'static str,
    /// For people: what to change.
    pub message: String,
}

impl ApiError {
    pub(crate) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::BAD_REQUEST, error: "bad_request", message: message.into() }
    }

    pub(crate) fn no_policy(message: impl Into<String>) -> ApiError {
        let mut message = message.into();
        if message.is_empty() {
            message = "the policy files are being read for the first time: ask again in a moment".into();
        }
        ApiError { status: StatusCode::SERVICE_UNAVAILABLE, error: "no_policy", message }
    }

    pub(crate) fn store(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::SERVICE_UNAVAILABLE, error: "store_unavailable", message: message.into() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::INTERNAL_SERVER_ERROR, error: "internal", message: message.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

/// axum adds `Allow`.
pub(super) async fn method_not_allowed() -> ApiError {
    ApiError {
        status: StatusCode::METHOD_NOT_ALLOWED,
        error: "method_not_allowed",
        message: "this path does not take that method: see the Allow header".into(),
    }
}
