//! What all connections of a process to its store have in common.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
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

/// Everybody who is to be connected to every server, with the runtime that the connection lives on. Process-wide.
#[derive(Debug, Default)]
pub(super) struct Crew(Mutex<Vec<(Seat, Handle)>>);

impl Crew {
    /// Whoever holds the seat lives on the current runtime. `None`: there is none.
    pub(super) fn enlist(&self, seat: Seat) -> Option<Handle> {
        let runtime = Handle::try_current().ok()?;
        let mut crew = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match crew.iter_mut().find(|(known, _)| *known == seat) {
            Some((_, known)) => *known = runtime.clone(),
            None => crew.push((seat, runtime.clone())),
        }
        Some(runtime)
    }

    pub(super) fn all(&self) -> Vec<(Seat, Handle)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What all connections of one topology share.
pub(super) struct Common {
    /// Only those that this topology can follow.
    settings: watch::Sender<Arc<Redis>>,
    pub(super) node: String,
    pub(super) counted: Arc<Counted>,
    pub(super) budget: Budget,
    pub(super) start: Instant,
    pub(super) crew: Arc<Crew>,
    slots: usize,
    deadline_us: AtomicU64,
    /// Why it cannot be found out who counts.
    obstacles: [ArcSwapOption<String>; 2],
}

/// What a missing ACL rule can keep us from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Asking servers for their role.
    Role,
    /// Asking the Sentinels or the nodes of a cluster who it is.
    Directory,
}

impl Common {
    pub(super) fn new(settings: &Arc<Redis>, counted: Arc<Counted>, node: &str, crew: Arc<Crew>) -> Common {
        let slots = slots(settings);
        let common = Common {
            settings: watch::Sender::new(Arc::clone(settings)),
            node: node.to_owned(),
            counted,
            budget: Budget::new(slots),
            start: Instant::now(),
            crew,
            slots,
            deadline_us: AtomicU64::new(0),
            obstacles: Default::default(),
        };
        common.adopt(settings);
        common
    }

    pub(super) fn settings(&self) -> watch::Receiver<Arc<Redis>> {
        self.settings.subscribe()
    }

    /// From now on these are in force.
    pub(super) fn adopt(&self, settings: &Arc<Redis>) {
        let deadline = settings.deadline.non_zero().or(settings.read_timeout.non_zero()).unwrap_or(LONG);
        self.deadline_us.store(micros(deadline), Ordering::Relaxed);
        self.settings.send_if_modified(|known| {
            let news = !Arc::ptr_eq(known, settings);
            *known = Arc::clone(settings);
            news
        });
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

    /// How long a request may wait for its answer.
    pub(super) fn deadline(&self) -> Duration {
        Duration::from_micros(self.deadline_us.load(Ordering::Relaxed))
    }

    /// A missing ACL rule, or nothing, keeps us from finding out who counts.
    pub(super) fn obstacle_is(&self, which: Obstacle, obstacle: Option<&str>) {
        let place = &self.obstacles[which as usize];
        let known = place.load();
        if known.as_deref().map(String::as_str) == obstacle {
            return;
        }
        match obstacle {
            Some(message) => {
                self.counted.permission_errors.inc();
                tracing::error!(
                    problem = message,
                    "redis refuses what finding the primary needs: extend the ACL of this user"
                );
            }
            None => tracing::info!("redis permits finding the primary"),
        }
        place.store(obstacle.map(|message| Arc::new(message.to_owned())));
    }

    pub(super) fn obstacle(&self) -> Option<String> {
        self.obstacles.iter().find_map(|obstacle| obstacle.load().as_deref().cloned())
    }

    /// Microseconds since the start.
    pub(super) fn now_us(&self) -> u64 {
        micros(self.start.elapsed())
    }
}

/// Connections to one server that these settings allow.
pub(super) fn slots(settings: &Redis) -> usize {
    settings.pool_size.clamp(1, MAX_CONNECTIONS)
}
