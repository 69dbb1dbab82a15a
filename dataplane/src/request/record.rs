//! What is known of a request when it is over: its line in the access log, its place in the metrics. Written once, on
//! every way out, by being dropped.

use std::{
    borrow::Cow,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use edgequota_counters::{Ask, Decision, Verdict};
use http::{Method, StatusCode, Uri, Version};
use tokio::time::Instant;

use super::{
    Broken, Received,
    context::{self, RequestId},
    limit::{self, Asks},
    reject::{CLIENT_GONE, Row},
    route::{Routed, Target},
};
use crate::{
    admission::RequestSlot,
    fields::{Fields, Known},
    listen::client::Client,
    metrics::{counts_tenants, method_label},
    worker::Current,
};

/// Longest client-given text in a log line.
const MAX_TEXT: usize = 1024;

/// One request's record.
#[derive(Debug)]
pub(crate) struct Record {
    client: Rc<Client>,
    began: Instant,
    method: Method,
    version: Version,
    pub(crate) request_id: RequestId,
    user_agent: Option<Bytes>,
    uri: Uri,
    /// Where it is not the path in `uri`.
    normalised: Option<Box<str>>,
    host: Option<Bytes>,
    policy_version: Option<Rc<str>>,
    route: Option<Arc<str>>,
    backend_url: Option<Arc<str>>,
    backend_protocol: &'static str,
    /// Subject and limit that decided; the subject of a credential only as a hash.
    rl_key: String,
    tenant: Tenant,
    limit: Option<Arc<str>>,
    decision: &'static str,
    status: u16,
    grpc_status: Option<Bytes>,
    bytes: u64,
    error: Option<String>,
    is_grpc: bool,
    is_stream: bool,
    slot: Option<RequestSlot>,
}

/// `tenant_id` of the access log.
#[derive(Debug)]
enum Tenant {
    None,
    /// The same as `rl_key`.
    Key,
    Other(String),
}

/// The subject as people see it; taken out where it is the text itself.
fn shown(ask: &mut Ask) -> String {
    if ask.subject.secret { ask.subject.display().into_owned() } else { std::mem::take(&mut ask.subject.raw) }
}

impl Record {
    pub(crate) fn open(client: &Rc<Client>, received: &Received, request_id: RequestId) -> Record {
        let mut record = Record::unread(client, request_id);
        record.method = received.method.clone();
        record.version = received.version;
        record.user_agent = received.headers.keep(Known::UserAgent);
        record.uri = received.uri.clone();
        record.host = received.headers.keep(Known::Host);
        record.is_grpc = context::is_grpc(&received.headers);
        record
    }

    /// For a request that could not be read.
    pub(crate) fn unread(client: &Rc<Client>, request_id: RequestId) -> Record {
        Record {
            client: Rc::clone(client),
            began: Instant::now(),
            method: Method::GET,
            version: Version::HTTP_11,
            request_id,
            user_agent: None,
            uri: Uri::default(),
            normalised: None,
            host: None,
            policy_version: None,
            route: None,
            backend_url: None,
            backend_protocol: "",
            rl_key: String::new(),
            tenant: Tenant::None,
            limit: None,
            decision: "",
            status: CLIENT_GONE,
            grpc_status: None,
            bytes: 0,
            error: None,
            is_grpc: false,
            is_stream: false,
            slot: None,
        }
    }

    pub(crate) fn policy(&mut self, current: &Current) {
        self.policy_version = Some(Rc::clone(&current.version));
    }

    pub(crate) fn target(&mut self, target: &Target<'_>) {
        if let Cow::Owned(path) = &target.path {
            self.normalised = Some(path.as_str().into());
        }
        self.host = target.host_header.cloned();
    }

    pub(crate) fn routed(&mut self, routed: &Routed) {
        self.route.clone_from(&routed.route);
        self.backend_url = Some(Arc::clone(&routed.pool.backend.url));
    }

    pub(crate) fn holds(&mut self, slot: RequestSlot) {
        self.slot = Some(slot);
    }

    pub(crate) fn backend_protocol(&mut self, protocol: &'static str) {
        self.backend_protocol = protocol;
    }

    pub(crate) fn decision(&mut self, decision: &'static str) {
        self.decision = decision;
    }

    /// The limit that decided: the one that refused, else the first.
    pub(crate) fn decided(&mut self, mut asks: Asks, decision: &Decision) {
        use edgequota_counters::Refusal;
        self.decision = limit::in_words(&decision.verdict);
        let index = match &decision.verdict {
            Verdict::Refused(Refusal::Limited { limit, .. } | Refusal::Blocked { limit }) => *limit,
            _ => 0,
        };
        self.tenant = match asks.iter().position(|ask| counts_tenants(&ask.limit)) {
            None => Tenant::None,
            Some(at) if at == index => Tenant::Key,
            Some(at) => Tenant::Other(shown(&mut asks[at])),
        };
        if let Some(ask) = asks.get_mut(index) {
            self.limit = Some(Arc::clone(&ask.limit.name));
            self.rl_key = shown(ask);
        }
    }

    pub(crate) fn refused(&mut self, row: &Row, detail: Option<&str>) {
        if self.decision.is_empty() {
            self.decision = row.code;
        }
        self.error = Some(detail.unwrap_or(&row.message).to_owned());
        self.client.worker.shared.metrics.refused(row.code);
    }

    /// The head of the answer is known.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &Fields) {
        self.status = status.as_u16();
        self.grpc_status = headers.keep(Known::GrpcStatus);
        self.is_stream =
            self.is_grpc || headers.get(Known::ContentType).is_some_and(|v| v.starts_with(b"text/event-stream"));
    }

    /// Bytes of the body that were sent in all.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    pub(crate) fn sent_more(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The answer did not reach the client whole.
    pub(crate) fn broke(&mut self, why: &Broken) {
        self.error = Some(why.to_string());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let shared = &self.client.worker.shared;
        // A stream's length says nothing about how fast we are.
        if !self.is_stream {
            self.client.worker.metrics.request_took(
                &shared.metrics,
                method_label(&self.method),
                self.status,
                took.as_secs_f64(),
            );
        }
        if self.client.worker.live().access_log {
            self.log(took);
        }
    }
}

