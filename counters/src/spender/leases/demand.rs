//! How much one worker lately asked of one counter.

use std::time::Duration;

use tokio::time::Instant;

/// Shorter times say nothing about a rate: two requests within a millisecond are not 2,000 a second.
const WINDOW: Duration = Duration::from_millis(100);

/// Tokens a second, smoothed over a few windows.
#[derive(Debug)]
pub(super) struct Demand {
    since: Instant,
    tokens: u64,
    last: Instant,
    /// Tokens in half a second, by the windows that ended.
    usual: u64,
}

impl Demand {
    pub(super) fn new(now: Instant) -> Demand {
        Demand { since: now, tokens: 0, last: now, usual: 0 }
    }

    pub(super) fn note(&mut self, tokens: u64, now: Instant) {
        self.tokens = self.tokens.saturating_add(tokens);
        self.last = now;
    }

    pub(super) fn idle_since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }

    /// Tokens that half a second will take if it goes on like this.
    pub(super) fn in_half_a_second(&mut self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.since).max(WINDOW);
        let recent = u128::from(self.tokens) * 500_000 / elapsed.as_micros();
        let recent = u64::try_from(recent).unwrap_or(u64::MAX);
        if now.saturating_duration_since(self.since) >= WINDOW {
            // Half of what was known fades with each window: a burst is not remembered for long.
            self.usual = self.usual / 2 + recent / 2;
            self.tokens = 0;
            self.since = now;
            return self.usual.max(recent);
        }
        self.usual.max(recent)
    }
}
