//! The closed table of refusals: each one's status, gRPC code, error code, label and words.

use std::{io::Write, time::Duration};

use bytes::Bytes;
use http::StatusCode;

use crate::{
    body::BodyError,
    fields::{Fields, Known},
    upstream::UpstreamError,
};

/// nginx's number for "the client went away before there was an answer".
pub(crate) const CLIENT_GONE: u16 = 499;

/// Why a request is refused. There is no other way to refuse one.
#[derive(Debug, Clone)]
pub(crate) enum Reject {
    BadRequest {
        why: String,
    },
    HeadersTooLarge {
        why: String,
    },
    BodyTooLarge {
        most: u64,
    },
    NoRoute,
    /// Nothing is in force yet.
    NoPolicy,
    /// `max_concurrent_requests`.
    Overloaded {
        why: String,
    },
    KeyExtraction {
        why: String,
        code: u16,
    },
    /// A limit is used up; without a time when waiting does not help (`block: true`).
    RateLimited {
        limit: String,
        retry_after: Option<Duration>,
    },
    /// failClosed.
    StoreUnavailable {
        code: u16,
    },
    BackendUnavailable {
        why: String,
    },
    BackendTimeout {
        why: String,
    },
    /// `server.request_timeout`.
    RequestTimeout,
    NotBuilt {
        why: String,
    },
    /// The request body paused or dripped for longer than `server.read_timeout`.
    ClientSlow {
        why: String,
    },
    /// The client went away while it sent its body: nobody reads this, but the log tells it.
    ClientGone,
    /// The request body is malformed.
    ClientBody {
        why: String,
    },
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) status: StatusCode,
    /// `error` of the body, and the label `reason`.
    pub(crate) code: &'static str,
    /// What a gRPC client sees.
    pub(crate) grpc: u8,
    /// For people; names what to change where the reader can change it.
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl Reject {
    pub(crate) fn row(&self) -> Row {
        let row = |status, code, grpc, message: String| Row { status, code, grpc, message, retry_after: None };
        match self {
            Reject::BadRequest { why } => row(StatusCode::BAD_REQUEST, "bad_request", 3, why.clone()),
            Reject::ClientBody { why } => row(StatusCode::BAD_REQUEST, "bad_request", 3, why.clone()),
            Reject::ClientGone => row(status(CLIENT_GONE, 400), "client_gone", 1, "the client went away".into()),
            Reject::ClientSlow { why } => row(StatusCode::REQUEST_TIMEOUT, "request_timeout", 4, why.clone()),
            Reject::HeadersTooLarge { why } => {
                row(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", 8, why.clone())
            }
            Reject::BodyTooLarge { most } => row(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                8,
                format!("the request body is larger than the {most} bytes allowed"),
            ),
            Reject::NoRoute => row(StatusCode::NOT_FOUND, "no_route", 12, "no route matches this host and path".into()),
            Reject::NoPolicy => {
                row(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", 14, "no policy is in force yet".into())
            }
            Reject::Overloaded { why } => row(StatusCode::SERVICE_UNAVAILABLE, "overloaded", 14, why.clone()),
            Reject::KeyExtraction { why, code } => row(status(*code, 500), "key_extraction_failed", 13, why.clone()),
            Reject::RateLimited { limit, retry_after: None } => row(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                8,
                format!("blocked by an override of limit {limit}"),
            ),
            Reject::RateLimited { limit, retry_after } => Row {
                retry_after: *retry_after,
                ..row(StatusCode::TOO_MANY_REQUESTS, "rate_limited", 8, format!("rate limit {limit} exceeded"))
            },
            Reject::StoreUnavailable { code } => Row {
                retry_after: Some(Duration::from_secs(1)),
                ..row(
                    status(*code, 429),
                    "service_unavailable",
                    14,
                    "the rate limit cannot be checked at the moment".into(),
                )
            },
            Reject::BackendUnavailable { .. } => {
                row(StatusCode::BAD_GATEWAY, "backend_unavailable", 14, "the backend is unavailable".into())
            }
            Reject::BackendTimeout { .. } => {
                row(StatusCode::GATEWAY_TIMEOUT, "backend_timeout", 14, "the backend did not answer in time".into())
            }
            Reject::RequestTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                "backend_timeout",
                14,
                "the request took longer than server.request_timeout".into(),
            ),
            Reject::NotBuilt { why } => row(StatusCode::NOT_IMPLEMENTED, "not_implemented", 12, why.clone()),
        }
    }

    /// What an operator should know and the client should not: addresses and errors of the inside.
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Reject::BackendUnavailable { why } | Reject::BackendTimeout { why } => Some(why),
            _ => None,
        }
    }
}

