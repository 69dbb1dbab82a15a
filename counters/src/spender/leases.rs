//! Leases: tokens that the store has set aside for this worker, to be spent without asking.
//!
//! The other half of the state machine of the script. A grant is spent until [`USABLE`] after its call was *sent*, by this
//! machine's monotonic clock; the store forgets it later than that, whatever its clock says. What a call names as spent
//! or unspent is never named again, and what it names as unspent is never spent.

mod demand;

use std::time::Duration;

use edgequota_policy::Numbers;
use hashbrown::HashMap;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::store::{Counter, CounterReply, Credit};
use demand::Demand;

/// How long a grant may be spent: nine tenths of an epoch of the script.
pub(crate) const USABLE: Duration = Duration::from_millis(900);
/// How often grants that ended are returned.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A counter that is not spent from for so long gives back what it holds, and is forgotten when it holds nothing.
const IDLE: Duration = Duration::from_millis(300);
/// Fewer requests than this in a lease are not worth one: such a limit is counted exactly.
const LEAST_REQUESTS: u64 = 8;
/// Most counters of a worker that are leased. Those beyond are counted exactly.
pub(crate) const MOST: usize = 16_384;
/// Most grants of one counter at a time.
const MOST_GRANTS: usize = 3;
/// A renewal that failed is tried again no sooner.
const RETRY: Duration = Duration::from_millis(100);

/// What one call names of one counter.
type Credits = SmallVec<[Credit; 3]>;

/// Tokens granted in one epoch.
#[derive(Clone, Copy, Debug)]
struct Grant {
    epoch: u64,
    left: u64,
    /// Spent and not named in a call yet.
    spent: u64,
    until: Instant,
}

/// What one worker has of one counter.
#[derive(Debug)]
struct Held {
    counter: Counter,
    grants: SmallVec<[Grant; 2]>,
    demand: Demand,
    /// Size of the newest grant.
    size: u64,
    /// A call that may bring more is under way.
    asked: bool,
    not_before: Instant,
    /// The bucket in the store as the newest answer told it.
    tokens: u64,
    told: Instant,
}

/// What a request is told that was decided here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Tokens in the store, by the newest answer and the refill since, and what this worker holds.
    pub(crate) tokens: u64,
    pub(crate) reset_us: u64,
}

/// All that one worker has leased.
#[derive(Debug)]
pub(crate) struct Leases {
    held: HashMap<Box<str>, Held>,
    most: usize,
}

impl Leases {
    pub(crate) fn new(most: usize) -> Leases {
        Leases { held: HashMap::new(), most }
    }

    /// Nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// May a request be decided here?
    pub(crate) fn covers(&self, key: &str, counter: &Counter, now: Instant) -> bool {
        self.held.get(key).is_some_and(|held| held.is_for(counter) && held.usable(counter.cost, now).is_some())
    }

    /// Takes the cost of one request, which [`Leases::covers`]. True: it is time to ask for more.
    pub(crate) fn spend(&mut self, key: &str, counter: &Counter, now: Instant) -> Option<(Estimate, bool)> {
        let held = self.held.get_mut(key).filter(|held| held.is_for(counter))?;
        let grant = held.usable(counter.cost, now)?;
        held.grants[grant].left -= counter.cost;
        held.grants[grant].spent += counter.cost;
        held.demand.note(counter.cost, now);
        let low = held.left(now) <= held.size / 2;
        let ask = low && !held.asked && now >= held.not_before && held.grants.len() < MOST_GRANTS;
        held.asked |= ask;
        Some((held.estimate(now), ask))
    }

    /// A request of this counter that goes to the store.
    pub(crate) fn note(&mut self, key: &str, counter: &Counter, now: Instant) {
        if let Some(held) = self.held.get_mut(key) {
            if !held.is_for(counter) {
                held.edited(counter, now);
            }
            held.demand.note(counter.cost, now);
        } else if self.held.len() < self.most {
            let mut held = Held::new(*counter, now);
            held.demand.note(counter.cost, now);
            self.held.insert(key.into(), held);
        }
    }

    /// The counter that something is held of under this key.
    pub(crate) fn counter(&self, key: &str) -> Option<Counter> {
        self.held.get(key).map(|held| held.counter)
    }

    /// How many requests are covered.
    pub(crate) fn room(&self, key: &str, counter: &Counter, now: Instant) -> u64 {
        let held = self.held.get(key).filter(|held| held.is_for(counter));
        let usable = |held: &Held| {
            let of = |grant: &Grant| if now < grant.until { grant.left / counter.cost.max(1) } else { 0 };
            held.grants.iter().map(of).sum()
        };
        held.map_or(0, usable)
    }

