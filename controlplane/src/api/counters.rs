//! `GET|PATCH|DELETE /v1/counters/{subject}`.

use std::net::SocketAddr;

use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, RawQuery, State, rejection::BytesRejection},
    response::{IntoResponse as _, Response},
};
use edgequota_counters::store::Purpose;
use http::{HeaderMap, StatusCode, Uri};

use super::{ApiError, ApiState};
use crate::{
    counters::{
        Actor, Changing, MOST_SHOWN, Selection, Standing,
        answer::{CountersAnswer, answer},
        change, look,
        patch::{self, Patch},
        select, shown,
    },
    effective::Explained,
};

/// Where subjects are.
const PREFIX: &str = "/v1/counters/";
/// Largest body of a change.
pub(super) const MOST_BODY: usize = 64 * 1024;

/// The counters of a subject: of every limit of the policy in force that can count it. Nothing is spent.
#[utoipa::path(
    get, path = "/v1/counters/{subject}",
    params(
        ("subject" = String, Path, description = "Who is counted, as extracted, percent-encoded: a tenant, an address, `tenant:segment`"),
        ("limit" = Option<Vec<String>>, Query, description = "Only this limit, may repeat; all that can count the subject"),
    ),
    responses(
        (status = 200, body = CountersAnswer),
        (status = 400, body = ApiError),
        (status = 503, body = ApiError, description = "No policy is served yet, or the store does not answer"),
    )
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Json<CountersAnswer>, ApiError> {
    let (text, names) = (subject(&uri)?, limits(query.as_deref())?);
    let (explained, selection) = selected(&state, &text, &names)?;
    let _turn = state.counter_calls.acquire().await.map_err(|error| ApiError::internal(error.to_string()))?;
    let replies = look(&state.decider, &selection.asks)
        .await
        .map_err(|error| ApiError::store(format!("the store did not answer: {error}")))?;
    let standing: Vec<Standing> = replies.into_iter().map(|reply| Standing { reply, before: None }).collect();
    Ok(Json(answer(&explained, &text, &selection, &standing, false)))
}

