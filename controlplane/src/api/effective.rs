//! `GET|POST /v1/limits/effective`.

use axum::{
    Json,
    extract::{RawQuery, State, rejection::JsonRejection},
};

use super::{ApiError, ApiState};
use crate::effective::{Described, Explained, answer::Answer};

/// Which limits a request meets, and what would happen to it now. Nothing is spent.
#[utoipa::path(
    get, path = "/v1/limits/effective",
    params(
        ("method" = Option<String>, Query, description = "Method; GET"),
        ("host" = Option<String>, Query, description = "Host"),
        ("path" = Option<String>, Query, description = "Path; /"),
        ("peer" = Option<String>, Query, description = "Address that the connection comes from"),
        ("client_ip" = Option<String>, Query, description = "Address of the client"),
        ("header" = Option<Vec<String>>, Query, description = "`Name:value`, may repeat"),
        ("trusted_proxies" = Option<Vec<String>>, Query, description = "Proxies whose forwarding headers are believed"),
    ),
    responses(
        (status = 200, body = Answer),
        (status = 400, body = ApiError),
        (status = 503, body = ApiError, description = "No policy is served yet"),
    )
)]
pub(super) async fn by_query(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Answer>, ApiError> {
    let query = query.unwrap_or_default();
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let described = Described::from_pairs(pairs.iter().map(|(name, value)| (&**name, &**value)));
    answer(&state, &described.map_err(|error| ApiError::bad_request(error.to_string()))?).await
}

/// The same with a JSON body: for long headers, and for credentials that must not stand in a URL.
#[utoipa::path(
    post, path = "/v1/limits/effective", request_body = Described,
    responses(
        (status = 200, body = Answer),
        (status = 400, body = ApiError),
        (status = 503, body = ApiError, description = "No policy is served yet"),
    )
)]
pub(super) async fn by_body(
    State(state): State<ApiState>,
    body: Result<Json<Described>, JsonRejection>,
) -> Result<Json<Answer>, ApiError> {
    let Json(described) = body.map_err(|error| ApiError::bad_request(error.body_text()))?;
    answer(&state, &described).await
}

async fn answer(state: &ApiState, described: &Described) -> Result<Json<Answer>, ApiError> {
    let request =
        described.request(&state.trusted_proxies).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let Some(published) = state.publisher.current() else {
        return Err(ApiError::no_policy(state.publisher.waiting()));
    };
    Ok(Json(Explained::published(&published).answer(&request, Some(&state.decider)).await))
}
