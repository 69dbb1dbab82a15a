//! What all connections of a process to its store have in common.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edgequota_config::settings::Redis;
use tokio::{runtime::Handle, sync::watch, time::Instant};

use super::{LONG, MAX_CONNECTIONS, budget::Budget};
use crate::{clock::micros, metrics::Counted};

/// Whose connection it is, on every server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// A worker's, while there are enough (later ones share).
    Worker(usize),
    /// For pings and the API.
    Spare,
}

/// Process-wide.
pub(super) struct Common {
    pub(super) settings: watch::Receiver<Arc<Redis>>,
    pub(super) node: String,
    pub(super) counted: Arc<Counted>,
    pub(super) budget: Budget,
    pub(super) start: Instant,
    slots: usize,
    deadline_us: AtomicU64,
    crew: Mutex<Vec<(Seat, Handle)>>,
}

impl Common {
    pub(super) fn new(settings: watch::Receiver<Arc<Redis>>, counted: Arc<Counted>, node: &str) -> Common {
        let now = settings.borrow().clone();
        let slots = now.pool_size.clamp(1, MAX_CONNECTIONS);
        let common = Common {
            settings,
            node: node.to_owned(),
            counted,
            budget: Budget::new(slots),
            start: Instant::now(),
            slots,
            deadline_us: AtomicU64::new(0),
            crew: Mutex::default(),
        };
        common.adopt(&now);
        common
    }

    /// Connections to one server.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// The place of a seat's connection: a worker's own while there are enough, with the last one left for the API and pings.
    pub(super) fn slot_of(&self, seat: Seat) -> usize {
        let spare = self.slots - 1;
        match seat {
            Seat::Worker(worker) => worker.checked_rem(spare).unwrap_or(0),
            Seat::Spare => spare,
        }
    }

    /// Whoever holds the seat lives on the current runtime; its connections will, too. `None`: there is no runtime.
    pub(super) fn enlist(&self, seat: Seat) -> Option<Handle> {
        let runtime = Handle::try_current().ok()?;
        let mut crew = self.crew.lock().unwrap_or_else(PoisonError::into_inner);
        match crew.iter_mut().find(|(known, _)| *known == seat) {
            Some((_, known)) => *known = runtime.clone(),
            None => crew.push((seat, runtime.clone())),
        }
        Some(runtime)
    }

    /// Everybody who is to be connected to a server, with the runtime for it.
    pub(super) fn crew(&self) -> Vec<(Seat, Handle)> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long a request may wait for its answer.
    pub(super) fn deadline(&self) -> Duration {
        Duration::from_micros(self.deadline_us.load(Ordering::Relaxed))
    }

    /// Microseconds since the start.
    pub(super) fn now_us(&self) -> u64 {
        micros(self.start.elapsed())
    }

    /// Takes over what counts for every call.
    pub(super) fn adopt(&self, settings: &Redis) {
        let deadline = settings.deadline.non_zero().or(settings.read_timeout.non_zero()).unwrap_or(LONG);
        self.deadline_us.store(micros(deadline), Ordering::Relaxed);
    }
}
