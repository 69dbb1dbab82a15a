//! When a policy is sent again that a data plane refused.

use std::time::Duration;

use edgequota_policy::Hash;
use tokio::time::Instant;

/// What is remembered of refusals on one stream.
#[derive(Debug)]
pub(crate) struct Retry {
    first: Duration,
    most: Duration,
    /// Content that will never do; a new Hello clears it.
    unsupported: Option<Hash>,
    local: Option<Local>,
}

#[derive(Debug)]
struct Local {
    hash: Hash,
    pause: Duration,
    due: Instant,
}

impl Retry {
    pub(crate) fn new(first: Duration, most: Duration) -> Retry {
        Retry { first, most, unsupported: None, local: None }
    }

    /// A new Hello: a new chance.
    pub(crate) fn clear(&mut self) {
        self.unsupported = None;
        self.local = None;
    }

    pub(crate) fn unsupported(&mut self, hash: Hash) {
        self.unsupported = Some(hash);
        self.local = None;
    }

    /// Refused for a reason that may pass. The pause doubles for the same content, and starts anew for other content.
    pub(crate) fn local(&mut self, hash: Hash, now: Instant) {
        let pause = match &self.local {
            Some(local) if local.hash == hash => (local.pause * 2).min(self.most),
            _ => self.first,
        };
        self.local = Some(Local { hash, pause, due: now + pause });
    }

    pub(crate) fn accepted(&mut self) {
        self.clear();
    }

    /// Whether this content may be sent at `now`.
    pub(crate) fn allows(&self, hash: Hash, now: Instant) -> bool {
        self.unsupported != Some(hash) && self.local.as_ref().is_none_or(|l| l.hash != hash || now >= l.due)
    }

    /// When to look again.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        self.local.as_ref().map(|l| l.due).filter(|due| *due > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Hash = Hash([1; 32]);
    const B: Hash = Hash([2; 32]);

    #[test]
    fn unsupported_content_is_not_sent_again_until_a_hello() {
        let (mut retry, now) = (Retry::new(Duration::from_secs(5), Duration::from_secs(300)), Instant::now());
        retry.unsupported(A);
        assert!(!retry.allows(A, now + Duration::from_secs(100_000)));
        assert!(retry.allows(B, now));
        assert_eq!(retry.due(now), None);
        retry.clear();
        assert!(retry.allows(A, now));
    }

    #[test]
    fn local_trouble_is_retried_with_doubling_pauses() {
        let (mut retry, mut now) = (Retry::new(Duration::from_secs(5), Duration::from_secs(300)), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..9 {
            retry.local(A, now);
            assert!(!retry.allows(A, now));
            let due = retry.due(now).unwrap_or(now);
            pauses.push(due.duration_since(now).as_secs());
            assert!(retry.allows(A, due));
            now = due;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(retry.allows(B, now), "other content goes at once");
        retry.local(B, now);
        assert_eq!(retry.due(now), Some(now + Duration::from_secs(5)));
    }
}
