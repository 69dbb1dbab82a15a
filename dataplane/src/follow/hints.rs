//! What the control plane tells beside policies. All of it is advice: wrong or missing, it costs accuracy for a second,
//! never a token too many.

use std::{fmt, sync::Arc, time::Duration};

use edgequota_counters::{Counters, FleetSize};
use edgequota_proto::{MOST_RESET_KEY_BYTES, MOST_RESET_KEYS, control};
use tokio::time::Instant;

/// Keys that are looked at in a second. An administrator who changes all counters of a caller stays far below; beyond,
/// hints are dropped, because what they speak of is forgotten within a second anyway.
const KEYS_A_SECOND: usize = 4096;

/// Where such advice goes.
#[derive(Clone)]
pub struct Hints {
    fleet: FleetSize,
    changed: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Hints {
    /// To the counting of this process; `fleet` is the size that it was given.
    pub fn new(fleet: FleetSize, counters: &Counters) -> Hints {
        let counters = counters.clone();
        Hints::to(fleet, move |key| counters.changed(key))
    }

    /// `changed` gets the key of each counter that somebody changed.
    pub fn to(fleet: FleetSize, changed: impl Fn(&str) + Send + Sync + 'static) -> Hints {
        Hints { fleet, changed: Arc::new(changed) }
    }

    /// The size of the fleet, which the shares of the in-process fallback and of leases depend on.
    pub(super) fn size(&self, fleet: &control::Fleet) {
        self.fleet.set(u64::from(fleet.planes));
        self.fleet.set_workers(u64::from(fleet.workers));
    }

    pub(super) fn changed(&self, reset: &control::CounterReset, budget: &mut Budget, now: Instant) {
        let plausible = |key: &&String| !key.is_empty() && key.len() <= MOST_RESET_KEY_BYTES;
        for key in reset.keys.iter().take(MOST_RESET_KEYS).filter(plausible) {
            if !budget.take(now) {
                return;
            }
            (self.changed)(key);
        }
    }
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hints").field("fleet", &self.fleet).finish_non_exhaustive()
    }
}

/// Bounds the work that one stream can make.
#[derive(Debug)]
pub(super) struct Budget {
    second: Instant,
    left: usize,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Budget {
        Budget { second: now, left: KEYS_A_SECOND }
    }

    fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            *self = Budget::new(now);
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use super::*;

    fn recording() -> (Hints, Arc<Mutex<Vec<String>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        (Hints::to(FleetSize::default(), move |key| into.lock().unwrap().push(key.to_owned())), heard)
    }

    #[test]
    fn the_size_of_the_fleet_and_its_workers_are_both_kept() {
        let (hints, _) = recording();
        hints.size(&control::Fleet { planes: 3, workers: 12 });
        assert_eq!((hints.fleet.get(), hints.fleet.workers()), (3, 12));
    }

    #[test]
    fn what_no_control_plane_of_ours_would_send_is_not_looked_at() {
        let (hints, heard) = recording();
        let now = Instant::now();
        let keys = vec![String::new(), "k".repeat(MOST_RESET_KEY_BYTES + 1), "rl:edgequota:acme".into()];
        hints.changed(&control::CounterReset { keys }, &mut Budget::new(now), now);
        assert_eq!(*heard.lock().unwrap(), ["rl:edgequota:acme"]);
        let keys = vec!["k".to_owned(); 1000];
        hints.changed(&control::CounterReset { keys }, &mut Budget::new(now), now);
        assert_eq!(heard.lock().unwrap().len(), 1 + MOST_RESET_KEYS);
    }

    #[test]
    fn a_flood_is_cut_off_until_the_next_second() {
        let (hints, heard) = recording();
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let reset = control::CounterReset { keys: vec!["k".to_owned(); MOST_RESET_KEYS] };
        for _ in 0..1000 {
            hints.changed(&reset, &mut budget, now);
        }
        assert_eq!(heard.lock().unwrap().len(), KEYS_A_SECOND);
        hints.changed(&reset, &mut budget, now + Duration::from_secs(1));
        assert_eq!(heard.lock().unwrap().len(), KEYS_A_SECOND + MOST_RESET_KEYS);
    }
}
