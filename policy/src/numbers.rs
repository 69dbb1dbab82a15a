//! The integers a bucket is counted in (counting.md, "Numbers").

use std::time::Duration;

use crate::GoDuration;

/// Numbers of one limit for one subject: whole grains, no doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Numbers {
    /// Tokens per period, at least 1.
    pub average: u64,
    /// Room of the bucket in tokens, at least 1.
    pub burst: u64,
    /// Period in microseconds.
    pub period_us: u64,
    /// Length of a tick in microseconds: 1, 1,000 or 1,000,000.
    pub tick_us: u64,
    /// S: grains per token.
    pub grains_per_token: u64,
    /// G: grains that one tick adds.
    pub grains_per_tick: u64,
}

/// Why numbers cannot be counted exactly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumbersError {
    /// See message.
    #[error("{0}")]
    Unrepresentable(String),
}

/// Ticks to try, finest first, in microseconds.
const TICKS: [u64; 3] = [1, 1_000, 1_000_000];
/// Lua numbers are doubles: every whole number below this one is exact.
const EXACT: u128 = 1 << 53;
/// The longest time to full: 5 years of 365 days. Keys must expire, and elapsed times must stay small.
const LONGEST_US: u128 = 5 * 365 * 24 * 3_600 * 1_000_000;

impl Numbers {
    /// Chooses the finest tick with `burst * S + G < 2^53`; refuses what none can represent, `average` 0, `burst` 0,
    /// `period` 0, and a time to full over 5 years.
    pub fn new(average: u64, burst: u64, period: Duration) -> Result<Numbers, NumbersError> {
        let refuse = |message: String| Err(NumbersError::Unrepresentable(message));
        if average == 0 || burst == 0 || period.is_zero() {
            return refuse("average, burst and period must be more than 0".into());
        }
        if !period.subsec_nanos().is_multiple_of(1_000) {
            return refuse(format!("period {} is not a whole number of microseconds", GoDuration::new(period)));
        }
        let Ok(period_us) = u64::try_from(period.as_micros()) else {
            return refuse("period is too long".into());
        };
        let to_full = u128::from(burst) * u128::from(period_us);
        if to_full > LONGEST_US * u128::from(average) {
            return refuse(format!(
                "{average} per {} needs more than 5 years to refill a burst of {burst}: raise average or lower burst",
                GoDuration::new(period)
            ));
        }
        match TICKS.iter().find_map(|tick| with_tick(average, burst, period_us, *tick)) {
            Some(numbers) => Ok(numbers),
            None => refuse(unrepresentable(average, burst, period, period_us)),
        }
    }

    /// burst / rate, rounded up to a microsecond.
    pub fn time_to_full(&self) -> Duration {
        let us = (u128::from(self.burst) * u128::from(self.period_us)).div_ceil(u128::from(self.average.max(1)));
        Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }
}

fn with_tick(average: u64, burst: u64, period_us: u64, tick_us: u64) -> Option<Numbers> {
    if !period_us.is_multiple_of(tick_us) {
        return None;
    }
    let ticks = period_us / tick_us;
    let common = gcd(average, ticks);
    let (grains_per_token, grains_per_tick) = (ticks / common, average / common);
    let most = u128::from(burst) * u128::from(grains_per_token) + u128::from(grains_per_tick);
    (most < EXACT).then_some(Numbers { average, burst, period_us, tick_us, grains_per_token, grains_per_tick })
}

