//! What is measured of the policy in force.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use edgequota_ops::metrics::{Counter, Metrics};

use crate::policy_slot::PolicySlot;

/// `edgequota_policy_age_seconds`, `edgequota_policy_version_info`, `edgequota_policy_rejected_total`.
pub(super) struct Measured {
    start: Instant,
    /// Milliseconds from `start` to the last confirmation.
    confirmed: Arc<AtomicU64>,
    rejected: Counter,
}

impl Measured {
    pub(super) fn register(metrics: &Metrics, slot: &Arc<PolicySlot>) -> Measured {
        let (start, confirmed) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let (age, held) = (Arc::clone(&confirmed), Arc::clone(slot));
        metrics.gauge_fn(
            "edgequota_policy_age_seconds",
            "Seconds since the source of the policy last confirmed it",
            &[],
            Arc::new(move || {
                if held.serial() == 0 {
                    return Vec::new();
                }
                let since = millis(start).saturating_sub(age.load(Ordering::Relaxed));
                vec![(Vec::new(), since as f64 / 1000.0)]
            }),
        );
        let held = Arc::clone(slot);
        metrics.gauge_fn(
            "edgequota_policy_version_info",
            "The policy in force, as labels",
            &["version", "source"],
            Arc::new(move || {
                let in_force = held.load();
                in_force
                    .map(|p| (vec![p.snapshot.version.to_string(), p.source.as_str().to_owned()], 1.0))
                    .into_iter()
                    .collect()
            }),
        );
        let rejected =
            metrics.counter("edgequota_policy_rejected", "Policies that were refused; the one before stayed in force");
        Measured { start, confirmed, rejected }
    }

    /// The source said that what is in force is right.
    pub(super) fn confirm(&self) {
        self.confirmed.store(millis(self.start), Ordering::Relaxed);
    }

    pub(super) fn rejected(&self) {
        self.rejected.inc();
    }
}

fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
