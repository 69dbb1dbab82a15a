//! What is served: one version, one encoding of it, shared by all who subscribe.
//!
//! A policy is equal to another when its hash is. The generation only orders: it is the clock in milliseconds, or one
//! more than the highest that was ever issued or seen, so that it grows without a store and over restarts.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use edgequota_policy::{
    Hash, Policy, PolicySpec, Problem, Snapshot, Version,
    snapshot::{MAX_COMPRESSED, MAX_PLAIN},
};
use edgequota_proto::envelope::{self, Bounds, EnvelopeError};
use tokio::sync::watch;

/// The bounds of everything that travels.
pub(crate) const BOUNDS: Bounds = Bounds { plain: MAX_PLAIN, compressed: MAX_COMPRESSED };

/// How fast the clock of another control plane may be: a year.
const MOST_AHEAD: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where the policy being served comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The files that are watched.
    Files,
    /// The control plane's own last good policy, because the files are broken.
    StateDir,
    /// This data plane handed it over, because the files are broken and nothing was kept.
    Adopted(String),
}

impl Origin {
    /// One of three words, for labels.
    pub fn kind(&self) -> &'static str {
        match self {
            Origin::Files => "files",
            Origin::StateDir => "state_dir",
            Origin::Adopted(_) => "adopted",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Files => f.write_str("files"),
            Origin::StateDir => f.write_str("state_dir"),
            Origin::Adopted(node) => write!(f, "adopted from {node}"),
        }
    }
}

/// Why a policy cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum NotServable {
    /// Too large to travel.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// It does not compile; every problem.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// The bytes are not those that the hash was made of.
    #[error("the content has hash {found}, {expected} was announced")]
    WrongHash {
        /// Announced.
        expected: Hash,
        /// Computed.
        found: Hash,
    },
}

fn lines(problems: &[Problem]) -> String {
    let shown: Vec<String> = problems
        .iter()
        .map(|p| match p.message.starts_with(&p.path) {
            // Also when there is no path.
            true => p.message.clone(),
            false => format!("{}: {}", p.path, p.message),
        })
        .collect();
    shown.join("; ")
}

/// A policy that was compiled and encoded, without a version yet. Making one is the expensive part (up to a second for
/// the largest policy): do it off the async threads.
#[derive(Debug)]
pub struct Prepared {
    hash: Hash,
    bytes: Arc<[u8]>,
    gzip: Bytes,
    spec: Arc<PolicySpec>,
    policy: Arc<Policy>,
    literal_secrets: bool,
}

impl Prepared {
    /// From a resolved spec.
    pub fn new(spec: PolicySpec) -> Result<Prepared, NotServable> {
        let bytes = spec.canonical();
        Prepared::build(spec, bytes.into())
    }

    /// From the canonical bytes of a snapshot that was kept or handed over.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Prepared, NotServable> {
        let found = Hash::of(&snapshot.bytes);
        if found != snapshot.version.hash {
            return Err(NotServable::WrongHash { expected: snapshot.version.hash, found });
        }
        let spec =
            PolicySpec::from_canonical(&snapshot.bytes).map_err(|problem| NotServable::Problems(vec![problem]))?;
        Prepared::build(spec, Arc::clone(&snapshot.bytes))
    }

    fn build(spec: PolicySpec, bytes: Arc<[u8]>) -> Result<Prepared, NotServable> {
        let gzip = envelope::pack(&bytes, BOUNDS)?;
        let policy = Policy::compile(&spec).map_err(NotServable::Problems)?;
        Ok(Prepared {
            hash: Hash::of(&bytes),
            bytes,
            gzip,
            literal_secrets: spec.has_literal_secrets(),
            spec: Arc::new(spec),
            policy: Arc::new(policy),
        })
    }

    /// Of the content.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Hash, compiled and written form, for explaining without publishing.
    pub(crate) fn parts(&self) -> (Hash, &Arc<Policy>, &Arc<PolicySpec>) {
        (self.hash, &self.policy, &self.spec)
    }
}

/// A policy with its version, as it is served. The encoded form is made once and shared.
#[derive(Debug)]
pub struct Published {
    /// Version.
    pub version: Version,
    /// Canonical bytes.
    pub bytes: Arc<[u8]>,
    /// The same, compressed.
    pub gzip: Bytes,
    /// The written form.
    pub spec: Arc<PolicySpec>,
    /// The compiled form, for explaining.
    pub policy: Arc<Policy>,
    /// Whether a secret stands in it literally: then it goes to authenticated peers over TLS only.
    pub literal_secrets: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// When this content was first served by this process.
    pub since: SystemTime,
}