fn unrepresentable(average: u64, burst: u64, period: Duration, period_us: u64) -> String {
    let finest = if period_us.is_multiple_of(1_000_000) {
        "even in steps of a second"
    } else {
        "and the period is no whole number of seconds, so no coarser step divides it"
    };
    format!(
        "{average} per {} with a burst of {burst} cannot be counted exactly, {finest}: choose an average and a period \
         with a large common divisor, or a smaller burst",
        GoDuration::new(period)
    )
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_hundred_a_second_counts_in_microseconds() {
        let n = Numbers::new(100, 50, secs(1)).unwrap();
        assert_eq!((n.tick_us, n.grains_per_token, n.grains_per_tick), (1, 10_000, 1));
        assert_eq!(n.time_to_full(), Duration::from_millis(500));
    }

    #[test]
    fn a_rate_above_one_a_microsecond_is_exact() {
        let n = Numbers::new(3_000_000_000, 10, secs(1)).unwrap();
        assert_eq!((n.tick_us, n.grains_per_token, n.grains_per_tick), (1, 1, 3_000));
    }

    #[test]
    fn a_billion_a_month_counts_in_microseconds() {
        let n = Numbers::new(1_000_000_000, 1_000_000_000, secs(30 * 86_400)).unwrap();
        assert_eq!((n.tick_us, n.grains_per_token, n.grains_per_tick), (1, 2_592, 1));
    }

    #[test]
    fn a_coprime_billion_a_month_falls_back_to_seconds() {
        let n = Numbers::new(999_999_937, 1_000_000_000, secs(30 * 86_400)).unwrap();
        assert_eq!((n.tick_us, n.grains_per_token, n.grains_per_tick), (1_000_000, 2_592_000, 999_999_937));
    }

    #[test]
    fn a_tick_that_does_not_divide_the_period_is_not_used() {
        let error = Numbers::new(999_999_937, 1_000_000_000, Duration::from_micros(86_400_000_001)).unwrap_err();
        assert!(error.to_string().contains("no coarser step divides it"), "{error}");
        let n = Numbers::new(999_983, 100_000_000, Duration::from_millis(86_400_001)).unwrap();
        assert_eq!(n.tick_us, 1_000);
    }

    #[test]
    fn refuses_zeros_fine_periods_and_more_than_five_years() {
        for (average, burst, period) in [
            (0, 1, secs(1)),
            (1, 0, secs(1)),
            (1, 1, Duration::ZERO),
            (1, 1, Duration::from_nanos(1_500)),
            (1, 2, secs(5 * 365 * 86_400 / 2 + 1)),
            (1, u64::MAX, Duration::MAX),
        ] {
            assert!(Numbers::new(average, burst, period).is_err(), "{average} {burst} {period:?}");
        }
        assert!(Numbers::new(1, 2, secs(5 * 365 * 86_400 / 2)).is_ok());
    }

    proptest! {
        #[test]
        fn the_rate_is_exact_and_the_bound_holds(
            average in 1..2_000_000_000u64, burst in 1..2_000_000_000u64, period_us in 1..5_000_000_000_000u64
        ) {
            if let Ok(n) = Numbers::new(average, burst, Duration::from_micros(period_us)) {
                let ticks = u128::from(period_us / n.tick_us);
                prop_assert_eq!(period_us % n.tick_us, 0);
                // A period adds exactly `average` tokens, not one grain more or less.
                prop_assert_eq!(ticks * u128::from(n.grains_per_tick), u128::from(average) * u128::from(n.grains_per_token));
                prop_assert!(u128::from(burst) * u128::from(n.grains_per_token) + u128::from(n.grains_per_tick) < 1 << 53);
            }
        }
        #[test]
        fn the_finest_possible_tick_is_chosen(
            average in 1..1_000_000_000u64, burst in 1..1_000_000_000u64, seconds in 1..5_000_000u64
        ) {
            let period = secs(seconds);
            if let Ok(n) = Numbers::new(average, burst, period) {
                for finer in TICKS.iter().take_while(|t| **t < n.tick_us) {
                    prop_assert_eq!(with_tick(average, burst, n.period_us, *finer), None);
                }
            }
        }
        #[test]
        fn nothing_overflows(average: u64, burst: u64, seconds: u64, nanos in 0..1_000_000_000u32) {
            if let Ok(n) = Numbers::new(average, burst, Duration::new(seconds, nanos)) {
                prop_assert!(n.time_to_full() <= secs(5 * 365 * 86_400));
            }
        }
    }
}
