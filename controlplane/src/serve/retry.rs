//! When a policy is sent again that a data plane refused.

use std::{collections::VecDeque, time::Duration};

use edgequota_policy::Hash;
use tokio::time::Instant;

/// Refused contents that are remembered on one stream.
const MOST_UNSUPPORTED: usize = 16;

/// What is remembered of refusals on one stream.
#[derive(Debug)]
pub(crate) struct Retry {
    first: Duration,
    most: Duration,
    /// Content that will never do, the newest last; a new Hello clears it.
    unsupported: VecDeque<Hash>,
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
        Retry { first, most, unsupported: VecDeque::new(), local: None }
    }

    /// A new Hello: a new chance.
    pub(crate) fn clear(&mut self) {
        self.unsupported.clear();
        self.local = None;
    }

    pub(crate) fn unsupported(&mut self, hash: Hash) {
        if self.unsupported.len() == MOST_UNSUPPORTED {
            self.unsupported.pop_front();
        }
        self.unsupported.push_back(hash);
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

    /// This content is in force: nothing is held against it any more. What was refused before stays refused.
    pub(crate) fn accepted(&mut self, hash: Hash) {
        self.local.take_if(|local| local.hash == hash);
    }

    /// Whether this content may be sent at `now`.
    pub(crate) fn allows(&self, hash: Hash, now: Instant) -> bool {
        !self.unsupported.contains(&hash) && self.local.as_ref().is_none_or(|l| l.hash != hash || now >= l.due)
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
    fn what_was_refused_stays_refused_after_other_content() {
        let (mut retry, now) = (Retry::new(Duration::from_secs(5), Duration::from_secs(300)), Instant::now());
        retry.unsupported(A);
        retry.unsupported(B);
        retry.accepted(Hash([3; 32]));
        assert!(!retry.allows(A, now) && !retry.allows(B, now));
        let mut retry = Retry::new(Duration::from_secs(5), Duration::from_secs(300));
        retry.local(A, now);
        retry.accepted(B);
        assert!(!retry.allows(A, now), "a repeated ack does not end the pause of other content");
        retry.accepted(A);
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