    /// What a call about the counter, sent now, is to name, and how many tokens it is to lease. `workers`: how many share
    /// the limit.
    pub(crate) fn call(&mut self, key: &str, workers: u64, more: bool, now: Instant) -> Option<(Credits, u64)> {
        let held = self.held.get_mut(key)?;
        let credits = held.credits(now);
        let want = if more && held.grants.len() < MOST_GRANTS { held.wants(workers, now) } else { 0 };
        held.asked = want > 0;
        Some((credits, want))
    }

    /// The store's answer to a call that was sent at `sent`.
    pub(crate) fn answered(&mut self, key: &str, reply: &CounterReply, sent: Instant, now: Instant) {
        let Some(held) = self.held.get_mut(key) else { return };
        held.asked = false;
        held.tokens = reply.tokens;
        held.told = now;
        if reply.leased > 0 {
            held.size = reply.leased;
            held.grants.push(Grant { epoch: reply.epoch, left: reply.leased, spent: 0, until: sent + USABLE });
        }
    }

    /// There was no answer. What the call named counts as done.
    pub(crate) fn unanswered(&mut self, key: &str, now: Instant) {
        if let Some(held) = self.held.get_mut(key) {
            held.asked = false;
            held.not_before = now + RETRY;
        }
    }

    /// Keys with something to name that no request will: grants that ended, counters that fell idle. `all`: everything
    /// is given back, for good. Counters without anything are forgotten.
    pub(crate) fn look(&mut self, now: Instant, all: bool, mut name: impl FnMut(&str)) {
        self.held.retain(|key, held| {
            let idle = all || held.demand.idle_since(now) >= IDLE;
            if idle {
                held.end(now);
            }
            if held.grants.iter().any(|grant| grant.until <= now) {
                name(key);
            }
            !idle || !held.grants.is_empty() || held.asked
        });
        if self.held.is_empty() && self.held.capacity() > 64 {
            self.held = HashMap::new();
        }
    }
}

impl Held {
    fn new(counter: Counter, now: Instant) -> Held {
        Held {
            counter,
            grants: SmallVec::new(),
            demand: Demand::new(now),
            size: 0,
            asked: false,
            not_before: now,
            tokens: 0,
            told: now,
        }
    }

    /// An edit of the limit, or another cost, makes it another thing.
    fn is_for(&self, counter: &Counter) -> bool {
        self.counter.numbers == counter.numbers && self.counter.cost == counter.cost
    }

    fn edited(&mut self, counter: &Counter, now: Instant) {
        self.end(now);
        self.counter = *counter;
        self.tokens = 0;
    }

    /// Nothing of it is spent any more.
    fn end(&mut self, now: Instant) {
        for grant in &mut self.grants {
            grant.until = grant.until.min(now);
        }
    }

    /// The oldest grant that has room: what ends first is spent first.
    fn usable(&self, cost: u64, now: Instant) -> Option<usize> {
        self.grants.iter().position(|grant| now < grant.until && grant.left >= cost)
    }

    fn left(&self, now: Instant) -> u64 {
        self.grants.iter().filter(|grant| now < grant.until).map(|grant| grant.left).sum()
    }

    fn credits(&mut self, now: Instant) -> Credits {
        let mut credits = SmallVec::new();
        self.grants.retain(|grant| {
            let over = now >= grant.until;
            let unspent = if over { grant.left } else { 0 };
            if grant.spent + unspent > 0 {
                credits.push(Credit::Settle { epoch: grant.epoch, spent: grant.spent, unspent });
                grant.spent = 0;
            }
            !over && grant.left > 0
        });
        credits
    }

    /// Half a second of this worker's demand, of which it is to take no more than its share of what may be leased at all
    /// (half a bucket) and of what is left.
    fn wants(&mut self, workers: u64, now: Instant) -> u64 {
        let Counter { cost, numbers, .. } = self.counter;
        let workers = workers.max(1);
        let share = (numbers.burst / 2).min(self.bucket(now)) / workers;
        let wanted = self.demand.in_half_a_second(now).min(share);
        let requests = wanted / cost.max(1);
        if requests < LEAST_REQUESTS { 0 } else { requests * cost }
    }

    /// The bucket in the store, as far as can be known here.
    fn bucket(&self, now: Instant) -> u64 {
        let refilled = refill(&self.counter.numbers, now.saturating_duration_since(self.told));
        self.tokens.saturating_add(refilled).min(self.counter.numbers.burst)
    }

    fn estimate(&self, now: Instant) -> Estimate {
        let numbers = &self.counter.numbers;
        let tokens = self.bucket(now).saturating_add(self.left(now)).min(numbers.burst);
        let missing = u128::from(numbers.burst - tokens);
        let reset = missing * u128::from(numbers.period_us) / u128::from(numbers.average.max(1));
        Estimate { tokens, reset_us: u64::try_from(reset).unwrap_or(u64::MAX) }
    }
}

fn refill(numbers: &Numbers, elapsed: Duration) -> u64 {
    let tokens = elapsed.as_micros() * u128::from(numbers.average) / u128::from(numbers.period_us.max(1));
    u64::try_from(tokens).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