impl Published {
    /// For the state directory.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { version: self.version, bytes: Arc::clone(&self.bytes) }
    }

    /// The same content under another name.
    fn renamed(&self, generation: u64, origin: Origin) -> Published {
        Published {
            version: Version { generation, hash: self.version.hash },
            bytes: Arc::clone(&self.bytes),
            gzip: self.gzip.clone(),
            spec: Arc::clone(&self.spec),
            policy: Arc::clone(&self.policy),
            literal_secrets: self.literal_secrets,
            origin,
            since: self.since,
        }
    }
}

/// How what a data plane holds relates to what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Nothing is served yet.
    NothingServed,
    /// The same content.
    Same,
    /// Older: it gets ours.
    Older,
    /// Other content with a generation that is not below ours: another control plane issued it.
    Newer,
}

/// The one place that gives out versions.
#[derive(Debug)]
pub struct Publisher {
    highest: Mutex<u64>,
    waiting: Mutex<String>,
    current: watch::Sender<Option<Arc<Published>>>,
}

impl Default for Publisher {
    fn default() -> Self {
        Publisher::new()
    }
}

impl Publisher {
    /// Serves nothing.
    pub fn new() -> Publisher {
        Publisher { highest: Mutex::new(0), waiting: Mutex::default(), current: watch::Sender::new(None) }
    }

    /// What is served now.
    pub fn current(&self) -> Option<Arc<Published>> {
        self.current.borrow().clone()
    }

