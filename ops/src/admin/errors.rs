//! Errors as JSON, also those that the router itself makes.

use axum::{
    Json,
    body::{Body, HttpBody as _, to_bytes},
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use serde_json::json;

/// Longest text of the router that is kept as the message.
const MAX_MESSAGE: usize = 16 * 1024;

/// An error in the form of the admin port: `{"error": code, "message": text}`.
pub fn error_response(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": code, "message": message }))).into_response()
}

/// Turns an error without a JSON body (404 and 405 of the router, rejections of extractors) into one with.
pub(super) async fn as_json(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let plain = response.headers().get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !plain {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = match body.size_hint().exact() {
        Some(0) => String::new(),
        _ => match to_bytes(body, MAX_MESSAGE).await {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        },
    };
    let (code, usual) = meaning(status);
    let message = if text.is_empty() { usual } else { text.as_str() };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = json!({ "error": code, "message": message }).to_string();
    Response::from_parts(parts, Body::from(body))
}

fn meaning(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::NOT_FOUND => ("not_found", "nothing is served at this path"),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "the methods in Allow are served at this path"),
        StatusCode::PAYLOAD_TOO_LARGE => ("request_too_large", "the body is too large"),
        StatusCode::REQUEST_TIMEOUT => ("request_timeout", "the request did not arrive in time"),
        status if status.is_client_error() => ("bad_request", status.canonical_reason().unwrap_or("bad request")),
        _ => ("internal", "the request failed, the log says why"),
    }
}
