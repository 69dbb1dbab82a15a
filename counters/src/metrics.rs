//! What counting reports. This is the list of its metrics; names get `_total` from the exporter where they count.
//!
//! | metric | meaning |
//! |---|---|
//! | `edgequota_redis_errors` | calls and connects that Redis failed or did not answer in time |
//! | `edgequota_fallback_used` | requests decided by a failure policy |
//! | `edgequota_redis_readonly_retries` | calls that met a server which takes no writes |
//! | `edgequota_redis_permission_errors` | calls and connects refused for a missing ACL rule |
//! | `edgequota_counter_clock_steps` | counters that met a store clock more than a second behind |
//! | `edgequota_counters_corrupt` | counters that held garbage and were replaced by empty buckets |
//! | `edgequota_decided_by_lease` | requests decided by tokens that were leased before |
//! | `edgequota_decided_by_denied_cache` | requests refused because the store had said until when there is no token |
//! | `edgequota_redis_calls` | script calls sent to Redis |
//! | `edgequota_embedded_evictions` | counters in use that the embedded store dropped for want of room |
//! | `edgequota_redis_healthy` | gauge: 1 while the store answers (the embedded one always) |
//! | `edgequota_redis_may_evict` | gauge: 1 while `maxmemory-policy` is other than noeviction |

use std::sync::Arc;

use edgequota_ops::metrics::{Counter, Metrics};

use crate::store::{embedded::Embedded, redis::Redis};

/// A counter that also remembers whether there is anything to add.
#[derive(Clone)]
pub(crate) struct Count(Counter);

impl Count {
    pub(crate) fn inc(&self) {
        self.0.inc();
    }

    pub(crate) fn add_some(&self, n: u64) {
        if n > 0 {
            self.0.add(n);
        }
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.value()
    }
}

/// The counters.
#[derive(Clone)]
pub(crate) struct Counted {
    pub(crate) redis_errors: Count,
    pub(crate) fallback_used: Count,
    pub(crate) readonly_retries: Count,
    pub(crate) permission_errors: Count,
    pub(crate) clock_steps: Count,
    pub(crate) corrupt: Count,
    pub(crate) by_lease: Count,
    pub(crate) by_denied_cache: Count,
    pub(crate) redis_calls: Count,
}

impl Counted {
    pub(crate) fn new(metrics: &Metrics) -> Counted {
        let count = |name, help| Count(metrics.counter(name, help));
        Counted {
            redis_errors: count(
                "edgequota_redis_errors",
                "Calls and connects that Redis failed or did not answer in time.",
            ),
            fallback_used: count("edgequota_fallback_used", "Requests decided by a failure policy."),
            readonly_retries: count(
                "edgequota_redis_readonly_retries",
                "Calls that met a Redis server which takes no writes.",
            ),
            permission_errors: count(
                "edgequota_redis_permission_errors",
                "Calls and connects refused for a missing ACL rule.",
            ),
            clock_steps: count(
                "edgequota_counter_clock_steps",
                "Counters that met a store clock more than a second behind.",
            ),
            corrupt: count(
                "edgequota_counters_corrupt",
                "Counters that held garbage and were replaced by empty buckets.",
            ),
            by_lease: count("edgequota_decided_by_lease", "Requests decided by tokens that were leased before."),
            by_denied_cache: count(
                "edgequota_decided_by_denied_cache",
                "Requests refused because the store had said until when there is no token.",
            ),
            redis_calls: count("edgequota_redis_calls", "Script calls sent to Redis."),
        }
    }
}

/// Gauges of a process that counts in Redis.
pub(crate) fn watch_redis(metrics: &Metrics, redis: &Arc<Redis>) {
    gauge(metrics, "edgequota_redis_healthy", HEALTHY, redis, |redis| redis.healthy());
    gauge(
        metrics,
        "edgequota_redis_may_evict",
        "1 while the maxmemory-policy of Redis is other than noeviction.",
        redis,
        |redis| redis.evicts(),
    );
}

/// Gauges of a process that counts in itself.
pub(crate) fn watch_embedded(metrics: &Metrics, store: &Arc<Embedded>) {
    gauge(metrics, "edgequota_redis_healthy", HEALTHY, store, |_| true);
    let store = Arc::clone(store);
    metrics.counter_fn(
        "edgequota_embedded_evictions",
        "Counters in use that the embedded store dropped for want of room.",
        Arc::new(move || store.evicted()),
    );
}

const HEALTHY: &str = "1 while the store answers.";

fn gauge<T: Send + Sync + 'static>(
    metrics: &Metrics,
    name: &'static str,
    help: &'static str,
    of: &Arc<T>,
    read: impl Fn(&T) -> bool + Send + Sync + 'static,
) {
    let of = Arc::clone(of);
    let row = move || vec![(Vec::new(), if read(&of) { 1.0 } else { 0.0 })];
    metrics.gauge_fn(name, help, &[], Arc::new(row));
}
