//! The denied cache: who need not ask again yet.
//!
//! A counter that said "no token before R" is not asked before R after the call was *sent*: by the store's clock that
//! moment is earlier than R, so refill never allows what is refused here. Tokens that come back by other ways (a lease,
//! a refund, an administrator) are seen within [`LONGEST`].

use std::time::Duration;

use edgequota_policy::Numbers;
use hashbrown::HashMap;
use tokio::time::Instant;

use crate::store::{Counter, CounterReply};

/// No entry lives longer.
pub(crate) const LONGEST: Duration = Duration::from_secs(1);
/// Most entries of a worker. Beyond it refusals are not remembered: they cost calls, nothing else.
pub(crate) const MOST: usize = 16_384;
/// A full cache is searched for old entries no more often.
const SWEEP_EVERY: Duration = Duration::from_millis(50);
/// A cache this small is not worth shrinking.
const SMALL: usize = 256;

/// Refusals of one worker.
#[derive(Debug)]
pub(crate) struct Denied {
    entries: HashMap<Box<str>, Entry>,
    most: usize,
    swept: Instant,
}

/// Keyed by the limit's numbers and the cost too: only an edit of this very limit makes it void.
#[derive(Debug)]
struct Entry {
    numbers: Numbers,
    cost: u64,
    tokens: u64,
    until: Instant,
    retry_at: Instant,
    reset_at: Instant,
}

impl Denied {
    pub(crate) fn new(most: usize) -> Denied {
        Denied { entries: HashMap::new(), most, swept: Instant::now() }
    }

    /// What the counter would say now, if it is known to refuse.
    pub(crate) fn refusal(&self, key: &str, counter: &Counter, now: Instant) -> Option<CounterReply> {
        if self.entries.is_empty() {
            return None;
        }
        let entry = self.entries.get(key)?;
        let valid = now < entry.until && entry.cost == counter.cost && entry.numbers == counter.numbers;
        valid.then(|| CounterReply {
            tokens: entry.tokens,
            retry_us: micros_until(entry.retry_at, now),
            reset_us: micros_until(entry.reset_at, now),
            ..CounterReply::default()
        })
    }

    /// Remembers an answer to a call that was sent at `sent`. One that leaves enough for another request is no refusal, and
    /// ends one: something came back.
    pub(crate) fn learn(&mut self, key: &str, counter: &Counter, reply: &CounterReply, sent: Instant, now: Instant) {
        if reply.retry_us == 0 {
            self.forget(key);
            return;
        }
        let after = |us| sent.checked_add(Duration::from_micros(us)).unwrap_or(sent + LONGEST);
        let retry_at = after(reply.retry_us);
        let until = retry_at.min(sent + LONGEST);
        if until <= now {
            return;
        }
        let entry = Entry {
            numbers: counter.numbers,
            cost: counter.cost,
            tokens: reply.tokens,
            until,
            retry_at,
            reset_at: after(reply.reset_us),
        };
        if let Some(known) = self.entries.get_mut(key) {
            *known = entry;
            return;
        }
        if self.entries.len() >= self.most && now >= self.swept + SWEEP_EVERY {
            self.sweep(now);
        }
        if self.entries.len() < self.most {
            self.entries.insert(key.into(), entry);
        }
    }

    /// There may be more than was known.
    pub(crate) fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }

    pub(crate) fn forget_all(&mut self) {
        self.entries.clear();
    }

    /// Drops what is over, and the memory of a flood that is over.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.swept = now;
        self.entries.retain(|_, entry| now < entry.until);
        if self.entries.capacity() > SMALL && self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn micros_until(at: Instant, now: Instant) -> u64 {
    crate::clock::micros(at.saturating_duration_since(now))
}

#[cfg(test)]
mod tests;
