//! The policy in force: one slot, one writer, read once per request.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use edgequota_policy::{Policy, Snapshot, Version};
use tokio::sync::watch;

/// Where the policy in force comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Pushed by the control plane.
    ControlPlane,
    /// The last good file in `state_dir`.
    StateDir,
    /// The policy part of the process's own config file.
    OwnFile,
}

impl Source {
    /// As shown in logs, metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::ControlPlane => "control_plane",
            Source::StateDir => "state_dir",
            Source::OwnFile => "own_file",
        }
    }
}

/// A policy and what is known about it.
#[derive(Debug)]
pub struct InForce {
    /// Version and canonical bytes.
    pub snapshot: Snapshot,
    /// Compiled.
    pub policy: Arc<Policy>,
    /// Where it comes from.
    pub source: Source,
}

/// The slot. Workers keep their own `Arc` and compare `serial` (one load of a read-mostly line) per request.
#[derive(Debug, Default)]
pub struct PolicySlot {
    current: ArcSwapOption<InForce>,
    serial: AtomicU64,
    changes: watch::Sender<u64>,
    /// Replaced policies that somebody may still hold.
    retired: Mutex<Vec<Arc<InForce>>>,
}

impl PolicySlot {
    /// Puts a policy in force. The caller is the only writer and has checked the generation.
    pub fn put(&self, next: InForce) {
        let replaced = self.current.swap(Some(Arc::new(next)));
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).extend(replaced);
        let serial = self.serial.fetch_add(1, Ordering::Release) + 1;
        self.changes.send_replace(serial);
    }

    /// Frees replaced policies that nobody else holds any more; answers how many are still held. Called off the request
    /// path: a policy of 100,000 overrides takes a worker longer to free than many requests together.
    pub fn free_retired(&self) -> usize {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|policy| Arc::strong_count(policy) > 1);
        retired.len()
    }

    /// For those that want to be told rather than look: the control side, never a request.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Changes with every [`PolicySlot::put`]; 0: nothing in force yet.
    pub fn serial(&self) -> u64 {
        self.serial.load(Ordering::Acquire)
    }

    /// What is in force.
    pub fn load(&self) -> Option<Arc<InForce>> {
        self.current.load_full()
    }

    /// Version in force.
    pub fn version(&self) -> Option<Version> {
        self.load().map(|p| p.snapshot.version)
    }
}
