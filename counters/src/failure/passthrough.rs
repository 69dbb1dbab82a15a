//! `global_passthrough_rps`: how much the process lets through while nothing counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::Purpose;

const SECOND_NS: u64 = 1_000_000_000;

/// A bucket of one second's worth in a single atomic: the time at which it would be full again.
#[derive(Debug, Default)]
pub(crate) struct PassThrough {
    full_at_ns: AtomicU64,
}

impl PassThrough {
    /// May one more pass at `rate` a second? A look takes nothing.
    pub(crate) fn pass(&self, rate: u64, now_us: u64, purpose: Purpose) -> bool {
        let now = now_us.saturating_mul(1000);
        let each = SECOND_NS / rate.clamp(1, SECOND_NS);
        let after = |full_at: u64| {
            let next = full_at.max(now) + each;
            (rate > 0 && next <= now + SECOND_NS).then_some(next)
        };
        match purpose {
            Purpose::Spend => self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).is_ok(),
            _ => after(self.full_at_ns.load(Ordering::Relaxed)).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_requests_at_once_and_the_rate_from_then_on() {
        let cap = PassThrough::default();
        let mut now_us = 5_000_000;
        let burst = (0..100).filter(|_| cap.pass(10, now_us, Purpose::Spend)).count();
        assert_eq!(burst, 10);
        assert!(!cap.pass(10, now_us, Purpose::Look));
        let mut passed = 0;
        for _ in 0..10_000 {
            now_us += 1000;
            passed += usize::from(cap.pass(10, now_us, Purpose::Spend));
        }
        assert_eq!(passed, 100, "ten seconds at ten a second");
    }

    #[test]
    fn a_look_takes_nothing_and_zero_passes_nothing() {
        let cap = PassThrough::default();
        assert!((0..100).all(|_| cap.pass(1, 0, Purpose::Look)));
        assert!(cap.pass(1, 0, Purpose::Spend));
        assert!(!cap.pass(1, 0, Purpose::Spend));
        assert!(!cap.pass(0, 10_000_000, Purpose::Spend));
    }
}
