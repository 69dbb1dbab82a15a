//! Full jitter: a random pause between nothing and a bound that doubles, so that a fleet that lost its control plane
//! at one moment does not come back at one moment.

use std::time::Duration;

#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    bound: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, bound: first }
    }

    pub(super) fn next(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = (bound * 2).min(self.most);
        bound.mul_f64(fastrand::f64())
    }

    pub(super) fn reset(&mut self) {
        self.bound = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_below_a_bound_that_doubles_to_its_most() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        for bound in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            assert_eq!(backoff.bound, Duration::from_millis(bound));
            assert!(backoff.next() <= Duration::from_millis(bound));
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(500));
    }

    #[test]
    fn a_fleet_spreads_over_the_whole_bound() {
        let pauses: Vec<f64> = (0..1000)
            .map(|_| Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).next().as_secs_f64())
            .collect();
        for tenth in 0..10 {
            let low = f64::from(tenth) / 10.0;
            assert!(pauses.iter().any(|p| (low..low + 0.1).contains(p)), "nobody comes back in tenth {tenth}");
        }
    }
}
