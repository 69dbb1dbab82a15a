//! A worker that panicked, or had no turn for 60 s, aborts the process: Kubernetes restarts it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

#[cfg(test)]
mod tests;

/// What is wrong with which worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// It panicked.
    Panicked {
        /// Its name.
        worker: String,
    },
    /// It had no turn.
    Stuck {
        /// Its name.
        worker: String,
        /// Since its last touch.
        since: Duration,
    },
}

type Action = dyn Fn(&Alarm) + Send + Sync;

/// Watches workers from a thread of its own, until the last clone and the last pulse are dropped. Cheap to clone.
#[derive(Clone)]
pub struct Watchdog {
    inner: Arc<Inner>,
}

struct Inner {
    limit: Duration,
    begin: Instant,
    workers: Mutex<Vec<Weak<Worker>>>,
    action: Box<Action>,
}

struct Worker {
    name: String,
    /// Milliseconds since the watchdog's begin.
    touched: AtomicU64,
}

/// One worker's pulse: touch it from the worker's loop at least every few seconds; dropping it while panicking aborts.
/// Dropped otherwise, the worker has ended and is no longer watched.
pub struct Pulse {
    worker: Arc<Worker>,
    watchdog: Arc<Inner>,
}

impl Watchdog {
    /// `limit` without a touch: abort, naming the worker.
    pub fn start(limit: Duration) -> Watchdog {
        Self::start_with(limit, abort)
    }

    /// As [`Watchdog::start`], with something else to do than to abort. It may be called again and again for one worker.
    #[allow(clippy::disallowed_methods, reason = "the sleep is on a thread of its own")]
    pub fn start_with(limit: Duration, action: impl Fn(&Alarm) + Send + Sync + 'static) -> Watchdog {
        let watchdog = Self::idle(limit, action);
        let watched = Arc::downgrade(&watchdog.inner);
        let every = (limit / 8).clamp(Duration::from_millis(1), Duration::from_secs(5));
        let spawned = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut last = Instant::now();
            loop {
                std::thread::sleep(every);
                let Some(inner) = watched.upgrade() else {
                    return;
                };
                let now = Instant::now();
                inner.check(now, now - last);
                last = now;
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for the watchdog, a stuck worker will not be noticed");
        }
        watchdog
    }

    fn idle(limit: Duration, action: impl Fn(&Alarm) + Send + Sync + 'static) -> Watchdog {
        let inner = Inner { limit, begin: Instant::now(), workers: Mutex::new(Vec::new()), action: Box::new(action) };
        Watchdog { inner: Arc::new(inner) }
    }

    /// For one worker.
    pub fn pulse(&self, name: String) -> Pulse {
        let touched = AtomicU64::new(self.inner.millis(Instant::now()));
        let worker = Arc::new(Worker { name, touched });
        self.inner.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&worker));
        Pulse { worker, watchdog: self.inner.clone() }
    }
}

impl Pulse {
    /// Alive.
    pub fn touch(&self) {
        self.worker.touched.store(self.watchdog.millis(Instant::now()), Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.watchdog.action)(&Alarm::Panicked { worker: self.worker.name.clone() });
        }
    }
}

impl Inner {
    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX)
    }

    /// `gap`: since the last check.
    fn check(&self, now: Instant, gap: Duration) {
        let now = self.millis(now);
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| worker.strong_count() > 0);
        let watched: Vec<_> = workers.iter().filter_map(Weak::upgrade).collect();
        drop(workers);
        // this thread had no turn either: the whole process was stopped (SIGSTOP, a paused machine), nobody is to blame
        let stopped = gap >= self.limit / 2;
        for worker in watched {
            if stopped {
                worker.touched.store(now, Relaxed);
                continue;
            }
            let since = Duration::from_millis(now.saturating_sub(worker.touched.load(Relaxed)));
            if since >= self.limit {
                (self.action)(&Alarm::Stuck { worker: worker.name.clone(), since });
            }
        }
    }
}

/// The end: nothing of the process can be trusted to shut down in order.
fn abort(alarm: &Alarm) {
    match alarm {
        Alarm::Panicked { worker } => {
            tracing::error!(worker, "worker panicked, the process aborts")
        }
        Alarm::Stuck { worker, since } => {
            tracing::error!(worker, seconds = since.as_secs(), "worker had no turn, the process aborts");
        }
    }
    crate::logging::flush(Duration::from_secs(1));
    std::process::abort();
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("limit", &self.inner.limit).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pulse({})", self.worker.name)
    }
}
