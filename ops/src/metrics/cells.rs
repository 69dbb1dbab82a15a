//! The cells that are written on the request path.
//!
//! A block holds 64 cells per worker. The cells of one worker share cache lines with each other, never with those of
//! another worker, so a counter costs 8 bytes per worker and recording stays free of contention.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Cells of one worker in one block.
const CELLS: usize = 64;
/// A histogram needs one more cell for +Inf and one for the sum.
const MAX_BUCKETS: usize = CELLS - 2;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Marks this thread as worker `index` (1..); unmarked threads share shard 0. An index beyond what the registry was
/// made for counts on shard 0 too: slower, never wrong.
pub fn enter_worker(index: usize) {
    SHARD.set(index);
}

/// The shard of this thread.
pub(crate) fn current_shard() -> usize {
    SHARD.get()
}

/// Two cache lines, because the hardware prefetches lines in pairs.
#[repr(align(128))]
struct Shard([AtomicU64; CELLS]);

struct Block {
    shards: Box<[Shard]>,
}

/// Hands out runs of cells. Cheap to clone.
#[derive(Clone)]
pub(super) struct Arena {
    shards: usize,
    open: Arc<Mutex<Open>>,
}

struct Open {
    block: Arc<Block>,
    used: usize,
}

/// A run of cells, once per shard.
#[derive(Clone)]
struct Run {
    block: Arc<Block>,
    first: usize,
    len: usize,
}

impl Arena {
    /// For `workers` workers and everybody else.
    pub(super) fn new(workers: usize) -> Arena {
        let shards = workers + 1;
        let open = Open { block: Block::new(shards), used: 0 };
        Arena { shards, open: Arc::new(Mutex::new(open)) }
    }

    fn take(&self, len: usize) -> Run {
        let len = len.min(CELLS);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.used + len > CELLS {
            *open = Open { block: Block::new(self.shards), used: 0 };
        }
        let first = open.used;
        open.used += len;
        Run { block: open.block.clone(), first, len }
    }
}

impl Block {
    fn new(shards: usize) -> Arc<Block> {
        let shards = (0..shards).map(|_| Shard([const { AtomicU64::new(0) }; CELLS])).collect();
        Arc::new(Block { shards })
    }
}

impl Run {
    /// The cells of the shard that this thread writes.
    fn mine(&self) -> &[AtomicU64] {
        let shard = self.block.shards.get(SHARD.get()).unwrap_or(&self.block.shards[0]);
        &shard.0[self.first..self.first + self.len]
    }

    fn all(&self) -> impl Iterator<Item = &[AtomicU64]> {
        self.block.shards.iter().map(|shard| &shard.0[self.first..self.first + self.len])
    }
}

/// Cells of a counter. Cheap to clone; `inc` is a relaxed add on this worker's own cache line.
#[derive(Clone)]
pub struct Counter {
    run: Run,
}

impl Counter {
    pub(super) fn new(arena: &Arena) -> Counter {
        Counter { run: arena.take(1) }
    }

    /// +1.
    pub fn inc(&self) {
        self.add(1);
    }

    /// +n.
    pub fn add(&self, n: u64) {
        self.run.mine()[0].fetch_add(n, Relaxed);
    }

    /// Sum over workers.
    pub fn value(&self) -> u64 {
        self.run.all().fold(0, |sum, cells| sum.wrapping_add(cells[0].load(Relaxed)))
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counter({})", self.value())
    }
}

/// A settable gauge. Cheap to clone. One shared cell: not for every request.
#[derive(Clone)]
pub struct Gauge {
    bits: Arc<AtomicU64>,
}

impl Gauge {
    pub(super) fn new() -> Gauge {
        Gauge { bits: Arc::new(AtomicU64::new(0f64.to_bits())) }
    }

    /// Sets. A value that is not finite hides the gauge until the next set.
    pub fn set(&self, v: f64) {
        self.bits.store(v.to_bits(), Relaxed);
    }

    /// What was set last.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits.load(Relaxed))
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gauge({})", self.value())
    }
}

/// A histogram. Cheap to clone; `observe` writes two cells of this worker's own cache lines.
#[derive(Clone)]
pub struct Histogram {
    bounds: &'static [f64],
    run: Run,
}

/// What a histogram holds at one moment.
pub(super) struct Observed {
    /// Cumulative, one for each bound.
    pub(super) buckets: Vec<u64>,
    pub(super) count: u64,
    pub(super) sum: f64,
}

impl Histogram {
    pub(super) fn new(arena: &Arena, bounds: &'static [f64]) -> Histogram {
        let bounds = &bounds[..bounds.len().min(MAX_BUCKETS)];
        Histogram { bounds, run: arena.take(bounds.len() + 2) }
    }

    /// One observation. What is not finite is left out: it would spoil the sum for ever.
    pub fn observe(&self, v: f64) {
        if !v.is_finite() {
            return;
        }
        let cells = self.run.mine();
        let bucket = self.bounds.iter().position(|bound| v <= *bound).unwrap_or(self.bounds.len());
        cells[bucket].fetch_add(1, Relaxed);
        let sum = &cells[self.bounds.len() + 1];
        let mut seen = sum.load(Relaxed);
        while let Err(now) = sum.compare_exchange_weak(seen, (f64::from_bits(seen) + v).to_bits(), Relaxed, Relaxed) {
            seen = now;
        }
    }

    pub(super) fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// The count is the sum of the buckets, so that a scrape amid observations is still consistent in itself.
    pub(super) fn observed(&self) -> Observed {
        let last = self.bounds.len();
        let mut buckets = vec![0u64; last];
        let mut beyond = 0;
        let mut sum = 0.0;
        for cells in self.run.all() {
            for (total, cell) in buckets.iter_mut().zip(cells) {
                *total += cell.load(Relaxed);
            }
            beyond += cells[last].load(Relaxed);
            sum += f64::from_bits(cells[last + 1].load(Relaxed));
        }
        let mut so_far = 0;
        for total in &mut buckets {
            so_far += *total;
            *total = so_far;
        }
        Observed { buckets, count: so_far + beyond, sum }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.observed();
        write!(f, "Histogram({} observed, sum {})", seen.count, seen.sum)
    }
}
