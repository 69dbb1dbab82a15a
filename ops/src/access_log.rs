//! Lines that never block a request: a bounded ring per thread, one writer thread; full: dropped and counted.

use std::{fmt, io::Write, time::Duration};

use crate::lines::{Config, Lines, Stdout};

/// Bytes that may wait for the writer, for each worker.
const RING: usize = 1024 * 1024;
/// A line may be this much late, so that many go out in one system call.
const GATHER: Duration = Duration::from_millis(10);

/// Handle, cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    lines: Lines,
}

impl AccessLog {
    /// Starts the writer thread on `out`. `shards`: number of workers. Each ring holds 1 MiB of lines.
    ///
    /// `out` gets whole lines with each `write_all`; it may block for as long as it likes. The thread writes what is
    /// left and ends when the last clone is dropped.
    pub fn start(out: Box<dyn Write + Send>, shards: usize) -> AccessLog {
        let config = Config { name: "access-log", shards: shards + 1, capacity: RING, gather: GATHER };
        AccessLog { lines: Lines::start(&config, out) }
    }

    /// On standard output, which it shares with the log without ever mixing two lines.
    pub fn stdout(shards: usize) -> AccessLog {
        Self::start(Box::new(Stdout), shards)
    }

    /// Hands one finished line (with its newline) over; drops and counts when the ring is full. Never blocks on I/O.
    pub fn line(&self, line: &[u8]) {
        self.lines.push(line);
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.lines.dropped()
    }

    /// Waits until what was handed over is written, at most `limit`. Blocks: not for a worker.
    pub fn flush(&self, limit: Duration) {
        self.lines.flush(limit);
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessLog({} dropped)", self.dropped())
    }
}
