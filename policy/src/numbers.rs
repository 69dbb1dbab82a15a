//! The integers a bucket is counted in (counting.md, "Numbers").

use std::time::Duration;

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

impl Numbers {
    /// Chooses the finest tick with `burst * S + G < 2^53`; refuses what none can represent, `average` 0, `burst` 0,
    /// `period` 0, and a time to full over 5 years.
    pub fn new(_average: u64, _burst: u64, _period: Duration) -> Result<Numbers, NumbersError> {
        todo!()
    }
    /// burst / rate, rounded up to a microsecond.
    pub fn time_to_full(&self) -> Duration {
        todo!()
    }
}
