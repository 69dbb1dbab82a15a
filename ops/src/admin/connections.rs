//! The table of open connections, which bounds them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio_util::sync::CancellationToken;

use super::timed::Activity;

/// Most connections at once.
const MAX_CONNECTIONS: usize = 256;

/// The open connections. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Connections {
    open: Arc<Mutex<HashMap<u64, Open>>>,
    next: Arc<AtomicU64>,
}

struct Open {
    activity: Arc<Activity>,
    evicted: CancellationToken,
}

/// A place in the table, given back on drop.
pub(super) struct Entry {
    id: u64,
    pub(super) activity: Arc<Activity>,
    /// Somebody else takes its place.
    pub(super) evicted: CancellationToken,
    connections: Connections,
}

impl Connections {
    /// None: full, and everybody is busy.
    pub(super) fn admit(&self) -> Option<Entry> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_CONNECTIONS {
            // the oldest idle one: probes come and go, what lingers is something else
            let idle = open.iter().filter(|(_, open)| !open.activity.busy()).map(|(id, _)| *id).min()?;
            if let Some(open) = open.remove(&idle) {
                open.evicted.cancel();
            }
        }
        let id = self.next.fetch_add(1, Relaxed);
        let activity = Arc::new(Activity::default());
        let evicted = CancellationToken::new();
        open.insert(id, Open { activity: activity.clone(), evicted: evicted.clone() });
        Some(Entry { id, activity, evicted, connections: self.clone() })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
