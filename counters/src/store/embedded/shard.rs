//! One shard: a bounded map whose memory follows what is in use.

use std::collections::HashMap;

use super::Evict;
use crate::bucket::Bucket;

/// A shard this small is never tidied.
const SMALL: usize = 64;
/// A shard is never smaller, or a tenth of it would be nothing.
const LEAST: usize = 10;

/// Counters of one shard.
#[derive(Debug)]
pub(super) struct Shard {
    kept: HashMap<Box<str>, Kept>,
    most: usize,
    tidy_at: usize,
    evict: Evict,
}

/// A counter and when it can be missed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) bucket: Bucket,
    pub(super) used_us: u64,
    /// From then on it says no more than an absent one.
    pub(super) full_at_us: u64,
}

impl Shard {
    pub(super) fn new(most: usize, evict: Evict) -> Shard {
        let most = most.max(LEAST);
        Shard { kept: HashMap::new(), most, tidy_at: SMALL.min(most), evict }
    }

    pub(super) fn get(&self, key: &str) -> Option<Bucket> {
        self.kept.get(key).map(|kept| kept.bucket)
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Answers how many counters in use made room for it.
    pub(super) fn keep(&mut self, key: &str, kept: Kept, now_us: u64) -> u64 {
        if let Some(place) = self.kept.get_mut(key) {
            *place = kept;
            return 0;
        }
        let evicted = if self.kept.len() >= self.tidy_at { self.tidy(now_us) } else { 0 };
        self.kept.insert(key.into(), kept);
        evicted
    }

    /// Drops what is full. At least as many counters are added before the next time as are kept now, or a thirtieth of
    /// the shard when it is nearly full, so a call pays little for it.
    fn tidy(&mut self, now_us: u64) -> u64 {
        self.kept.retain(|_, kept| kept.full_at_us > now_us);
        let spare = (self.most / 32).max(1);
        let evicted = if self.kept.len() + spare > self.most { self.evict_tenth() } else { 0 };
        self.tidy_at = (self.kept.len() * 2).clamp(SMALL.min(self.most), self.most);
        if self.kept.capacity() > self.tidy_at * 4 {
            self.kept.shrink_to(self.tidy_at);
        }
        evicted
    }

    fn evict_tenth(&mut self) -> u64 {
        let excess = self.kept.len().saturating_sub(self.most - self.most / 10);
        if excess == 0 {
            return 0;
        }
        let evict = self.evict;
        let rank = |kept: &Kept| match evict {
            Evict::FullFirst => kept.full_at_us,
            Evict::Oldest => kept.used_us,
        };
        let mut ranks: Vec<u64> = self.kept.values().map(rank).collect();
        let threshold = *ranks.select_nth_unstable(excess - 1).1;
        let mut left = excess;
        self.kept.retain(|_, kept| {
            let drop = left > 0 && rank(kept) <= threshold;
            left -= usize::from(drop);
            !drop
        });
        excess as u64
    }
}
