//! The process's counting: one [`Counters`], one [`Spender`] per worker.
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use edgequota_config::settings::{self, RedisMode};
use edgequota_ops::metrics::Metrics;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    changes::Changes,
    clock::Clock,
    decider::Decider,
    failure::Failover,
    metrics::{self, Counted},
    spender::Spender,
    store::{
        embedded::{CAPACITY, Embedded, Evict},
        redis::{Redis, Seat},
    },
};

/// Process-wide: store settings, embedded store, fallback buckets, passthrough cap, metrics. Cheap to clone.
///
/// When the last clone, [`Spender`] and [`Decider`] are gone, the connections end.
#[derive(Clone)]
pub struct Counters(Arc<Shared>);

/// What all workers of a process count with.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) failover: Failover,
    pub(crate) counted: Arc<Counted>,
    pub(crate) fleet: FleetSize,
    pub(crate) changes: Changes,
}

pub(crate) enum Store {
    Embedded(Arc<Embedded>),
    /// The guard ends the connections with the last of those that count on them.
    Redis(Arc<Redis>, Arc<DropGuard>),
}

/// How many data planes and workers the fleet has, as far as known (unknown: 1). Set by the control-plane stream.
#[derive(Clone, Debug, Default)]
pub struct FleetSize(Arc<Size>);

#[derive(Debug, Default)]
struct Size {
    planes: AtomicU64,
    workers: AtomicU64,
}

impl FleetSize {
    /// Number of data planes, at least 1.
    pub fn get(&self) -> u64 {
        self.0.planes.load(Ordering::Relaxed).max(1)
    }
    /// Number of workers of all data planes, at least one each.
    pub fn workers(&self) -> u64 {
        self.0.workers.load(Ordering::Relaxed).max(self.get())
    }
    /// Learned the number of data planes.
    pub fn set(&self, planes: u64) {
        self.0.planes.store(planes, Ordering::Relaxed);
    }
    /// Learned the number of their workers.
    pub fn set_workers(&self, workers: u64) {
        self.0.workers.store(workers, Ordering::Relaxed);
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.store {
            Store::Embedded(store) => f.debug_tuple("Counters").field(store).finish(),
            Store::Redis(redis, _) => f.debug_tuple("Counters").field(redis).finish(),
        }
    }
}

impl Counters {
    /// `redis` is watched: a change moves to new connections without a lost call; only a change between `embedded`
    /// and the rest needs a restart. Does no I/O yet.
    /// `node` names the connections (`CLIENT SETNAME`).
    pub fn new(
        redis: watch::Receiver<Arc<settings::Redis>>,
        metrics: &Metrics,
        fleet: FleetSize,
        node: &str,
    ) -> Counters {
        if redis.borrow().mode == RedisMode::Embedded {
            let store = Arc::new(Embedded::new(Clock::monotonic(), CAPACITY, Evict::FullFirst));
            return Counters::embedded(store, metrics, fleet);
        }
        let counted = Arc::new(Counted::new(metrics));
        let stop = CancellationToken::new();
        let redis = Arc::new(Redis::new(redis, Arc::clone(&counted), node, stop.clone()));
        metrics::watch_redis(metrics, &redis);
        Counters::with(Store::Redis(redis, Arc::new(stop.drop_guard())), counted, fleet)
    }

    /// With an embedded store that already exists (demo: two data planes and the control plane share one). Of one
    /// that counts in Redis, the connections are shared.
    pub fn share_embedded(&self, metrics: &Metrics, fleet: FleetSize) -> Counters {
        match &self.0.store {
            Store::Embedded(store) => Counters::embedded(Arc::clone(store), metrics, fleet),
            Store::Redis(redis, guard) => {
                metrics::watch_redis(metrics, redis);
                let store = Store::Redis(Arc::clone(redis), Arc::clone(guard));
                Counters::with(store, Arc::new(Counted::new(metrics)), fleet)
            }
        }
    }

    fn embedded(store: Arc<Embedded>, metrics: &Metrics, fleet: FleetSize) -> Counters {
        metrics::watch_embedded(metrics, &store);
        Counters::with(Store::Embedded(store), Arc::new(Counted::new(metrics)), fleet)
    }

    fn with(store: Store, counted: Arc<Counted>, fleet: FleetSize) -> Counters {
        let failover = Failover::new(Clock::monotonic());
        Counters(Arc::new(Shared { store, failover, counted, fleet, changes: Changes::default() }))
    }

    /// For one worker (counted from 0); call inside that worker's `LocalSet` (connection tasks are spawned on its runtime).
    /// At most `pool_size - 1` workers get a connection of their own, later ones share by message; one connection is left
    /// for `ping` and the API.
    pub fn spender(&self, worker: usize) -> Spender {
        let seat = Seat::Worker(worker);
        if let Store::Redis(redis, _) = &self.0.store {
            redis.attach(seat);
        }
        Spender::new(Arc::clone(&self.0), seat)
    }

    /// For callers that spend nothing, on any multi-thread runtime (admin API, control plane). Call it inside that runtime.
    pub fn decider(&self) -> Decider {
        if let Store::Redis(redis, _) = &self.0.store {
            redis.attach(Seat::Spare);
        }
        Decider::new(Arc::clone(&self.0))
    }

    /// `PING` answered within two seconds; the embedded store always answers.
    pub async fn ping(&self) -> bool {
        match &self.0.store {
            Store::Embedded(_) => true,
            Store::Redis(redis, _) => redis.ping().await,
        }
    }

    /// Somebody changed the counter of that key from outside (an administrator): what the workers of this process
    /// remember of it is forgotten. A hint: nothing is remembered for longer than a second anyway.
    pub fn changed(&self, key: &str) {
        self.0.changes.add(key);
    }

    /// Waits until the store was tried once (connected or failed) on every connection wanted so far, for `/startz`.
    pub async fn tried(&self) {
        if let Store::Redis(redis, _) = &self.0.store {
            redis.tried().await;
        }
    }

    /// What an operator must mend in the store (a missing ACL rule), for the readiness detail; `None`: nothing known.
    pub fn problem(&self) -> Option<String> {
        match &self.0.store {
            Store::Embedded(_) => None,
            Store::Redis(redis, _) => redis.problem(),
        }
    }

    /// As `edgequota_redis_healthy` says.
    pub fn healthy(&self) -> bool {
        match &self.0.store {
            Store::Embedded(_) => true,
            Store::Redis(redis, _) => redis.healthy(),
        }
    }

    /// `{"redis_errors","fallback_used","readonly_retries"}` now.
    pub fn stats(&self) -> (u64, u64, u64) {
        let counted = &self.0.counted;
        (counted.redis_errors.value(), counted.fallback_used.value(), counted.readonly_retries.value())
    }
}
