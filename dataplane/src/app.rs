//! Builds a data plane in order: bind early, serve late, ready last.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use edgequota_config::Settings;
use edgequota_counters::Counters;
use edgequota_ops::{
    access_log::AccessLog,
    metrics::{Counter, Metrics as Registry},
    probes::Probes,
    resources,
    shutdown::Shutdown,
    watchdog::Watchdog,
};

use crate::{
    admission::{Admission, bearable_connections, memory_limit},
    live::Live,
    metrics::Metrics,
    policy_slot::PolicySlot,
    upstream::{pool::Caps, resolve::Resolver},
    worker::Shared,
    workers,
};

/// A worker without a turn for this long is taken to be stuck.
const STUCK: Duration = Duration::from_secs(60);
/// `max_tenant_labels` until a policy says otherwise.
const MAX_TENANTS: usize = 1_000;

/// What a data plane is built from; whoever runs several in one process gives each its own.
pub struct Parts {
    /// In force at start.
    pub settings: Arc<Settings>,
    /// Counting.
    pub counters: Counters,
    /// Probes.
    pub probes: Probes,
    /// Metrics.
    pub registry: Registry,
    /// Where access lines go.
    pub access_log: AccessLog,
    /// The process's stage.
    pub shutdown: Shutdown,
    /// Where policies appear.
    pub slot: Arc<PolicySlot>,
}

/// How many workers these settings ask for on this machine: a core each, one Redis connection each with one left
/// over, 16 at most.
pub fn worker_count(settings: &Settings) -> usize {
    if settings.server.workers > 0 {
        return settings.server.workers;
    }
    resources::usable_cores().min(settings.redis.pool_size.saturating_sub(1)).clamp(1, 16)
}

/// A data plane whose listeners are bound and not served yet.
pub struct Bound {
    parts: Parts,
    metrics: Metrics,
    listeners: Vec<std::net::TcpListener>,
    address: SocketAddr,
}

impl Bound {
    /// Binds the proxy's listeners, one per worker on the same port.
    pub fn bind(parts: Parts) -> io::Result<Bound> {
        let first = resources::listen(&parts.settings.server.address, true)?;
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        for _ in 1..worker_count(&parts.settings) {
            listeners.push(resources::listen(&address.to_string(), true)?);
        }
        let metrics = Metrics::new(&parts.registry, MAX_TENANTS);
        Ok(Bound { parts, metrics, listeners, address })
    }

    /// The real address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `/v1/stats` counts; all zero until the workers start.
    pub fn stats(&self) -> StatCounters {
        let metrics = &self.metrics;
        StatCounters {
            allowed: metrics.requests_allowed.clone(),
            limited: metrics.requests_limited.clone(),
            key_extract_errors: metrics.key_extract_errors.clone(),
            auth_errors: metrics.auth_errors.clone(),
            auth_denied: metrics.auth_denied.clone(),
        }
    }

    /// Starts the workers. Call inside the control runtime: name resolution runs there.
    pub fn start(self) -> io::Result<Running> {
        let Bound { parts, metrics, listeners, .. } = self;
        let bearable = bearable_connections(resources::raise_descriptor_limit(), memory_limit());
        let (admission, receivers) = Admission::new(listeners.len());
        let dropped = parts.access_log.clone();
        parts.registry.counter_fn(
            "edgequota_access_log_dropped",
            "Access log lines dropped because the output was slow.",
            Arc::new(move || dropped.dropped()),
        );
        let open = Arc::clone(&admission);
        parts.registry.gauge_fn(
            "edgequota_connections",
            "Open client connections.",
            &[],
            Arc::new(move || {
                #[allow(clippy::cast_precision_loss)]
                let open = open.open_connections() as f64;
                vec![(Vec::new(), open)]
            }),
        );
        let shared = Arc::new(Shared {
            settings: ArcSwap::from_pointee(Live::new(&parts.settings, bearable)),
            settings_serial: AtomicU64::new(0),
            slot: parts.slot,
            admission,
            metrics,
            access_log: parts.access_log,
            probes: parts.probes,
            resolver: Resolver::start(),
        });
        let watchdog = Watchdog::start(STUCK);
        let caps = Arc::new(Caps::default());
        let workers = listeners.len();
        let mut threads = Vec::with_capacity(workers);
        for (index, (listener, handed)) in listeners.into_iter().zip(receivers).enumerate() {
            let start = workers::Start {
                listener,
                handed,
                shared: Arc::clone(&shared),
                caps: Arc::clone(&caps),
                counters: parts.counters.clone(),
                shutdown: parts.shutdown.clone(),
                watchdog: watchdog.clone(),
                workers,
            };
            threads.push(workers::start(index, start)?);
        }
        Ok(Running { shared, bearable, threads: Mutex::new(threads) })
    }
}

/// A data plane at work.
pub struct Running {
    shared: Arc<Shared>,
    bearable: usize,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Running {
    /// Puts new settings in force: everything hot takes effect with the next request.
    pub fn apply(&self, settings: &Settings) {
        self.shared.set_live(Live::new(settings, self.bearable));
    }

    /// Puts a new policy's process-wide numbers in force.
    pub fn apply_policy(&self, policy: &edgequota_policy::Policy) {
        self.shared.metrics.set_max_tenants(policy.max_tenant_labels());
    }

    /// Waits until every worker has ended, which a drain brings about.
    pub async fn ended(&self) {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter().all(thread::JoinHandle::is_finished) {
                return;
            }
        }
    }
}

/// Counters of `/v1/stats`.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct StatCounters {
    pub allowed: Counter,
    pub limited: Counter,
    pub key_extract_errors: Counter,
    pub auth_errors: Counter,
    pub auth_denied: Counter,
}
