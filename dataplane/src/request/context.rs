//! What one request carries from its first stage to its answer.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

use super::{Answer, Done, Received, rate_headers::RateHeaders, record::Record, reject::Reject};
use crate::{body::Body, listen::client::Client};

/// Longest request id that is taken over from a client.
const MAX_REQUEST_ID: usize = 128;
const X_REQUEST_ID: &str = "x-request-id";

/// The request's own state.
pub(crate) struct Context {
    pub(crate) request_id: HeaderValue,
    pub(crate) record: Box<Record>,
    /// Of the limits that were applied: they head every answer, whatever comes after.
    pub(crate) rate: Option<RateHeaders>,
    /// `server.request_timeout`.
    pub(crate) deadline: Option<Instant>,
    is_grpc: bool,
    to_head: bool,
}

impl Context {
    pub(crate) fn open(client: &Rc<Client>, received: &Received) -> Context {
        let request_id = request_id(&received.headers);
        let timeout = client.worker.shared.live().request_timeout;
        Context {
            record: Box::new(Record::open(client, received, &request_id)),
            request_id,
            rate: None,
            deadline: timeout.and_then(|t| Instant::now().checked_add(t)),
            is_grpc: is_grpc(&received.headers),
            to_head: received.method == Method::HEAD,
        }
    }

    /// For what could not be read.
    pub(crate) fn unread(client: &Rc<Client>) -> Context {
        let request_id = new_request_id();
        Context {
            record: Box::new(Record::unread(client, &request_id)),
            request_id,
            rate: None,
            deadline: None,
            is_grpc: false,
            to_head: false,
        }
    }

    /// Takes a place under `max_concurrent_requests`, held until the record is written.
    pub(crate) fn admit(&mut self, client: &Client) -> Result<(), Reject> {
        let shared = &client.worker.shared;
        match shared.admission.request(shared.live().max_concurrent_requests) {
            Some(slot) => {
                self.record.holds(slot);
                Ok(())
            }
            None => {
                shared.metrics.concurrent_requests_rejected.inc();
                Err(Reject::Overloaded { why: "server.max_concurrent_requests are under way".into() })
            }
        }
    }

    /// Answers `server.health_path` with the readiness of the process.
    pub(crate) fn health(&mut self, client: &Client, received: &Received) -> Option<Done> {
        let live = client.worker.shared.live();
        if live.health_path.as_deref() != Some(received.uri.path()) {
            return None;
        }
        let (status, body): (_, &'static [u8]) = if client.worker.shared.probes.ready() {
            (StatusCode::OK, br#"{"status":"ready"}"#)
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, br#"{"status":"not_ready"}"#)
        };
        self.record.decision("health");
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Some(Done { status, headers, body: self.body(bytes::Bytes::from_static(body)) })
    }

    /// HEAD is answered without a body.
    fn body(&self, bytes: bytes::Bytes) -> Body {
        if self.to_head || bytes.is_empty() { Body::default() } else { Body::full(bytes) }
    }

    /// Puts the common headers on an answer.
    pub(crate) fn answer(mut self, done: Done) -> Answer {
        let Done { status, mut headers, body } = done;
        headers.insert(X_REQUEST_ID, self.request_id);
        if let Some(rate) = &self.rate {
            rate.put_on(&mut headers);
        }
        self.record.answered(status, &headers);
        Answer { status, headers, body, record: self.record, until: self.deadline }
    }

    /// Turns a refusal into an answer.
    pub(crate) fn refuse(mut self, reject: &Reject) -> Answer {
        let row = reject.row();
        self.record.refused(&row, reject.detail());
        let mut headers = row.headers(self.is_grpc);
        if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(std::time::SystemTime::now())) {
            headers.insert(header::DATE, date);
        }
        let (status, body) = if self.is_grpc {
            (StatusCode::OK, Body::default())
        } else {
            let bytes = row.body(self.request_id.to_str().unwrap_or_default());
            if self.to_head {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            }
            (row.status, self.body(bytes))
        };
        self.answer(Done { status, headers, body })
    }
}

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|v| {
        let rest = v.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
    })
}

/// The client's id where it is fit to be logged and passed on, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let mut given = headers.get_all(X_REQUEST_ID).iter();
    match (given.next(), given.next()) {
        (Some(id), None) if is_request_id(id.as_bytes()) => id.clone(),
        _ => new_request_id(),
    }
}

fn is_request_id(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b))
}

/// 32 hexadecimal digits.
fn new_request_id() -> HeaderValue {
    let mut digits = [0; 32];
    let mut random = fastrand::u128(..);
    for digit in &mut digits {
        *digit = b"0123456789abcdef"[(random & 15) as usize];
        random >>= 4;
    }
    HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_fit_ids_are_taken_over() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(text).unwrap());
            request_id(&headers).to_str().unwrap().to_owned()
        };
        assert_eq!(id("a-b_c.d:1"), "a-b_c.d:1");
        for bad in ["", "a b", "a\"b", &"x".repeat(129)] {
            assert_eq!(id(bad).len(), 32, "{bad:?}");
        }
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_grpc(&headers), expected, "{kind}");
        }
    }
}
