//! What is counted over the whole process before a request may begin. Every configured maximum is per process.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use crate::listen::accept::Handed;

/// Sockets on their way to one worker; beyond, whoever accepted them keeps them.
const HANDED: usize = 1024;

/// A counter on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicUsize);

/// Connections and requests of the process.
#[derive(Debug)]
pub(crate) struct Admission {
    workers: Vec<Lane>,
    connections: Padded,
    requests: Padded,
}

#[derive(Debug)]
struct Lane {
    connections: Padded,
    handed: mpsc::Sender<Handed>,
}

impl Admission {
    /// For `workers` workers; the receivers are theirs, in order.
    pub(crate) fn new(workers: usize) -> (Arc<Admission>, Vec<mpsc::Receiver<Handed>>) {
        let (lanes, receivers) = (0..workers)
            .map(|_| {
                let (handed, receiver) = mpsc::channel(HANDED);
                (Lane { connections: Padded::default(), handed }, receiver)
            })
            .unzip();
        (Arc::new(Admission { workers: lanes, connections: Padded::default(), requests: Padded::default() }), receivers)
    }

    /// Takes a place for a connection of `worker`; `None`: `most` are open.
    pub(crate) fn connection(self: &Arc<Self>, worker: usize, most: usize) -> Option<ConnectionSlot> {
        if self.connections.0.fetch_add(1, Ordering::Relaxed) >= most {
            self.connections.0.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.workers[worker].connections.0.fetch_add(1, Ordering::Relaxed);
        Some(ConnectionSlot { admission: Arc::clone(self), worker })
    }

    /// A worker that has clearly fewer connections than `worker`: by more than one in eight, and by one at least.
    pub(crate) fn lighter_worker(&self, worker: usize) -> Option<usize> {
        let own = self.workers[worker].connections.0.load(Ordering::Relaxed);
        let loads = self.workers.iter().map(|lane| lane.connections.0.load(Ordering::Relaxed));
        let (index, least) = loads.enumerate().min_by_key(|(_, load)| *load)?;
        (own > least + least / 8).then_some(index)
    }

    /// Gives a socket to `worker`, which will count it; it comes back when that worker has its hands full.
    pub(crate) fn hand_over(&self, worker: usize, socket: Handed) -> Result<(), Handed> {
        self.workers[worker].handed.try_send(socket).map_err(|error| match error {
            mpsc::error::TrySendError::Full(socket) | mpsc::error::TrySendError::Closed(socket) => socket,
        })
    }

    /// Open connections.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections.0.load(Ordering::Relaxed)
    }

    /// Takes a place for a request; `None`: `most` are under way. 0: unlimited, and then nothing is counted, so that
    /// the common case writes no line that other workers write.
    pub(crate) fn request(self: &Arc<Self>, most: usize) -> Option<RequestSlot> {
        if most == 0 {
            return Some(RequestSlot(None));
        }
        if self.requests.0.fetch_add(1, Ordering::Relaxed) >= most {
            self.requests.0.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(RequestSlot(Some(Arc::clone(self))))
    }
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    admission: Arc<Admission>,
    worker: usize,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.admission.connections.0.fetch_sub(1, Ordering::Relaxed);
        self.admission.workers[self.worker].connections.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct RequestSlot(Option<Arc<Admission>>);

impl Drop for RequestSlot {
    fn drop(&mut self) {
        if let Some(admission) = &self.0 {
            admission.requests.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How many connections the machine bears when nobody said a number: two descriptors each (the client's and a
/// backend's) with a reserve for everything else, and 32 KiB of the memory limit each.
pub(crate) fn bearable_connections(descriptors: u64, memory: Option<u64>) -> usize {
    let by_descriptors = descriptors.saturating_sub(256) / 2;
    let by_memory = memory.map_or(u64::MAX, |bytes| bytes / (32 << 10));
    usize::try_from(by_descriptors.min(by_memory).max(64)).unwrap_or(usize::MAX)
}

/// The memory limit of the control group, if there is one.
pub(crate) fn memory_limit() -> Option<u64> {
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_given_back() {
        let (admission, _receivers) = Admission::new(2);
        let slots: Vec<_> = (0..3).map(|_| admission.connection(0, 3)).collect();
        assert!(slots.iter().all(Option::is_some) && admission.connection(1, 3).is_none());
        drop(slots);
        assert_eq!(admission.open_connections(), 0);
        let one = admission.request(1).unwrap();
        assert!(admission.request(1).is_none());
        drop(one);
        assert!(admission.request(1).is_some());
    }

    #[test]
    fn three_connections_never_share_one_of_two_workers() {
        let (admission, _receivers) = Admission::new(2);
        let mut held = Vec::new();
        for _ in 0..3 {
            let to = admission.lighter_worker(0).unwrap_or(0);
            held.push(admission.connection(to, 10).unwrap());
        }
        assert!(admission.workers.iter().all(|lane| lane.connections.0.load(Ordering::Relaxed) > 0));
    }

    #[test]
    fn defaults_follow_the_machine() {
        assert_eq!(bearable_connections(1024, None), 384);
        assert_eq!(bearable_connections(1 << 20, Some(512 << 20)), 16384);
        assert_eq!(bearable_connections(100, None), 64);
    }
}
