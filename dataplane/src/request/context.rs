//! What one request carries from its first stage to its answer.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::{Answer, Done, Received, rate_headers::RateHeaders, record::Record, reject::Reject};
use crate::{
    body::Body,
    fields::{Fields, Known},
    listen::client::Client,
};

/// Longest request id that is taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// The request's own state.
pub(crate) struct Context {
    pub(crate) record: Record,
    /// Of the limits that were applied: they head every answer, whatever comes after.
    pub(crate) rate: Option<RateHeaders>,
    /// `server.request_timeout`.
    pub(crate) deadline: Option<Instant>,
    is_grpc: bool,
    to_head: bool,
}

impl Context {
    pub(crate) fn open(client: &Rc<Client>, received: &Received) -> Context {
        let timeout = client.worker.live().request_timeout;
        let record = Record::open(client, received, RequestId::of(&received.headers));
        Context {
            record,
            rate: None,
            deadline: timeout.and_then(|t| Instant::now().checked_add(t)),
            is_grpc: is_grpc(&received.headers),
            to_head: received.method == Method::HEAD,
        }
    }

    /// For what could not be read.
    pub(crate) fn unread(client: &Rc<Client>) -> Context {
        Context {
            record: Record::unread(client, RequestId::new()),
            rate: None,
            deadline: None,
            is_grpc: false,
            to_head: false,
        }
    }

    /// Takes a place under `max_concurrent_requests`, held until the record is written.
    pub(crate) fn admit(&mut self, client: &Client) -> Result<(), Reject> {
        let shared = &client.worker.shared;
        match shared.admission.request(client.worker.live().max_concurrent_requests) {
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
        let live = client.worker.live();
        if live.health_path.as_deref() != Some(received.uri.path()) {
            return None;
        }
        let (status, body): (_, &'static [u8]) = if client.worker.shared.probes.ready() {
            (StatusCode::OK, br#"{"status":"ready"}"#)
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, br#"{"status":"not_ready"}"#)
        };
        self.record.decision("health");
        let mut headers = Fields::default();
        headers.add(Known::ContentType, b"application/json");
        Some(Done { status, headers, body: self.body(bytes::Bytes::from_static(body)) })
    }

    /// HEAD is answered without a body.
    fn body(&self, bytes: bytes::Bytes) -> Body {
        if self.to_head || bytes.is_empty() { Body::default() } else { Body::full(bytes) }
    }

    /// Puts the common headers on an answer.
    pub(crate) fn answer(mut self, done: Done) -> Answer {
        let Done { status, mut headers, body } = done;
        headers.put(Known::XRequestId, self.record.request_id.as_bytes());
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
        put_date(&mut headers);
        let (status, body) = if self.is_grpc {
            (StatusCode::OK, Body::default())
        } else {
            let bytes = row.body(self.record.request_id.as_str());
            if self.to_head {
                headers.put_number(Known::ContentLength, bytes.len() as u64);
            }
            (row.status, self.body(bytes))
        };
        self.answer(Done { status, headers, body })
    }
}

pub(crate) fn is_grpc(headers: &Fields) -> bool {
    headers.get(Known::ContentType).is_some_and(|kind| {
        let rest = kind.strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
    })
}

/// `Date`, written once a second.
fn put_date(headers: &mut Fields) {
    thread_local! {
        static WRITTEN: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    WRITTEN.with_borrow_mut(|(when, text)| {
        if *when != second {
            *when = second;
            *text = httpdate::fmt_http_date(now);
        }
        headers.put(Known::Date, text.as_bytes());
    });
}

/// What names a request in logs, to the backend and to the client.
#[derive(Clone, Debug)]
pub(crate) enum RequestId {
    /// The client's, fit to be logged and passed on.
    Given(Bytes),
    /// 32 hexadecimal digits.
    Made([u8; 32]),
}

impl RequestId {
    fn of(headers: &Fields) -> RequestId {
        let mut given = headers.all(Known::XRequestId);
        match (given.next(), given.next()) {
            (Some(id), None) if is_request_id(id) => {
                headers.keep(Known::XRequestId).map_or_else(RequestId::new, RequestId::Given)
            }
            _ => RequestId::new(),
        }
    }

    fn new() -> RequestId {
        let mut digits = [0; 32];
        let random = fastrand::u128(..).to_be_bytes();
        for (pair, byte) in digits.chunks_exact_mut(2).zip(random) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        RequestId::Made(digits)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::Given(id) => id,
            RequestId::Made(digits) => digits,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

fn is_request_id(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fit_ids_are_taken_over() {
        let id = |text: &str| {
            let mut headers = Fields::default();
            headers.add(Known::XRequestId, text.as_bytes());
            RequestId::of(&headers).as_str().to_owned()
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
            let mut headers = Fields::default();
            headers.add(Known::ContentType, kind.as_bytes());
            assert_eq!(is_grpc(&headers), expected, "{kind}");
        }
    }
}
