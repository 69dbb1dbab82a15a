//! Names to addresses: one resolver per process, refreshed in the background, the last good answer kept.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// A name and a port.
type Name = (Arc<str>, u16);
/// The addresses behind a name; shared, so that "did they change?" is a pointer comparison.
pub(crate) type Addresses = Arc<[SocketAddr]>;

/// Names that are kept at once; beyond, the least recently asked is forgotten.
const MAX_NAMES: usize = 10_000;
/// A name that nobody asked for this many seconds is no longer refreshed. Pools ask every second.
const FORGET_AFTER: u64 = 600;
/// How exactly that is known, in seconds.
const TOUCH_EVERY: u64 = 30;
/// One look-up may take this long.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// Questions in the queue before a caller has to wait.
const QUEUE: usize = 1024;

/// A handle that workers ask. Known names are read without a lock.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    known: Arc<ArcSwap<HashMap<Name, Known>>>,
    ask: mpsc::Sender<Question>,
}

#[derive(Debug)]
struct Question {
    name: Name,
    refresh: Duration,
    answer: oneshot::Sender<Result<Addresses, String>>,
}

impl Resolver {
    /// Starts the resolver on the runtime of the caller; it ends with the last handle.
    pub(crate) fn start() -> Resolver {
        let (ask, questions) = mpsc::channel(QUEUE);
        let known = Arc::new(ArcSwap::default());
        tokio::spawn(Book { known: Arc::clone(&known), names: HashMap::new() }.run(questions));
        Resolver { known, ask }
    }

    /// The addresses of `host`. Literal addresses are their own answer.
    pub(crate) async fn resolve(&self, host: &Arc<str>, port: u16, refresh: Duration) -> Result<Addresses, String> {
        if let Some(known) = self.known(host, port) {
            return Ok(known);
        }
        let name = (Arc::clone(host), port);
        let (answer, answered) = oneshot::channel();
        self.ask.send(Question { name, refresh, answer }).await.map_err(|_| "the resolver has ended".to_owned())?;
        answered.await.map_err(|_| "the resolver has ended".to_owned())?
    }

    /// The last answer for `host`, which is good until a new one comes. Asking keeps the name from being forgotten.
    pub(crate) fn known(&self, host: &Arc<str>, port: u16) -> Option<Addresses> {
        let name = (Arc::clone(host), port);
        let known = self.known.load();
        let known = known.get(&name)?;
        known.touch();
        Some(Arc::clone(&known.addresses))
    }
}

/// What is known of a name.
#[derive(Debug)]
struct Known {
    addresses: Addresses,
    /// Seconds since the process's first look-up.
    asked: Arc<AtomicU64>,
}

impl Known {
    fn now() -> u64 {
        static EPOCH: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
        EPOCH.elapsed().as_secs()
    }

    /// Written rarely: many workers read this line.
    fn touch(&self) {
        let now = Known::now();
        if now.saturating_sub(self.asked.load(Ordering::Relaxed)) >= TOUCH_EVERY {
            self.asked.store(now, Ordering::Relaxed);
        }
    }
}

struct Entry {
    refresh: Duration,
    due: Instant,
    asked: Arc<AtomicU64>,
    busy: bool,
    waiting: Vec<oneshot::Sender<Result<Addresses, String>>>,
}

struct Book {
    known: Arc<ArcSwap<HashMap<Name, Known>>>,
    names: HashMap<Name, Entry>,
}

type Found = (Name, Result<Vec<SocketAddr>, String>);

