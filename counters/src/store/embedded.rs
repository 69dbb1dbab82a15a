//! Counters inside the process: exact for a single process, nothing survives its end.
//!
//! It never leases: a call costs no more than a lease would. Bounded, in [`SHARDS`] shards; when a shard is full, a tenth of it makes room, chosen by [`Evict`]. Each counter that
//! is dropped while in use hands its subject at most one burst, and is counted. Memory follows the counters in use: a
//! shard that has doubled drops those that are full again.

mod answer;
mod shard;

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
    sync::{Mutex, MutexGuard, PoisonError},
};

use smallvec::SmallVec;

use shard::{Kept, Shard};

use super::plan::{Plan, Purpose, Replies};
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
    shards: Vec<Mutex<Shard>>,
    evicted: AtomicU64,
}

impl Embedded {
    /// Empty, with room for `capacity` counters (each shard holds at least ten).
    pub fn new(clock: Clock, capacity: usize, evict: Evict) -> Embedded {
        Embedded {
            clock,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(capacity / SHARDS, evict))).collect(),
            evicted: AtomicU64::new(0),
        }
    }

    /// Answers at once. Never leases, so settles mean nothing here; refunds and an administrator's changes do.
    pub fn call(&self, plan: &Plan) -> Replies {
        let mut places = SmallVec::<[usize; 4]>::new();
        for (key, _) in plan.iter() {
            places.push(self.shard_of(key));
        }
        let mut locked = self.lock(&places);
        let now_us = self.clock.now_us();
        let mut buckets = SmallVec::<[Bucket; 4]>::new();
        let mut changed = SmallVec::<[bool; 4]>::new();
        for ((key, counter), place) in plan.iter().zip(&places) {
            let kept = shard(&mut locked, *place).and_then(|shard| shard.get(key));
            let mut bucket = kept.unwrap_or_else(|| Bucket::full(&counter.numbers, now_us));
            changed.push(bucket.advance(&counter.numbers, now_us) == ClockMove::Stepped);
            buckets.push(bucket);
        }
        let clock_steps = changed.iter().map(|stepped| u64::from(*stepped)).sum();
        let replies = Replies { clock_steps, ..answer::answer(plan, &mut buckets, &mut changed, now_us) };
        if plan.purpose == Purpose::Look {
            return replies;
        }
        for (i, ((key, _), place)) in plan.iter().zip(&places).enumerate() {
            if !changed[i] {
                continue;
            }
            let full_at_us = now_us.saturating_add(replies.counters[i].reset_us);
            let kept = Kept { bucket: buckets[i], used_us: now_us, full_at_us };
            if let Some(shard) = shard(&mut locked, *place) {
                let evicted = shard.keep(key, kept, now_us);
                self.evicted.fetch_add(evicted, Ordering::Relaxed);
            }
        }
        replies
    }

    /// Counters that are kept now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
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
        wanted.into_iter().map(|i| (i, self.shards[i].lock().unwrap_or_else(PoisonError::into_inner))).collect()
    }
}

fn shard<'a>(locked: &'a mut [(usize, MutexGuard<'_, Shard>)], place: usize) -> Option<&'a mut Shard> {
    locked.iter_mut().find(|(i, _)| *i == place).map(|(_, guard)| &mut **guard)
}