    /// What is waited for while nothing is served, for people; empty before the files were read.
    pub fn waiting(&self) -> String {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets [`Publisher::waiting`]; everyone who waits is told.
    pub fn set_waiting(&self, reason: &str) {
        reason.clone_into(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.current.send_modify(|_| ());
    }

    /// To be told of every change; the value is always the newest.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.current.subscribe()
    }

    /// Serves `prepared` under a new generation. `None`: the content is served already (its origin is brought up to
    /// date), nothing is published.
    pub fn publish(&self, prepared: Prepared, origin: Origin, now: SystemTime) -> Option<Arc<Published>> {
        let mut highest = self.highest();
        if let Some(current) = self.current()
            && current.version.hash == prepared.hash
        {
            if current.origin != origin {
                let renamed = current.renamed(current.version.generation, origin);
                self.current.send_replace(Some(Arc::new(renamed)));
            }
            return None;
        }
        let generation = next(&mut highest, now);
        Some(self.put(prepared, generation, origin, now))
    }

    /// Serves `prepared` under the generation that it already has: what was kept in the state directory, or adopted.
    pub fn restore(&self, prepared: Prepared, generation: u64, origin: Origin, now: SystemTime) -> Arc<Published> {
        let mut highest = self.highest();
        *highest = generation.max(*highest);
        self.put(prepared, generation, origin, now)
    }

    /// What a data plane holds: remembered, so that no generation below it is issued. The same content under a larger
    /// generation is called by that from now on.
    pub fn met(&self, held: Version) -> Met {
        let mut highest = self.highest();
        *highest = held.generation.max(*highest);
        let Some(current) = self.current() else {
            return Met::NothingServed;
        };
        if current.version.hash == held.hash {
            if held.generation > current.version.generation {
                let renamed = current.renamed(held.generation, current.origin.clone());
                self.current.send_replace(Some(Arc::new(renamed)));
            }
            Met::Same
        } else if held.generation < current.version.generation {
            Met::Older
        } else {
            Met::Newer
        }
    }

    /// Whether a peer may name this generation: it was seen before, or a clock that is at most [`MOST_AHEAD`] fast gave
    /// it out. One claim beyond that would for ever put everything that is issued after it beyond any clock too.
    pub fn plausible(&self, generation: u64, now: SystemTime) -> bool {
        let ahead = u64::try_from(MOST_AHEAD.as_millis()).unwrap_or(u64::MAX);
        generation <= millis(now).saturating_add(ahead) || generation <= *self.highest()
    }

    /// A generation that was used before, in another life of this process.
    pub fn seen(&self, generation: u64) {
        let mut highest = self.highest();
        *highest = generation.max(*highest);
    }

    /// Stamps what is served above everything that was seen.
    pub fn restamp(&self, now: SystemTime) -> Option<Arc<Published>> {
        let mut highest = self.highest();
        let current = self.current()?;
        let renamed = Arc::new(current.renamed(next(&mut highest, now), current.origin.clone()));
        self.current.send_replace(Some(Arc::clone(&renamed)));
        Some(renamed)
    }

    fn put(&self, prepared: Prepared, generation: u64, origin: Origin, now: SystemTime) -> Arc<Published> {
        let published = Arc::new(Published {
            version: Version { generation, hash: prepared.hash },
            bytes: prepared.bytes,
            gzip: prepared.gzip,
            spec: prepared.spec,
            policy: prepared.policy,
            literal_secrets: prepared.literal_secrets,
            origin,
            since: now,
        });
        self.current.send_replace(Some(Arc::clone(&published)));
        published
    }

    fn highest(&self) -> std::sync::MutexGuard<'_, u64> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// max(unix milliseconds, highest issued or seen + 1).
fn next(highest: &mut u64, now: SystemTime) -> u64 {
    *highest = millis(now).max(highest.saturating_add(1));
    *highest
}

fn millis(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(average: i64) -> PolicySpec {
        let mut spec = PolicySpec::default();
        spec.backend.url = "http://b:1".into();
        spec.rate_limit.average = average;
        spec.resolved()
    }

    fn prepared(average: i64) -> Prepared {
        Prepared::new(spec(average)).unwrap()
    }

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn held(generation: u64, average: i64) -> Version {
        Version { generation, hash: spec(average).hash() }
    }

    #[test]
    fn the_generation_is_the_clock_and_never_goes_back_with_it() {
        let publisher = Publisher::new();
        let publish = |average, millis| {
            publisher.publish(prepared(average), Origin::Files, at(millis)).map(|p| p.version.generation)
        };
        assert_eq!(publish(1, 1000), Some(1000));
        assert_eq!(publish(2, 1000), Some(1001));
        assert_eq!(publish(3, 500), Some(1002));
        assert_eq!(publish(3, 5000), None, "unchanged is not published");
        assert_eq!(publish(4, 5000), Some(5000));
    }

    #[test]
    fn everything_that_was_seen_is_below_what_is_issued_next() {
        let publisher = Publisher::new();
        assert_eq!(publisher.met(held(9000, 1)), Met::NothingServed);
        let published = publisher.publish(prepared(2), Origin::Files, at(1000)).unwrap();
        assert_eq!(published.version.generation, 9001);
        assert_eq!(publisher.met(held(8000, 1)), Met::Older);
        assert_eq!(
            publisher.met(held(9001, 1)),
            Met::Newer,
            "other content under the same generation must be overruled"
        );
        assert_eq!(publisher.met(held(9500, 1)), Met::Newer);
        assert_eq!(publisher.restamp(at(1000)).unwrap().version.generation, 9501);
        publisher.seen(20_000);
        assert_eq!(publisher.restamp(at(1000)).unwrap().version.generation, 20_001);
    }

    #[test]
    fn a_peer_may_not_name_what_no_clock_gave_out_unless_it_was_seen() {
        let publisher = Publisher::new();
        let year = 365 * 24 * 60 * 60 * 1000;
        assert!(publisher.plausible(1000 + year, at(1000)));
        assert!(!publisher.plausible(1001 + year, at(1000)));
        publisher.seen(u64::MAX / 2);
        assert!(publisher.plausible(u64::MAX / 2, at(1000)));
        assert!(!publisher.plausible(u64::MAX / 2 + 1, at(1000)));
    }

    #[test]
    fn the_same_content_takes_the_larger_name() {
        let publisher = Publisher::new();
        publisher.publish(prepared(1), Origin::Files, at(1000));
        assert_eq!(publisher.met(held(500, 1)), Met::Same);
        assert_eq!(publisher.current().unwrap().version.generation, 1000);
        assert_eq!(publisher.met(held(2000, 1)), Met::Same);
        assert_eq!(publisher.current().unwrap().version.generation, 2000);
    }

    #[test]
    fn a_restored_policy_keeps_its_name_and_learns_where_it_comes_from() {
        let publisher = Publisher::new();
        publisher.restore(prepared(1), 77, Origin::StateDir, at(1000));
        assert!(publisher.publish(prepared(1), Origin::Files, at(2000)).is_none());
        let current = publisher.current().unwrap();
        assert_eq!((current.version.generation, &current.origin), (77, &Origin::Files));
    }

    #[test]
    fn one_encoding_is_shared_by_all_names_of_a_content() {
        let publisher = Publisher::new();
        let first = publisher.publish(prepared(1), Origin::Files, at(1000)).unwrap();
        let renamed = publisher.restamp(at(2000)).unwrap();
        assert_eq!(first.gzip.as_ptr(), renamed.gzip.as_ptr());
        assert!(Arc::ptr_eq(&first.policy, &renamed.policy));
    }

    #[test]
    fn what_is_too_large_or_not_what_it_claims_is_refused() {
        let mut large = spec(1);
        large.overrides = (0..100_000)
            .map(|i| edgequota_policy::spec::OverrideSpec {
                keys: vec![format!("{i:0200}")],
                average: Some(5),
                ..Default::default()
            })
            .collect();
        assert!(matches!(Prepared::new(large), Err(NotServable::Envelope(EnvelopeError::PlainTooLarge { .. }))));
        let snapshot = Snapshot { version: held(1, 1), bytes: spec(2).canonical().into() };
        assert!(matches!(Prepared::from_snapshot(&snapshot), Err(NotServable::WrongHash { .. })));
    }
}
