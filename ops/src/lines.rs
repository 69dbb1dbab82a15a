//! Lines on their way to a writer that may be slow: bounded buffers, one writer thread, never a wait for I/O.
//!
//! Each shard has two buffers behind a mutex each, and the writer thread takes at most one of them at a time, for as
//! long as swapping two vectors takes. A worker is alone on its shard, so one of the two is always free for it and
//! `try_lock` never fails; only threads that share shard 0 may meet each other there. That is a single-producer ring
//! without unsafe code: no wait, no allocation once the buffers have grown, and one copy of the line.
//!
//! The writer thread is woken by the first line and then waits a moment for more, so that a busy process makes one
//! system call for many lines, and a worker makes none.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use crate::metrics;

mod stdout;

#[cfg(test)]
mod tests;

pub(crate) use stdout::Stdout;

/// A buffer that grew beyond this is given back when the rush is over.
const KEEP: usize = 64 * 1024;

/// How a queue is made.
pub(crate) struct Config {
    /// Of the writer thread.
    pub(crate) name: &'static str,
    /// One for each worker and one for everybody else.
    pub(crate) shards: usize,
    /// Bytes that may wait, for each shard.
    pub(crate) capacity: usize,
    /// How long the writer waits for more lines after the first.
    pub(crate) gather: Duration,
}

/// The end that takes lines. Cheap to clone; the writer thread writes what is left and ends with the last clone.
#[derive(Clone)]
pub(crate) struct Lines {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
}

struct Shared {
    shards: Box<[Shard]>,
    /// Half of the capacity: a shard has two buffers.
    half: usize,
    gather: Duration,
    /// There are lines that the writer has not been told of. Read for each line, written once for each batch.
    pending: AtomicBool,
    urgent: AtomicBool,
    closing: AtomicBool,
    thread: OnceLock<Thread>,
    rounds: Mutex<Rounds>,
    round_done: Condvar,
    /// Lines that were lost because the writer refused them.
    refused: AtomicU64,
}

/// Rounds of the writer: what was handed over before a round began is written when it is done.
#[derive(Default)]
struct Rounds {
    begun: u64,
    done: u64,
}

/// Two cache lines, so that workers do not meet.
#[repr(align(128))]
struct Shard {
    buffers: [Mutex<Vec<u8>>; 2],
    dropped: AtomicU64,
}

impl Lines {
    /// Starts the writer thread on `out`, which gets whole lines with each `write_all`.
    pub(crate) fn start(config: &Config, out: Box<dyn Write + Send>) -> Lines {
        let shard = || Shard { buffers: [Mutex::default(), Mutex::default()], dropped: AtomicU64::new(0) };
        let shared = Arc::new(Shared {
            shards: (0..config.shards.max(1)).map(|_| shard()).collect(),
            half: config.capacity / 2,
            gather: config.gather,
            pending: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            thread: OnceLock::new(),
            rounds: Mutex::default(),
            round_done: Condvar::new(),
            refused: AtomicU64::new(0),
        });
        let writer = shared.clone();
        let spawned = std::thread::Builder::new().name(config.name.to_owned()).spawn(move || writer.write_all(out));
        match spawned {
            Ok(handle) => drop(shared.thread.set(handle.thread().clone())),
            // there is no log to say it in; lines are dropped and counted
            Err(error) => drop(writeln!(io::stderr(), "warning: no thread for {}: {error}", config.name)),
        }
        Lines { owner: Arc::new(Owner { shared }) }
    }

    /// Hands over whole lines; false: dropped and counted, because the writer is behind by the whole capacity.
    pub(crate) fn push(&self, line: &[u8]) -> bool {
        let shared = &self.owner.shared;
        let shard = shared.shards.get(metrics::current_shard()).unwrap_or(&shared.shards[0]);
        let taken = shard.push(line, shared.half);
        if !taken {
            shard.dropped.fetch_add(1, Relaxed);
        }
        // the mutex orders this read after the writer's reset, if the writer has passed this buffer already
        if !shared.pending.load(Relaxed) && !shared.pending.swap(true, Relaxed) {
            shared.wake();
        }
        taken
    }

    /// Lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        let shared = &self.owner.shared;
        shared.refused.load(Relaxed) + shared.shards.iter().map(|shard| shard.dropped.load(Relaxed)).sum::<u64>()
    }

    /// Waits until what was handed over before the call is written, at most `limit`; whether it is.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let shared = &self.owner.shared;
        let mut rounds = shared.rounds();
        // the round that runs now may have passed our buffer already
        let wanted = rounds.begun + 1;
        shared.urgent.store(true, Relaxed);
        shared.pending.store(true, Relaxed);
        shared.wake();
        while rounds.done < wanted {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            rounds = shared.round_done.wait_timeout(rounds, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.closing.store(true, Relaxed);
        self.shared.wake();
    }
}

impl Shard {
    fn push(&self, line: &[u8], half: usize) -> bool {
        let mut full = 0;
        for buffer in &self.buffers {
            match buffer.try_lock() {
                Ok(mut buffer) if buffer.len() + line.len() <= half => {
                    buffer.extend_from_slice(line);
                    return true;
                }
                Ok(_) => full += 1,
                Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => {}
            }
        }
        if full == self.buffers.len() {
            return false;
        }
        // only threads that share a shard come here, and only for the time of a copy
        let mut buffer = locked(&self.buffers[0]);
        let fits = buffer.len() + line.len() <= half;
        if fits {
            buffer.extend_from_slice(line);
        }
        fits
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer thread.
    fn write_all(&self, mut out: Box<dyn Write + Send>) {
        // whoever was faster than the spawn could not wake it
        let _ = self.thread.set(std::thread::current());
        let mut batch = Vec::new();
        loop {
            self.wait();
            let closing = self.closing.load(Relaxed);
            self.rounds().begun += 1;
            self.pending.store(false, Relaxed);
            for buffer in self.shards.iter().flat_map(|shard| &shard.buffers) {
                std::mem::swap(&mut *locked(buffer), &mut batch);
                self.write(out.as_mut(), &batch);
                batch.clear();
                batch.shrink_to(KEEP);
            }
            let mut rounds = self.rounds();
            rounds.done = rounds.begun;
            drop(rounds);
            self.round_done.notify_all();
            if closing {
                return;
            }
        }
    }

    /// Until there is something to write, and then a moment for more.
    fn wait(&self) {
        let closing = || self.closing.load(Relaxed);
        while !self.pending.load(Relaxed) && !closing() {
            std::thread::park();
        }
        let until = Instant::now() + self.gather;
        while !self.urgent.swap(false, Relaxed) && !closing() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn write(&self, out: &mut dyn Write, batch: &[u8]) {
        if batch.is_empty() {
            return;
        }
        if out.write_all(batch).and_then(|()| out.flush()).is_err() {
            let lines = batch.iter().filter(|byte| **byte == b'\n').count();
            self.refused.fetch_add(lines as u64, Relaxed);
        }
    }
}

fn locked(buffer: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}
