//! The data planes that are connected, with what each has accepted and refused. Nothing is kept of those that are gone.

pub mod size;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use edgequota_policy::{Hash, Snapshot, Version};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::Instant,
};

pub use size::Size;

/// What a data plane says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Host name, or `control_plane.node_id`.
    pub node: String,
    /// Random for each process.
    pub instance: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Version of its binary.
    pub binary: String,
    /// Number of workers, at least 1.
    pub workers: u32,
}

/// Why a policy was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NackClass {
    /// Schema or validation: the same bytes will never do.
    Unsupported,
    /// A file, memory: may do later.
    Local,
}

impl NackClass {
    /// As shown in metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            NackClass::Unsupported => "unsupported",
            NackClass::Local => "local",
        }
    }
}

/// The last refusal of a data plane; gone once it accepts something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What was refused.
    pub version: Version,
    /// Class.
    pub class: NackClass,
    /// For people.
    pub reason: String,
    /// Path in the policy; empty when unknown.
    pub path: String,
    /// When.
    pub at: SystemTime,
}

/// One connected data plane.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Number of its stream, unique in this process.
    pub id: u64,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// Whether the stream is encrypted.
    pub tls: bool,
    /// Whether it proved who it is, by certificate or token.
    pub authenticated: bool,
    /// Who it is; `None` before its Hello.
    pub identity: Option<Identity>,
    /// When the stream began.
    pub connected: SystemTime,
    /// What it has in force or holds.
    pub accepted: Option<Version>,
    /// Since when.
    pub accepted_at: Option<SystemTime>,
    /// Where it has that from: `control_plane`, `state_dir`, `own_file`.
    pub source: String,
    /// What it refused last.
    pub rejected: Option<Rejection>,
    /// Why it gets nothing, if so.
    pub withheld: Option<String>,
    /// A policy was sent and not answered yet.
    pub pending: Option<Version>,
    /// When it was last heard.
    pub heard: Instant,
    commands: mpsc::Sender<Command>,
}

/// What the rest of the control plane asks of a stream.
#[derive(Debug)]
pub enum Command {
    /// Ask the data plane for what it holds.
    HandOver(oneshot::Sender<Snapshot>),
    /// End the stream: the same process has a newer one.
    Replaced,
}

/// Hints that wait for a stream to pass them on; a stream that is further behind loses the oldest.
const HINTS: usize = 64;

/// Counters that somebody changed from outside: a hint for data planes, which is lost under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Their keys in the store, at most [`edgequota_proto::MOST_RESET_KEYS`].
    pub keys: Vec<String>,
    /// The keys hold a credential.
    pub secret: bool,
}

/// The registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    entries: Mutex<Entries>,
    most: usize,
    changed: watch::Sender<u64>,
    size: watch::Sender<Option<Size>>,
    hints: broadcast::Sender<Arc<Changed>>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    by_id: BTreeMap<u64, Entry>,
    /// The newest stream of each process.
    by_instance: BTreeMap<String, u64>,
}

impl Entries {
    /// One stream of each process: one that comes back has two for a moment.
    fn newest(&self) -> impl Iterator<Item = &Entry> {
        self.by_instance.values().filter_map(|id| self.by_id.get(id))
    }
}

impl Fleet {
    /// For at most `most` streams.
    pub fn new(most: usize) -> Fleet {
        Fleet {
            shared: Arc::new(Shared {
                entries: Mutex::default(),
                most,
                changed: watch::Sender::new(0),
                size: watch::Sender::new(None),
                hints: broadcast::Sender::new(HINTS),
            }),
        }
    }

    /// A new stream; `None`: there are as many as there may be.
    pub fn join(&self, peer: SocketAddr, tls: bool, authenticated: bool) -> Option<(Member, mpsc::Receiver<Command>)> {
        let mut entries = self.entries();
        if entries.by_id.len() >= self.shared.most {
            return None;
        }
        let (commands, receiver) = mpsc::channel(4);
        let id = entries.next;
        entries.next += 1;
        entries.by_id.insert(
            id,
            Entry {
                id,
                peer,
                tls,
                authenticated,
                identity: None,
                connected: SystemTime::now(),
                accepted: None,
                accepted_at: None,
                source: String::new(),
                rejected: None,
                withheld: None,
                pending: None,
                heard: Instant::now(),
                commands,
            },
        );
        drop(entries);
        self.bump();
        Some((Member { fleet: self.clone(), id }, receiver))
    }

    /// All streams that said Hello, in the order they came.
    pub fn list(&self) -> Vec<Entry> {
        self.entries().by_id.values().filter(|e| e.identity.is_some()).cloned().collect()
    }

