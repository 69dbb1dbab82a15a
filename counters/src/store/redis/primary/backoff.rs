//! How long to wait after a failed connect.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(30);

/// 1 s doubling to 30 s, full jitter: fleets must not come back in step.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { next: FIRST }
    }
}

impl Backoff {
    /// Between zero and the current bound, which then doubles.
    pub(super) fn delay(&mut self) -> Duration {
        let delay = self.next.mul_f64(fastrand::f64());
        self.next = (self.next * 2).min(LAST);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_thirty_seconds_and_is_jittered() {
        let mut backoff = Backoff::default();
        let mut bound = FIRST;
        let mut delays = Vec::new();
        for _ in 0..50 {
            let delay = backoff.delay();
            assert!(delay <= bound, "{delay:?} is over {bound:?}");
            delays.push(delay);
            bound = (bound * 2).min(LAST);
        }
        assert!(delays.iter().any(|d| *d > Duration::from_secs(4)));
        delays.dedup();
        assert_eq!(delays.len(), 50, "no two delays are alike");
    }
}
