//! What an operator reads of the store in the readiness detail.

use std::time::Duration;

use edgequota_ops::probes::Probes;
use tokio_util::sync::CancellationToken;

use crate::Counters;

const EVERY: Duration = Duration::from_secs(1);

/// Shows there what the store refuses or cannot do (an ACL rule that is missing, no memory), and that it is over, until the
/// process stops.
pub async fn problems(counters: Counters, probes: Probes, stop: CancellationToken) {
    let mut look = tokio::time::interval(EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return,
        }
        let problem = counters.problem();
        if problem != told {
            probes.note("redis", problem.clone());
            told = problem;
        }
    }
}
