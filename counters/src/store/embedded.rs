//! Counters inside the process: exact for a single process, nothing survives its end.
//!
//! Bounded, in [`SHARDS`] shards; when a shard is full, a tenth of it makes room, chosen by [`Evict`]. Each counter that
//! is dropped while in use hands its subject at most one burst, and is counted.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
    sync::{Mutex, MutexGuard, PoisonError},
};

use smallvec::SmallVec;

use super::plan::{Plan, Purpose, Replies, settle};
use crate::{
    bucket::{Bucket, ClockMove},
    clock::Clock,
};

/// Most counters that the embedded store keeps.
pub const CAPACITY: usize = 1 << 20;
/// Number of shards, each behind its own lock.
pub const SHARDS: usize = 64;

/// Which counters make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evict {
    /// Those that are full again (they say no more than absent ones), then those that would be full soonest.
    FullFirst,
    /// Those that were spent from longest ago.
    Oldest,
}

/// The store. Process-wide state: shared by all workers, and in `demo` by all planes.
#[derive(Debug)]
pub struct Embedded {
    clock: Clock,
    hasher: RandomState,
    per_shard: usize,
    evict: Evict,
    shards: Vec<Mutex<Shard>>,
    evicted: AtomicU64,
}

type Shard = HashMap<Box<str>, Kept>;

#[derive(Clone, Copy, Debug)]
struct Kept {
    bucket: Bucket,
    /// The least one makes room first.
    rank_us: u64,
}

impl Embedded {
    /// Empty, with room for `capacity` counters (each shard holds at least ten).
    pub fn new(clock: Clock, capacity: usize, evict: Evict) -> Embedded {
        Embedded {
            clock,
            hasher: RandomState::new(),
            per_shard: (capacity / SHARDS).max(10),
            evict,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            evicted: AtomicU64::new(0),
        }
    }

    /// Answers at once.
    pub fn call(&self, plan: &Plan) -> Replies {
        let mut places = SmallVec::<[usize; 4]>::new();
        for (key, _) in plan.iter() {
            places.push(self.shard_of(key));
        }
        let mut locked = self.lock(&places);
        let now_us = self.clock.now_us();
        let mut buckets = SmallVec::<[Bucket; 4]>::new();
        let mut stepped = SmallVec::<[bool; 4]>::new();
        for ((key, counter), place) in plan.iter().zip(&places) {
            let mut bucket = match shard(&mut locked, *place).and_then(|shard| shard.get(key)) {
                Some(kept) => kept.bucket,
                None => Bucket::full(&counter.numbers, now_us),
            };
            stepped.push(bucket.advance(&counter.numbers, now_us) == ClockMove::Stepped);
            buckets.push(bucket);
        }
        let mut replies = settle(plan, &mut buckets, now_us);
        replies.clock_steps = stepped.iter().map(|stepped| u64::from(*stepped)).sum();
        if plan.purpose == Purpose::Look {
            return replies;
        }
        for (i, ((key, _), place)) in plan.iter().zip(&places).enumerate() {
            let reply = &replies.counters[i];
            // A bucket of which nothing was taken is a function of time: it need not be written.
            if replies.granted.min(reply.room) == 0 && !stepped[i] {
                continue;
            }
            let rank_us = match self.evict {
                Evict::FullFirst => now_us.saturating_add(reply.reset_us),
                Evict::Oldest => now_us,
            };
            if let Some(shard) = shard(&mut locked, *place) {
                self.keep(
                    shard,
                    key,
                    Kept {
                        bucket: buckets[i],
                        rank_us,
                    },
                    now_us,
                );
            }
        }
        replies
    }

    /// Counters that are kept now.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// None is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counters in use that were dropped for want of room, since the start.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn shard_of(&self, key: &str) -> usize {
        // The high bits: the map inside the shard uses the low ones of its own hasher.
        usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0) % SHARDS
    }

    /// Locks the shards in ascending order, each once, so that two calls never wait for one another in a circle.
    fn lock(&self, places: &[usize]) -> SmallVec<[(usize, MutexGuard<'_, Shard>); 4]> {
        let mut wanted = SmallVec::<[usize; 4]>::from_slice(places);
        wanted.sort_unstable();
        wanted.dedup();
        // A panic under the lock leaves whole entries only: the state stays good.
        wanted
            .into_iter()
            .map(|i| {
                (
                    i,
                    self.shards[i]
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner),
                )
            })
            .collect()
    }

    fn keep(&self, shard: &mut Shard, key: &str, kept: Kept, now_us: u64) {
        if let Some(place) = shard.get_mut(key) {
            *place = kept;
            return;
        }
        if shard.len() >= self.per_shard {
            self.make_room(shard, now_us);
        }
        shard.insert(key.into(), kept);
    }

    fn make_room(&self, shard: &mut Shard, now_us: u64) {
        if self.evict == Evict::FullFirst {
            shard.retain(|_, kept| kept.rank_us > now_us);
            // Enough room that not every call has to look for some.
            if shard.len() + (self.per_shard / 32).max(1) <= self.per_shard {
                return;
            }
        }
        let excess = shard
            .len()
            .saturating_sub(self.per_shard - self.per_shard / 10);
        if excess == 0 {
            return;
        }
        let mut ranks: Vec<u64> = shard.values().map(|kept| kept.rank_us).collect();
        let threshold = *ranks.select_nth_unstable(excess - 1).1;
        let mut left = excess;
        shard.retain(|_, kept| {
            let drop = left > 0 && kept.rank_us <= threshold;
            left -= usize::from(drop);
            !drop
        });
        self.evicted.fetch_add(excess as u64, Ordering::Relaxed);
    }
}

fn shard<'a>(
    locked: &'a mut [(usize, MutexGuard<'_, Shard>)],
    place: usize,
) -> Option<&'a mut Shard> {
    locked
        .iter_mut()
        .find(|(i, _)| *i == place)
        .map(|(_, guard)| &mut **guard)
}