impl Record {
    fn log(&self, took: Duration) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            if self.write(line, took).is_ok() {
                self.client.worker.shared.access_log.line(line);
            }
        });
    }

    fn write(&self, line: &mut Vec<u8>, took: Duration) -> std::io::Result<()> {
        use std::io::Write;
        fn text(value: &Option<Bytes>) -> &[u8] {
            value.as_deref().unwrap_or_default()
        }
        write!(
            line,
            r#"{{"time":"{}","level":"info","msg":"access","method":"#,
            humantime::format_rfc3339_millis(SystemTime::now())
        )?;
        json(line, self.method.as_str().as_bytes())?;
        line.extend_from_slice(br#","path":"#);
        json(line, self.normalised.as_deref().unwrap_or(self.uri.path()).as_bytes())?;
        write!(
            line,
            r#","status":{},"duration_ms":{:.3},"bytes":{},"remote_addr":"{}""#,
            self.status,
            took.as_secs_f64() * 1e3,
            self.bytes,
            self.client.peer
        )?;
        let tenant = match &self.tenant {
            Tenant::None => "",
            Tenant::Key => &self.rl_key,
            Tenant::Other(id) => id,
        };
        for (name, value) in [
            ("request_id", self.request_id.as_bytes()),
            ("user_agent", text(&self.user_agent)),
            ("proto", proto(self.version).as_bytes()),
            ("originalHost", text(&self.host)),
            ("backend_url", self.backend_url.as_deref().unwrap_or_default().as_bytes()),
            ("backend_protocol", self.backend_protocol.as_bytes()),
            ("rl_key", self.rl_key.as_bytes()),
            ("tenant_id", tenant.as_bytes()),
            ("policy_version", self.policy_version.as_deref().unwrap_or_default().as_bytes()),
            ("route", self.route.as_deref().unwrap_or_default().as_bytes()),
            ("limit", self.limit.as_deref().unwrap_or_default().as_bytes()),
            ("decision", self.decision.as_bytes()),
            ("grpc_status", text(&self.grpc_status)),
        ] {
            write!(line, r#","{name}":"#)?;
            json(line, value)?;
        }
        if let Some(error) = &self.error {
            line.extend_from_slice(br#","error":"#);
            json(line, error.as_bytes())?;
        }
        line.extend_from_slice(b"}\n");
        Ok(())
    }
}

thread_local! {
    static LINE: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// A JSON string, clipped. What needs no escape, which is nearly everything, is copied.
fn json(line: &mut Vec<u8>, text: &[u8]) -> std::io::Result<()> {
    let text = clipped(text);
    if text.iter().all(|b| (0x20..0x7f).contains(b) && *b != b'"' && *b != b'\\') {
        line.push(b'"');
        line.extend_from_slice(text);
        line.push(b'"');
        return Ok(());
    }
    serde_json::to_writer(line, &String::from_utf8_lossy(text)).map_err(std::io::Error::from)
}

fn clipped(text: &[u8]) -> &[u8] {
    &text[..text.len().min(MAX_TEXT)]
}

fn proto(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
