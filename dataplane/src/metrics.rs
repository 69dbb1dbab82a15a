//! The data plane's metrics: every name in one place.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use edgequota_counters::{Ask, Decision};
use edgequota_ops::metrics::{Counter, CounterVec, Histogram, HistogramVec, Metrics as Registry};
use edgequota_policy::{Limit, limit::Mode};
use http::Method;

const REQUEST_SECONDS: &[f64] = &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];
const SERVICE_SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
const BACKEND_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const REMAINING_TOKENS: &[f64] = &[0.0, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

/// Label sets of `limit_decisions_total`; a policy with more limits than this shares the rest.
const MAX_DECISION_SETS: usize = 30_000;
/// Methods times statuses that servers really send.
const MAX_REQUEST_SETS: usize = 1_000;
const MAX_REASONS: usize = 64;

/// Process-wide handles.
pub(crate) struct Metrics {
    pub(crate) requests_allowed: Counter,
    pub(crate) requests_limited: Counter,
    pub(crate) key_extract_errors: Counter,
    pub(crate) auth_errors: Counter,
    pub(crate) auth_denied: Counter,
    pub(crate) concurrent_requests_rejected: Counter,
    pub(crate) connections_rejected: Counter,
    pub(crate) backend_duration: Histogram,
    pub(crate) remaining_tokens: Histogram,
    request_duration: HistogramVec,
    refusals: CounterVec,
    limit_decisions: CounterVec,
    tenant_allowed: CounterVec,
    tenant_limited: CounterVec,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn new(registry: &Registry, max_tenants: usize) -> Metrics {
        register_unbuilt(registry);
        let tenant_allowed = registry.counter_vec(
            "edgequota_tenant_requests_allowed",
            "Requests allowed, by tenant.",
            &["tenant"],
            max_tenants,
        );
        let tenant_limited = registry.counter_vec(
            "edgequota_tenant_requests_limited",
            "Requests refused by a limit, by tenant.",
            &["tenant"],
            max_tenants,
        );
        let (allowed, limited) = (tenant_allowed.clone(), tenant_limited.clone());
        registry.counter_fn(
            "edgequota_tenant_label_overflow",
            "Times a tenant was counted as __overflow__ for want of room (rate_limit.max_tenant_labels).",
            Arc::new(move || allowed.overflowed() + limited.overflowed()),
        );
        Metrics {
            requests_allowed: registry
                .counter("edgequota_requests_allowed", "Requests let through, for whatever reason."),
            requests_limited: registry
                .counter("edgequota_requests_limited", "Requests refused because a limit was used up."),
            key_extract_errors: registry
                .counter("edgequota_key_extract_errors", "Requests whose limit key could not be extracted."),
            auth_errors: registry.counter("edgequota_auth_errors", "Calls to the auth service that failed."),
            auth_denied: registry.counter("edgequota_auth_denied", "Requests that the auth service refused."),
            concurrent_requests_rejected: registry.counter(
                "edgequota_concurrent_requests_rejected",
                "Requests refused because server.max_concurrent_requests were under way.",
            ),
            connections_rejected: registry.counter(
                "edgequota_connections_rejected",
                "Connections closed because server.max_connections were open.",
            ),
            backend_duration: registry
                .histogram_vec(
                    "edgequota_backend_duration_seconds",
                    "Time from choosing a backend to the head of its answer.",
                    BACKEND_SECONDS,
                    &[],
                    1,
                )
                .with(&[]),
            remaining_tokens: registry
                .histogram_vec(
                    "edgequota_ratelimit_remaining_tokens",
                    "Tokens left after a decision, of the limit with the fewest.",
                    REMAINING_TOKENS,
                    &[],
                    1,
                )
                .with(&[]),
            request_duration: registry.histogram_vec(
                "edgequota_request_duration_seconds",
                "Time from the request's head to the end of its answer.",
                REQUEST_SECONDS,
                &["method", "status_code"],
                MAX_REQUEST_SETS,
            ),
            refusals: registry.counter_vec(
                "edgequota_refusals",
                "Requests refused, by reason.",
                &["reason"],
                MAX_REASONS,
            ),
            limit_decisions: registry.counter_vec(
                "edgequota_limit_decisions",
                "What each limit said, by itself.",
                &["limit", "mode", "decision"],
                MAX_DECISION_SETS,
            ),
            tenant_allowed,
            tenant_limited,
        }
    }

    /// `rate_limit.max_tenant_labels` of a new policy.
    pub(crate) fn set_max_tenants(&self, most: usize) {
        self.tenant_allowed.set_cap(most);
        self.tenant_limited.set_cap(most);
    }

    pub(crate) fn refused(&self, reason: &str) {
        self.refusals.with(&[reason]).inc();
    }
}

/// What later features will count: dashboards find every name of the contract from the first day.
fn register_unbuilt(registry: &Registry) {
    for (name, help) in [
        ("edgequota_tenant_key_rejected", "Invalid tenant keys answered by the external limits service."),
        ("edgequota_events_dropped", "Usage events dropped because the buffer was full."),
        ("edgequota_events_send_failures", "Batches of usage events that could not be delivered."),
        ("edgequota_external_rl_semaphore_rejected", "Calls to the external limits service refused for want of room."),
        (
            "edgequota_external_rl_singleflight_shared",
            "Calls to the external limits service that shared another one's answer.",
        ),
    ] {
        registry.counter(name, help);
    }
    for (name, help) in [
        ("edgequota_auth_duration_seconds", "Time the auth service took."),
        ("edgequota_external_rl_duration_seconds", "Time the external limits service took."),
    ] {
        registry.histogram_vec(name, help, SERVICE_SECONDS, &[], 1).with(&[]);
    }
}

/// One worker's handles of labelled metrics: found once, then used without a lock.
#[derive(Default)]
pub(crate) struct WorkerMetrics {
    /// A handful in practice, the busiest near the front: sought one by one. At most [`MAX_REQUEST_SETS`].
    requests: RefCell<Vec<((&'static str, u16), Histogram)>>,
    limits: RefCell<LimitTable>,
    tenants: RefCell<HashMap<Box<str>, Rc<TenantCells>>>,
}

impl std::fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WorkerMetrics")
    }
}

type LimitTable = HashMap<(Arc<str>, Mode), Rc<LimitCells>>;

struct LimitCells {
    allowed: Counter,
    refused: Counter,
    unknown: Counter,
}

struct TenantCells {
    allowed: Counter,
    limited: Counter,
}

/// Entries of a worker's own tables before they are dropped and found again.
const MAX_CACHED: usize = 20_000;

impl WorkerMetrics {
    /// A request is over.
    pub(crate) fn request_took(&self, metrics: &Metrics, method: &'static str, status: u16, seconds: f64) {
        let mut requests = self.requests.borrow_mut();
        if let Some(at) = requests.iter().position(|(key, _)| key.1 == status && key.0 == method) {
            requests[at].1.observe(seconds);
            // Moves towards the front, a place at a time.
            if at > 0 {
                requests.swap(at, at - 1);
            }
            return;
        }
        let histogram = metrics.request_duration.with(&[method, itoa::Buffer::new().format(status)]);
        histogram.observe(seconds);
        if requests.len() < MAX_REQUEST_SETS {
            requests.push(((method, status), histogram));
        }
    }

    /// A decision fell.
    pub(crate) fn decided(&self, metrics: &Metrics, decision: &Decision, asks: &[Ask]) {
        let allowed = matches!(decision.verdict, edgequota_counters::Verdict::Allowed(_));
        let mut least = None;
        for (state, ask) in decision.limits.iter().zip(asks) {
            let cells = self.limit(metrics, &state.limit.name, state.limit.mode);
            match state.passed {
                Some(true) => cells.allowed.inc(),
                Some(false) => cells.refused.inc(),
                None => cells.unknown.inc(),
            }
            if state.limit.mode == Mode::Shadow {
                continue;
            }
            least = match (least, state.remaining) {
                (Some(a), Some(b)) => Some(u64::min(a, b)),
                (a, b) => a.or(b),
            };
            if counts_tenants(&ask.limit) {
                let cells = self.tenant(metrics, &ask.subject.display());
                if allowed { cells.allowed.inc() } else { cells.limited.inc() }
            }
        }
        if let Some(least) = least {
            #[allow(clippy::cast_precision_loss)]
            metrics.remaining_tokens.observe(least as f64);
        }
    }

    fn limit(&self, metrics: &Metrics, name: &Arc<str>, mode: Mode) -> Rc<LimitCells> {
        let mut limits = self.limits.borrow_mut();
        if limits.len() >= MAX_CACHED {
            limits.clear();
        }
        let cells = limits.entry((Arc::clone(name), mode)).or_insert_with(|| {
            let mode = if mode == Mode::Shadow { "shadow" } else { "enforce" };
            let cell = |decision| metrics.limit_decisions.with(&[name, mode, decision]);
            Rc::new(LimitCells { allowed: cell("allowed"), refused: cell("refused"), unknown: cell("unknown") })
        });
        Rc::clone(cells)
    }

    fn tenant(&self, metrics: &Metrics, tenant: &str) -> Rc<TenantCells> {
        let mut tenants = self.tenants.borrow_mut();
        if let Some(cells) = tenants.get(tenant) {
            return Rc::clone(cells);
        }
        if tenants.len() >= MAX_CACHED {
            tenants.clear();
        }
        let cells = Rc::new(TenantCells {
            allowed: metrics.tenant_allowed.with(&[tenant]),
            limited: metrics.tenant_limited.with(&[tenant]),
        });
        tenants.insert(tenant.into(), Rc::clone(&cells));
        cells
    }
}

/// A method as a label: the ones that exist, and `other`.
pub(crate) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

/// Whether the subjects of a limit are tenants: keys that a header names, not addresses.
pub(crate) fn counts_tenants(limit: &Limit) -> bool {
    matches!(limit.key_type(), "header" | "composite")
}