fn status(code: u16, otherwise: u16) -> StatusCode {
    StatusCode::from_u16(code).or_else(|_| StatusCode::from_u16(otherwise)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl From<UpstreamError> for Reject {
    fn from(error: UpstreamError) -> Reject {
        let why = error.to_string();
        match error {
            UpstreamError::Unavailable { .. } => Reject::BackendUnavailable { why },
            UpstreamError::TimedOut { .. } => Reject::BackendTimeout { why },
            UpstreamError::Full { .. } => {
                Reject::Overloaded { why: "the backend has all of its connections in use".into() }
            }
            UpstreamError::Client(BodyError::TooLarge { most }) => Reject::BodyTooLarge { most },
            UpstreamError::Client(BodyError::RequestTimeout) => Reject::RequestTimeout,
            UpstreamError::Client(BodyError::ClientGone) => Reject::ClientGone,
            UpstreamError::Client(BodyError::ClientSlow) => Reject::ClientSlow { why },
            UpstreamError::Client(_) => Reject::ClientBody { why },
        }
    }
}

impl Row {
    /// Headers of the answer.
    pub(crate) fn headers(&self, is_grpc: bool) -> Fields {
        let mut headers = Fields::default();
        let kind = if is_grpc { "application/grpc" } else { "application/json" };
        headers.add(Known::ContentType, kind.as_bytes());
        headers.add(Known::CacheControl, b"no-store");
        if is_grpc {
            headers.put_number(Known::GrpcStatus, self.grpc.into());
            headers.add(Known::GrpcMessage, percent_encoded(&self.message).as_bytes());
        }
        if let Some(wait) = self.retry_after {
            headers.put_number(Known::RetryAfter, whole_seconds(wait));
            if self.code == "rate_limited" {
                headers.write(Known::XRetryIn, |out| {
                    // Writing to a Vec cannot fail.
                    let _ = write!(out, "{}", edgequota_policy::GoDuration::new(in_milliseconds(wait)));
                });
            }
        }
        headers
    }

    /// The JSON body.
    pub(crate) fn body(&self, request_id: &str) -> Bytes {
        #[derive(serde::Serialize)]
        struct Error<'a> {
            error: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after: Option<u64>,
            #[serde(skip_serializing_if = "str::is_empty")]
            request_id: &'a str,
        }
        let retry_after = self.retry_after.map(whole_seconds);
        let body = Error { error: self.code, message: &self.message, retry_after, request_id };
        serde_json::to_vec(&body).map(Bytes::from).unwrap_or_default()
    }
}

/// Rounded up and at least one: who comes back then is never early.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Rounded up, so that waiting that long is never early either.
fn in_milliseconds(wait: Duration) -> Duration {
    let whole = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let rounded = Duration::from_millis(whole);
    if rounded < wait { rounded + Duration::from_millis(1) } else { rounded }
}

/// `grpc-message` is percent-encoded UTF-8 (gRPC over HTTP/2, "Responses").
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn retry_times_are_never_early() {
        let row =
            Reject::RateLimited { limit: "default".into(), retry_after: Some(Duration::from_micros(1_000_001)) }.row();
        let headers = row.headers(false);
        assert_eq!(
            (headers.get(Known::RetryAfter), headers.get(Known::XRetryIn)),
            (Some(&b"2"[..]), Some(&b"1.001s"[..]))
        );
        let body: serde_json::Value = serde_json::from_slice(&row.body("abc")).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"error": "rate_limited", "message": "rate limit default exceeded", "retry_after": 2, "request_id": "abc"})
        );
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }

    #[test]
    fn grpc_clients_are_told_in_their_own_way() {
        let headers = Reject::BadRequest { why: "100 % wrong\n".into() }.row().headers(true);
        assert_eq!(
            (headers.get(Known::GrpcStatus), headers.get(Known::GrpcMessage)),
            (Some(&b"3"[..]), Some(&b"100 %25 wrong%0A"[..]))
        );
    }
}
