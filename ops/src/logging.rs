//! Structured logs on stdout.
//!
//! A line is made on the thread that logs and written by another one, so that a slow stdout drops lines rather than a
//! request. Events of other crates appear from `warn` upwards only: at `debug` they would bury ours.

mod format;
mod layer;
mod time;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use edgequota_config::settings::{LogFormat, LogLevel, Logging};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::lines::{Config, Lines, Stdout};

pub use time::write_rfc3339;

/// Bytes that may wait for stdout.
const RING: usize = 1024 * 1024;
/// A line may be this much late, so that a burst goes out in one system call.
const GATHER: Duration = Duration::from_millis(2);

static INSTALLED: OnceLock<LogHandle> = OnceLock::new();

/// Changes the level of a running process. Cheap to clone.
#[derive(Clone)]
pub struct LogHandle {
    state: Arc<State>,
}

struct State {
    level: AtomicU8,
    format: AtomicU8,
    lines: Lines,
}

impl LogHandle {
    /// Hot.
    pub fn set_level(&self, level: LogLevel) {
        if self.state.level.swap(level_code(level), Relaxed) != level_code(level) {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    /// Level and format, hot.
    pub fn apply(&self, settings: &Logging) {
        self.state.format.store(format_code(settings.format), Relaxed);
        self.set_level(settings.level);
    }

    /// Lines dropped because stdout was slow.
    pub fn dropped(&self) -> u64 {
        self.state.lines.dropped()
    }

    /// Waits until what was logged is written, at most `limit`. Blocks: not for a worker.
    pub fn flush(&self, limit: Duration) {
        self.state.lines.flush(limit);
    }
}

/// Installs the global subscriber once; fields `time level msg` plus event fields, JSON or text. Non-blocking: a
/// slow stdout drops lines rather than a request. Later calls apply their settings to the one that is there.
pub fn init(settings: &Logging) -> LogHandle {
    let handle = INSTALLED.get_or_init(|| {
        let config = Config { name: "log", shards: 1, capacity: RING, gather: GATHER };
        let handle = LogHandle::new(settings, Lines::start(&config, Box::new(Stdout)));
        let subscriber = tracing_subscriber::registry().with(layer::Lined::new(handle.state.clone()));
        // a test that brought its own subscriber keeps it
        let _ = tracing::subscriber::set_global_default(subscriber);
        handle
    });
    handle.apply(settings);
    handle.clone()
}

/// Waits until what was logged is written, at most `limit`; for ways out of the process that have no handle.
pub fn flush(limit: Duration) {
    if let Some(handle) = INSTALLED.get() {
        handle.flush(limit);
    }
}

/// Lines dropped so far because stdout was slow.
pub fn dropped() -> u64 {
    INSTALLED.get().map_or(0, LogHandle::dropped)
}

impl LogHandle {
    fn new(settings: &Logging, lines: Lines) -> LogHandle {
        let state = State {
            level: AtomicU8::new(level_code(settings.level)),
            format: AtomicU8::new(format_code(settings.format)),
            lines,
        };
        LogHandle { state: Arc::new(state) }
    }
}

impl State {
    fn level(&self) -> LevelFilter {
        match self.level.load(Relaxed) {
            0 => LevelFilter::DEBUG,
            1 => LevelFilter::INFO,
            2 => LevelFilter::WARN,
            _ => LevelFilter::ERROR,
        }
    }

    fn json(&self) -> bool {
        self.format.load(Relaxed) == format_code(LogFormat::Json)
    }
}

fn level_code(level: LogLevel) -> u8 {
    match level {
        LogLevel::Debug => 0,
        LogLevel::Info => 1,
        LogLevel::Warn => 2,
        LogLevel::Error => 3,
    }
}

fn format_code(format: LogFormat) -> u8 {
    match format {
        LogFormat::Json => 0,
        LogFormat::Text => 1,
    }
}
