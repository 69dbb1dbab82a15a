//! The process's counting: one [`Counters`], one [`Decider`] per worker.
use std::sync::Arc;

use edgequota_config::settings::Redis;
use edgequota_ops::metrics::Metrics;

use crate::decision::{Ask, Decision};

/// Process-wide: store settings, embedded store, fallback buckets, passthrough cap, metrics. Cheap to clone.
#[derive(Clone)]
pub struct Counters {}

/// How many data planes and workers the fleet has, as far as known (unknown: 1). Set by the control-plane stream.
#[derive(Clone, Debug, Default)]
pub struct FleetSize(Arc<std::sync::atomic::AtomicU64>);
impl FleetSize {
    /// Number of data planes, at least 1.
    pub fn get(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed).max(1)
    }
    /// Learned.
    pub fn set(&self, n: u64) {
        self.0.store(n, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Counters {
    /// `redis` is watched: a change moves to new connections without a lost call. Does no I/O yet.
    /// `node` names the connections (`CLIENT SETNAME`).
    pub fn new(_redis: tokio::sync::watch::Receiver<Arc<Redis>>, _metrics: &Metrics, _fleet: FleetSize, _node: &str) -> Counters { todo!() }
    /// With an embedded store that already exists (demo: two data planes and the control plane share one).
    pub fn share_embedded(&self, _metrics: &Metrics, _fleet: FleetSize) -> Counters { todo!() }
    /// For one worker; call inside that worker's runtime (connection tasks are spawned on it). At most
    /// `pool_size - 1` workers get a connection of their own, later ones share by message; one connection is left
    /// for `ping` and the API.
    pub fn decider(&self, _worker: usize) -> Decider { todo!() }
    /// For callers on any multi-thread runtime (admin API, control plane): `Send + Sync`.
    pub fn shared_decider(&self) -> Decider { todo!() }
    /// `PING` answered in time; the embedded store always answers.
    pub async fn ping(&self) -> bool { todo!() }
    /// Waits until the store was tried once (connected or failed), for `/startz`.
    pub async fn tried(&self) { todo!() }
    /// `{"redis_errors","fallback_used","readonly_retries"}` now.
    pub fn stats(&self) -> (u64, u64, u64) { todo!() }
}

/// Decides. Cheap to clone.
#[derive(Clone)]
pub struct Decider {}
impl Decider {
    /// Spends one token of each limit, or of none. Answers within `redis.deadline` plus a little, whatever the store
    /// does. Cancel safe: a dropped call may cost tokens, never adds any. The future is `Send`.
    pub async fn spend(&self, _asks: &[Ask]) -> Decision { todo!() }
    /// The same decision without spending anything and without waiting for failure policies' side effects.
    pub async fn look(&self, _asks: &[Ask]) -> Decision { todo!() }
}