impl Book {
    async fn run(mut self, mut questions: mpsc::Receiver<Question>) {
        let (found_tx, mut found) = mpsc::channel::<Found>(QUEUE);
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                question = questions.recv() => match question {
                    Some(question) => self.note(question, &found_tx),
                    None => return,
                },
                Some((name, result)) = found.recv() => self.learn(name, result),
                _ = tick.tick() => self.refresh(&found_tx),
            }
        }
    }

    fn note(&mut self, question: Question, found: &mpsc::Sender<Found>) {
        if let Some(known) = self.known.load().get(&question.name) {
            let _ = question.answer.send(Ok(Arc::clone(&known.addresses)));
            return;
        }
        self.make_room();
        let now = Instant::now();
        let entry = self.names.entry(question.name.clone()).or_insert_with(|| Entry {
            refresh: question.refresh.max(Duration::from_millis(500)),
            due: now,
            asked: Arc::default(),
            busy: false,
            waiting: Vec::new(),
        });
        entry.asked.store(Known::now(), Ordering::Relaxed);
        entry.waiting.push(question.answer);
        if !entry.busy {
            entry.busy = true;
            tokio::spawn(look_up(question.name, found.clone()));
        }
    }

    fn make_room(&mut self) {
        if self.names.len() < MAX_NAMES {
            return;
        }
        if let Some(oldest) =
            self.names.iter().min_by_key(|(_, entry)| entry.asked.load(Ordering::Relaxed)).map(|(name, _)| name.clone())
        {
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, name: &Name) {
        self.names.remove(name);
        self.publish(|known| {
            known.remove(name);
        });
    }

    /// Readers see either the old book or the new one; changes are rare, so the copy does not matter.
    fn publish(&self, change: impl FnOnce(&mut HashMap<Name, Known>)) {
        let known = self.known.load();
        let copy = |(name, known): (&Name, &Known)| {
            let known = Known { addresses: Arc::clone(&known.addresses), asked: Arc::clone(&known.asked) };
            (name.clone(), known)
        };
        let mut next = known.iter().map(copy).collect();
        change(&mut next);
        self.known.store(Arc::new(next));
    }

    fn learn(&mut self, name: Name, result: Result<Vec<SocketAddr>, String>) {
        let Some(entry) = self.names.get_mut(&name) else { return };
        entry.busy = false;
        entry.due = Instant::now() + entry.refresh;
        let waiting = std::mem::take(&mut entry.waiting);
        let known = self.known.load().get(&name).map(|known| Arc::clone(&known.addresses));
        let asked = Arc::clone(&entry.asked);
        let answer = match (result, known) {
            (Ok(found), Some(known)) if found[..] == known[..] => Ok(known),
            (Ok(found), _) => {
                let addresses: Addresses = found.into();
                self.publish(|known| {
                    known.insert(name, Known { addresses: Arc::clone(&addresses), asked });
                });
                Ok(addresses)
            }
            (Err(error), Some(known)) => {
                tracing::warn!(host = %name.0, %error, "a name no longer resolves, its last addresses stay in use");
                Ok(known)
            }
            (Err(error), None) => {
                self.names.remove(&name);
                Err(error)
            }
        };
        for waiting in waiting {
            let _ = waiting.send(answer.clone());
        }
    }

    fn refresh(&mut self, found: &mpsc::Sender<Found>) {
        let now = Instant::now();
        let forget = |entry: &Entry| Known::now().saturating_sub(entry.asked.load(Ordering::Relaxed)) > FORGET_AFTER;
        let stale: Vec<Name> =
            self.names.iter().filter(|(_, e)| !e.busy && forget(e)).map(|(n, _)| n.clone()).collect();
        for name in stale {
            // Whoever still uses it asks again and is answered within one look-up.
            self.forget(&name);
        }
        for (name, entry) in self.names.iter_mut().filter(|(_, e)| !e.busy && e.due <= now) {
            entry.busy = true;
            tokio::spawn(look_up(name.clone(), found.clone()));
        }
    }
}

async fn look_up(name: Name, found: mpsc::Sender<Found>) {
    let looked_up = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((name.0.to_string(), name.1))).await;
    let result = match looked_up {
        Err(_) => Err(format!("{} did not resolve within 5 s", name.0)),
        Ok(Err(error)) => Err(format!("{} does not resolve: {error}", name.0)),
        Ok(Ok(addresses)) => {
            // Sorted, so that a server that rotates its answers does not look like a change.
            let mut addresses: Vec<_> = addresses.collect();
            addresses.sort_unstable();
            addresses.dedup();
            if addresses.is_empty() { Err(format!("{} has no address", name.0)) } else { Ok(addresses) }
        }
    };
    let _ = found.send((name, result)).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn literals_and_names() {
        let resolver = Resolver::start();
        let refresh = Duration::from_secs(5);
        let literal = resolver.resolve(&Arc::from("127.0.0.1"), 80, refresh).await.unwrap();
        assert_eq!(&literal[..], &["127.0.0.1:80".parse().unwrap()]);
        let first = resolver.resolve(&Arc::from("localhost"), 81, refresh).await.unwrap();
        let again = resolver.resolve(&Arc::from("localhost"), 81, refresh).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let error = resolver.resolve(&Arc::from("no-such-host.invalid"), 81, refresh).await.unwrap_err();
        assert!(error.contains("no-such-host.invalid"), "{error}");
    }
}