    /// Data planes and workers connected now, undamped.
    pub fn count(&self) -> Size {
        let entries = self.entries();
        let identities = entries.newest().filter_map(|e| e.identity.as_ref());
        identities.fold(Size { planes: 0, workers: 0 }, |sum, i| Size {
            planes: sum.planes + 1,
            workers: sum.workers.saturating_add(i.workers.max(1)),
        })
    }

    /// How many have this content in force.
    pub fn accepted(&self, hash: Hash) -> usize {
        self.entries().newest().filter(|e| e.accepted.is_some_and(|v| v.hash == hash)).count()
    }

    /// Told of every change of any entry.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// The damped size, `None` while it is not told.
    pub fn size(&self) -> watch::Receiver<Option<Size>> {
        self.shared.size.subscribe()
    }

    pub(crate) fn tell_size(&self, size: Size) {
        self.shared.size.send_if_modified(|told| told.replace(size) != Some(size));
    }

    /// Has all data planes told that counters were changed. Never waits, never replayed.
    pub fn tell_changed(&self, changed: Changed) {
        // Nobody is connected: nobody remembers anything.
        let _ = self.shared.hints.send(Arc::new(changed));
    }

    /// What [`Fleet::tell_changed`] tells from now on.
    pub fn changed_counters(&self) -> broadcast::Receiver<Arc<Changed>> {
        self.shared.hints.subscribe()
    }

    /// Asks the data plane of stream `id` for what it holds. `None`: it is gone, or too busy to be asked.
    pub fn hand_over(&self, id: u64) -> Option<oneshot::Receiver<Snapshot>> {
        let (answer, receiver) = oneshot::channel();
        let commands = self.entries().by_id.get(&id)?.commands.clone();
        commands.try_send(Command::HandOver(answer)).ok()?;
        Some(receiver)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self) {
        self.shared.changed.send_modify(|n| *n += 1);
    }
}

/// A stream's own handle on its entry; dropping it takes the data plane out of the fleet.
#[derive(Debug)]
pub struct Member {
    fleet: Fleet,
    id: u64,
}

impl Member {
    /// It said who it is and what it holds. An older stream of the same process is ended.
    pub fn hello(&self, identity: Identity, holds: Option<Version>, source: String) {
        let mut entries = self.fleet.entries();
        let older = entries.by_instance.insert(identity.instance.clone(), self.id).filter(|id| *id != self.id);
        if let Some(older) = older.and_then(|id| entries.by_id.get(&id)) {
            // A full queue means that the stream is busy; its heartbeats end it instead.
            let _ = older.commands.try_send(Command::Replaced);
        }
        if let Some(entry) = entries.by_id.get_mut(&self.id) {
            entry.identity = Some(identity);
            entry.accepted = holds;
            entry.accepted_at = holds.map(|_| SystemTime::now());
            entry.source = source;
            entry.rejected = None;
            entry.withheld = None;
        }
        drop(entries);
        self.fleet.bump();
    }

    /// It was heard.
    pub fn heard(&self) {
        if let Some(entry) = self.fleet.entries().by_id.get_mut(&self.id) {
            entry.heard = Instant::now();
        }
    }

    /// A policy was sent.
    pub fn sent(&self, version: Version) {
        self.edit(|e| {
            e.pending = Some(version);
            e.withheld = None;
        });
    }

    /// It has put this in force.
    pub fn acked(&self, version: Version) {
        self.edit(|e| {
            e.accepted = Some(version);
            e.accepted_at = Some(SystemTime::now());
            e.source = "control_plane".into();
            e.pending.take_if(|pending| *pending == version);
            e.rejected = None;
            e.withheld = None;
        });
    }

    /// It has refused this.
    pub fn nacked(&self, rejection: Rejection) {
        self.edit(|e| {
            e.pending = None;
            e.rejected = Some(rejection);
        });
    }

    /// It gets nothing, and why.
    pub fn withheld(&self, reason: &str) {
        self.edit(|e| e.withheld = Some(reason.to_owned()));
    }

    fn edit(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.fleet.entries().by_id.get_mut(&self.id) {
            change(entry);
        }
        self.fleet.bump();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut entries = self.fleet.entries();
        let instance = entries.by_id.remove(&self.id).and_then(|e| e.identity).map(|i| i.instance);
        if let Some(instance) = instance
            && entries.by_instance.get(&instance) == Some(&self.id)
        {
            entries.by_instance.remove(&instance);
        }
        drop(entries);
        self.fleet.bump();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_process_with_two_streams_counts_once() {
        let fleet = Fleet::new(10);
        let join = |instance: &str| {
            let (member, commands) = fleet.join("127.0.0.1:1".parse().unwrap(), false, false).unwrap();
            let identity = Identity { instance: instance.into(), workers: 2, ..Identity::default() };
            member.hello(identity, None, String::new());
            (member, commands)
        };
        let (_old, _new, _other) = (join("a"), join("a"), join("b"));
        assert_eq!(fleet.count(), Size { planes: 2, workers: 4 });
    }
}
