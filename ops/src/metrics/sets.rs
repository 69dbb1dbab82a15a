//! Labelled metrics: a bounded table of label sets, with one overflow set beyond the bound.

use std::{
    collections::HashMap,
    fmt,
    fmt::Write as _,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use super::cells::{Arena, Counter, Histogram};

/// The value of every label once the table is full.
pub(super) const OVERFLOW: &str = "__overflow__";
/// Longest label value, in bytes.
const MAX_VALUE: usize = 256;
/// A cap may later be raised to this many times the first one ...
const CEILING_FACTOR: usize = 20;
/// ... but not beyond this, unless the first one was.
const CEILING: usize = 100_000;

/// A table from label values to cells.
pub(super) struct LabelSets<T> {
    labels: &'static [&'static str],
    cap: AtomicUsize,
    ceiling: usize,
    sets: RwLock<HashMap<String, Set<T>>>,
    overflow: OnceLock<T>,
    overflowed: AtomicU64,
}

struct Set<T> {
    values: Box<[String]>,
    cells: T,
}

impl<T: Clone> LabelSets<T> {
    pub(super) fn new(labels: &'static [&'static str], cap: usize) -> LabelSets<T> {
        LabelSets {
            labels,
            cap: AtomicUsize::new(cap),
            ceiling: cap.max(cap.saturating_mul(CEILING_FACTOR).min(CEILING)),
            sets: RwLock::new(HashMap::new()),
            overflow: OnceLock::new(),
            overflowed: AtomicU64::new(0),
        }
    }

    /// The most sets there may ever be, the overflow set not counted.
    pub(super) fn ceiling(&self) -> usize {
        self.ceiling
    }

    fn set_cap(&self, cap: usize) {
        self.cap.store(cap.min(self.ceiling), Relaxed);
    }

    fn find_or(&self, values: &[&str], make: impl FnOnce() -> T) -> T {
        let key = key(values, self.labels.len());
        {
            let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(set) = sets.get(&*key) {
                return set.cells.clone();
            }
        }
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get(&*key) {
            return set.cells.clone();
        }
        if sets.len() >= self.cap.load(Relaxed) {
            drop(sets);
            self.overflowed.fetch_add(1, Relaxed);
            return self.overflow.get_or_init(make).clone();
        }
        let values = (0..self.labels.len()).map(|at| cut(values.get(at).copied().unwrap_or("")).to_owned()).collect();
        let cells = make();
        sets.insert(key.into_owned(), Set { values, cells: cells.clone() });
        cells
    }

    /// Every set, in no order, the overflow set last.
    pub(super) fn each(&self, mut see: impl FnMut(Vec<(&'static str, &str)>, &T)) {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        for set in sets.values() {
            let pairs = self.labels.iter().copied().zip(set.values.iter().map(String::as_str));
            see(pairs.collect(), &set.cells);
        }
        if let Some(cells) = self.overflow.get() {
            see(self.labels.iter().map(|label| (*label, OVERFLOW)).collect(), cells);
        }
    }
}

/// One label: its value. Several: each with its length before it, so that no two sets share a key.
fn key<'a>(values: &[&'a str], labels: usize) -> std::borrow::Cow<'a, str> {
    if labels == 1 {
        return values.first().map_or("", |value| cut(value)).into();
    }
    let mut key = String::new();
    for at in 0..labels {
        let value = cut(values.get(at).copied().unwrap_or(""));
        // writing to a String cannot fail
        let _ = write!(key, "{}:{value}", value.len());
    }
    key.into()
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_VALUE)]
}

/// Counters by label values, at most `cap` sets, then all labels `__overflow__`. Cheap to clone.
#[derive(Clone)]
pub struct CounterVec {
    sets: Arc<LabelSets<Counter>>,
    arena: Arena,
}

impl CounterVec {
    pub(super) fn new(sets: Arc<LabelSets<Counter>>, arena: Arena) -> CounterVec {
        CounterVec { sets, arena }
    }

    /// Finds or creates; takes a lock, so the request path keeps what it got. Missing values are empty.
    pub fn with(&self, values: &[&str]) -> Counter {
        self.sets.find_or(values, || Counter::new(&self.arena))
    }

    /// Times the overflow set was handed out.
    pub fn overflowed(&self) -> u64 {
        self.sets.overflowed.load(Relaxed)
    }

    /// Changes the cap (hot, `max_tenant_labels`); sets already there stay. At most 20 times the first cap and, unless
    /// the first one was larger, 100,000.
    pub fn set_cap(&self, cap: usize) {
        self.sets.set_cap(cap);
    }
}

impl fmt::Debug for CounterVec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterVec").field("labels", &self.sets.labels).finish_non_exhaustive()
    }
}

/// Histograms by label values, bounded like [`CounterVec`]. Cheap to clone.
#[derive(Clone)]
pub struct HistogramVec {
    sets: Arc<LabelSets<Histogram>>,
    arena: Arena,
    buckets: &'static [f64],
}

impl HistogramVec {
    pub(super) fn new(sets: Arc<LabelSets<Histogram>>, arena: Arena, buckets: &'static [f64]) -> HistogramVec {
        HistogramVec { sets, arena, buckets }
    }

    /// Finds or creates; takes a lock, so the request path keeps what it got. Missing values are empty.
    pub fn with(&self, values: &[&str]) -> Histogram {
        self.sets.find_or(values, || Histogram::new(&self.arena, self.buckets))
    }

    pub(super) fn sets(&self) -> &LabelSets<Histogram> {
        &self.sets
    }
}

impl fmt::Debug for HistogramVec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistogramVec").field("labels", &self.sets.labels).finish_non_exhaustive()
    }
}
