//! What a store is asked, and what it answers.

use edgequota_policy::Numbers;
use smallvec::SmallVec;

use crate::bucket::Bucket;

/// What a call does with the counters of its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Takes tokens, of all enforced limits or of none.
    Spend,
    /// Only answers what a spend would.
    Look,
    /// An administrator fills every counter, as far as leases that are out leave room.
    Reset,
    /// An administrator sets every counter to that many tokens, as far as burst and leases leave room.
    Set(u64),
    /// An administrator adds that many tokens to every counter (or takes them away); never below none, never more than
    /// burst and leases leave room for.
    Add(i64),
}

/// Something that a caller gives back with a call. It is sent once at most and never again: a second time it would be
/// tokens out of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credit {
    /// Of what was leased in an epoch: that much was spent, that much never will be.
    Settle {
        /// Epoch of the grant.
        epoch: u64,
        /// Tokens.
        spent: u64,
        /// Tokens.
        unspent: u64,
    },
    /// Tokens that an earlier call took and nobody used. What has refilled since then is not given twice.
    Refund {
        /// Tokens.
        tokens: u64,
        /// The store's clock when they were taken, microseconds.
        taken_us: u64,
    },
}

/// One counter within a plan, without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counter {
    /// Tokens a request, 1..=burst.
    pub cost: u64,
    /// The bucket's numbers.
    pub numbers: Numbers,
    /// Must grant (else a shadow limit).
    pub enforce: bool,
    /// The least time that a key lives, in milliseconds; zero: as the bucket needs.
    pub min_ttl_ms: u64,
}

/// A counter and where its key ends in the plan's key buffer.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The counter.
    pub counter: Counter,
    key_end: usize,
    lease: u64,
}

/// One question: n requests of one kind against an ordered set of counters with distinct keys.
///
/// A store does, per counter and in this order: bring it up to now, take in what is given back ([`Plan::give_back`]),
/// what the purpose says, then lease ([`Plan::lease`]). A look does the first only.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is done with the counters.
    pub purpose: Purpose,
    /// How many such requests; none when the call only gives back or leases. An administrator's change takes nothing
    /// for them: it answers how many would be granted after it.
    pub n: u64,
    entries: SmallVec<[Entry; 2]>,
    keys: String,
    credits: Vec<(usize, Credit)>,
}

impl Plan {
    /// Nothing to ask yet, for one request. `keys` is a buffer to reuse; what it holds is discarded.
    pub fn new(purpose: Purpose, mut keys: String) -> Plan {
        keys.clear();
        Plan { purpose, n: 1, entries: SmallVec::new(), keys, credits: Vec::new() }
    }

    /// Adds a counter; `write_key` appends its key.
    pub fn push(&mut self, counter: Counter, write_key: impl FnOnce(&mut String)) {
        write_key(&mut self.keys);
        self.entries.push(Entry { counter, key_end: self.keys.len(), lease: 0 });
    }

    /// Gives something back to the counter of entry `i`, before anything is taken. Once per call to a store: before the
    /// same plan is sent again, [`Plan::drop_credits`].
    pub fn give_back(&mut self, i: usize, credit: Credit) {
        self.credits.push((i, credit));
    }

    /// Asks to lease up to `tokens` of the counter of entry `i`, after the n requests have taken theirs. Only a spend
    /// leases, and only in Redis.
    pub fn lease(&mut self, i: usize, tokens: u64) {
        if let Some(entry) = self.entries.get_mut(i) {
            entry.lease = tokens;
        }
    }

    /// Tokens to be leased of entry `i`'s counter.
    pub fn leases(&self, i: usize) -> u64 {
        self.entries.get(i).map_or(0, |entry| entry.lease)
    }

    /// What is given back, with the entry it goes to, in order.
    pub fn credits(&self) -> &[(usize, Credit)] {
        &self.credits
    }

    /// Before the plan is sent a second time.
    pub fn drop_credits(&mut self) {
        self.credits.clear();
    }

    /// Key and counter of each entry, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Counter)> {
        self.entries.iter().enumerate().map(|(i, entry)| {
            let start = i.checked_sub(1).map_or(0, |before| self.entries[before].key_end);
            (&self.keys[start..entry.key_end], &entry.counter)
        })
    }

    /// The same about some of its entries only, with what is given back to them and leased of them.
    pub(crate) fn part(&self, entries: &[usize]) -> Plan {
        let mut part = Plan { n: self.n, ..Plan::new(self.purpose, String::new()) };
        for (at, i) in entries.iter().enumerate() {
            let Some((key, counter)) = self.iter().nth(*i) else { continue };
            part.push(*counter, |out| out.push_str(key));
            part.lease(at, self.leases(*i));
            let credits = self.credits.iter().filter(|(entry, _)| entry == i);
            part.credits.extend(credits.map(|(_, credit)| (at, *credit)));
        }
        part
    }

    /// The same counters, of which nothing is asked.
    pub(crate) fn nothing(&self) -> Plan {
        let mut plan = Plan { n: 0, ..self.clone() };
        plan.drop_credits();
        plan.entries.iter_mut().for_each(|entry| entry.lease = 0);
        plan
    }

    /// How many counters.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// No counter: nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The key buffer, to be used again.
    pub fn into_buffer(self) -> String {
        self.keys
    }
}

/// A store's answer to a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replies {
    /// How many of the n requests may pass.
    pub granted: u64,
    /// Counters that held garbage and are empty buckets now.
    pub corrupt: u64,
    /// Counters that met a clock that had gone back.
    pub clock_steps: u64,
    /// One per entry, in order.
    pub counters: SmallVec<[CounterReply; 2]>,
}

/// One counter after the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterReply {
    /// The store's clock, microseconds.
    pub now_us: u64,
    /// How many of the n this counter alone would grant.
    pub room: u64,
    /// Whole tokens left.
    pub tokens: u64,
    /// Microseconds until `cost` tokens are there.
    pub retry_us: u64,
    /// Microseconds until full.
    pub reset_us: u64,
    /// Tokens that were leased.
    pub leased: u64,
    /// In which epoch; it is to be named when they are settled.
    pub epoch: u64,
}

impl CounterReply {
    /// What a bucket tells at `now_us`, room and leases aside.
    pub(crate) fn of(bucket: &Bucket, counter: &Counter, now_us: u64) -> CounterReply {
        let numbers = &counter.numbers;
        CounterReply {
            now_us,
            tokens: bucket.tokens,
            retry_us: bucket.retry_after_us(numbers, counter.cost, now_us),
            reset_us: bucket.reset_after_us(numbers, now_us),
            ..CounterReply::default()
        }
    }
}

/// Milliseconds that a counter's key must live at least, and what it is given when it has less left. A key that
/// expires before its bucket could be full would hand out a second burst.
pub fn lifetimes_ms(counter: &Counter) -> (u64, u64) {
    /// Longest bucket (5 years) with room to spare; keeps sums exact as doubles.
    const LONGEST_MS: u64 = 20 * 366 * 86_400_000;
    let numbers = &counter.numbers;
    let full_us = crate::bucket::time_to_full_us(numbers);
    let need = (full_us.saturating_add(numbers.period_us).div_ceil(1000).saturating_add(2000))
        .max(counter.min_ttl_ms)
        .min(LONGEST_MS);
    (need, 2 * need + fastrand::u64(0..=need / 5))
}