/// Fills the counters of a subject, as far as leases that are out leave room. Every data plane knows within a second.
#[utoipa::path(
    delete, path = "/v1/counters/{subject}",
    params(
        ("subject" = String, Path, description = "Who is counted, as extracted, percent-encoded"),
        ("limit" = Option<Vec<String>>, Query, description = "Only this limit, may repeat; all that can count the subject"),
    ),
    responses(
        (status = 200, body = CountersAnswer),
        (status = 400, body = ApiError),
        (status = 401, body = ApiError, description = "The admin token is missing or wrong"),
        (status = 403, body = ApiError, description = "No admin token is configured"),
        (status = 503, body = ApiError, description = "No policy is served yet, or the store does not answer"),
    )
)]
pub(super) async fn reset(
    State(state): State<ApiState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<CountersAnswer>, Response> {
    state.token.check(&headers)?;
    let wanted = || {
        // Somebody who narrows it there must not see everything reset.
        if !body.map_err(unreadable)?.is_empty() {
            return Err(ApiError::bad_request("DELETE takes no body: name limits in the query, limit=NAME"));
        }
        Ok((limits(query.as_deref())?, Purpose::Reset))
    };
    let (names, purpose) = wanted().map_err(ApiError::into_response)?;
    changed(&state, peer, &uri, &names, purpose).await.map_err(ApiError::into_response)
}

/// Sets the tokens of a subject's counters, or adds some; never below none, never above the burst less what is leased.
/// Every data plane knows within a second.
#[utoipa::path(
    patch, path = "/v1/counters/{subject}",
    params(("subject" = String, Path, description = "Who is counted, as extracted, percent-encoded")),
    request_body = Patch,
    responses(
        (status = 200, body = CountersAnswer),
        (status = 400, body = ApiError),
        (status = 401, body = ApiError, description = "The admin token is missing or wrong"),
        (status = 403, body = ApiError, description = "No admin token is configured"),
        (status = 503, body = ApiError, description = "No policy is served yet, or the store does not answer"),
    )
)]
pub(super) async fn edit(
    State(state): State<ApiState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<CountersAnswer>, Response> {
    state.token.check(&headers)?;
    let wanted = || {
        if query.is_some_and(|query| !query.is_empty()) {
            return Err(ApiError::bad_request("PATCH takes no query: name the limit in the body, \"limit\": \"NAME\""));
        }
        let (limit, purpose) = patch::parse(&body.map_err(unreadable)?).map_err(ApiError::bad_request)?;
        Ok((Vec::from_iter(limit), purpose))
    };
    let (names, purpose) = wanted().map_err(ApiError::into_response)?;
    changed(&state, peer, &uri, &names, purpose).await.map_err(ApiError::into_response)
}

/// `/v1/counters` without a subject.
pub(super) async fn nobody() -> ApiError {
    ApiError::bad_request("name a subject: /v1/counters/{subject}")
}

async fn changed(
    state: &ApiState,
    peer: SocketAddr,
    uri: &Uri,
    names: &[String],
    purpose: Purpose,
) -> Result<Json<CountersAnswer>, ApiError> {
    let text = subject(uri)?;
    let (explained, selection) = selected(state, &text, names)?;
    let _turn = state.counter_calls.acquire().await.map_err(|error| ApiError::internal(error.to_string()))?;
    let with = Changing { decider: &state.decider, fleet: &state.fleet };
    let actor = Actor { peer, subject: &shown(&text, selection.secret) };
    let standing =
        change(&with, &actor, &selection, purpose).await.map_err(|broke| ApiError::store(broke.to_string()))?;
    Ok(Json(answer(&explained, &text, &selection, &standing, true)))
}

fn selected(state: &ApiState, text: &str, names: &[String]) -> Result<(Explained, Selection), ApiError> {
    let Some(published) = state.publisher.current() else {
        return Err(ApiError::no_policy(state.publisher.waiting()));
    };
    let selection = select(&published.policy, text, names).map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok((Explained::published(&published), selection))
}

fn unreadable(error: BytesRejection) -> ApiError {
    let error_code = if error.status() == StatusCode::PAYLOAD_TOO_LARGE { "request_too_large" } else { "bad_request" };
    ApiError { status: error.status(), error: error_code, message: error.body_text() }
}

/// The subject of a path. It may be a credential: no error repeats it.
fn subject(uri: &Uri) -> Result<String, ApiError> {
    let raw = uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let bytes = decoded(raw.as_bytes())
        .ok_or_else(|| ApiError::bad_request("the subject holds a % without two hex digits: write % as %25"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| ApiError::bad_request("the subject is not valid UTF-8 once it is percent-decoded"))?;
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(ApiError::bad_request("the subject holds a control character, which no request's subject does"));
    }
    Ok(text)
}

fn decoded(raw: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(bytes)
}

/// `limit=NAME`, which may repeat.
fn limits(query: Option<&str>) -> Result<Vec<String>, ApiError> {
    let mut names = Vec::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "limit" {
            let name: String = name.chars().take(64).collect();
            return Err(ApiError::bad_request(format!(
                "unknown parameter \"{name}\": known is limit, which may repeat"
            )));
        }
        if names.len() == MOST_SHOWN {
            return Err(ApiError::bad_request(format!("at most {MOST_SHOWN} limits in one call")));
        }
        names.push(value.into_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_subject_is_decoded_once() {
        let of = |path: &str| subject(&path.parse().unwrap()).map_err(|error| error.message);
        assert_eq!(of("/v1/counters/acme").unwrap(), "acme");
        assert_eq!(of("/v1/counters/a%2Fb%7Bc%7D%25d+e").unwrap(), "a/b{c}%d+e");
        assert_eq!(of("/v1/counters/2001:db8::/64").unwrap(), "2001:db8::/64");
        assert_eq!(of("/v1/counters/%252F").unwrap(), "%2F");
        assert_eq!(of("/v1/counters/sm%C3%B8r").unwrap(), "sm\u{f8}r");
        for (path, words) in [("%", "%25"), ("%4", "%25"), ("%zz", "%25"), ("%ff", "UTF-8"), ("a%0Ab", "control")] {
            let error = of(&format!("/v1/counters/{path}")).unwrap_err();
            assert!(error.contains(words), "{path}: {error}");
        }
    }

    #[test]
    fn only_limits_are_asked_for() {
        assert_eq!(limits(Some("limit=a%2Fb&limit=c")).unwrap(), ["a/b", "c"]);
        assert!(limits(None).unwrap().is_empty());
        assert!(limits(Some("limits=a")).unwrap_err().message.contains("\"limits\""));
        assert!(limits(Some(&"limit=a&".repeat(1001))).is_err());
    }
}
