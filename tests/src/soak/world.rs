//! What is so at this moment, and what has come of it.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::{
    kinds::Kind,
    policy::{BURST, RATE},
};
use crate::promise::Spent;

/// Complaints that are kept in words.
const KEPT: usize = 30;

/// Something that is well or in trouble by turns: odd while in trouble.
#[derive(Debug, Default)]
pub(super) struct Turns(AtomicUsize);

impl Turns {
    /// From well to trouble and back.
    pub(super) fn turn(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn now(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// State at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    time: Instant,
    redis: usize,
    flaky: usize,
    oldest: usize,
    newest: usize,
}

/// What an answer may depend on: the state from before its request until after its last byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meanwhile {
    /// Redis was there all the time.
    pub(super) redis: bool,
    /// The flaky origin was.
    pub(super) flaky: bool,
    /// Versions of the policy that may have made it.
    pub(super) versions: (usize, usize),
}

/// Shared by all that run.
#[derive(Debug)]
pub(super) struct World {
    /// Proxies of the data planes.
    pub(super) proxies: Vec<SocketAddr>,
    pub(super) redis: Turns,
    pub(super) flaky: Turns,
    oldest: AtomicUsize,
    newest: AtomicUsize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Requests by what became of them.
    outcomes: BTreeMap<(&'static str, String), u64>,
    wrong: Vec<String>,
    wrong_count: u64,
    exact: Spent,
    leased: Spent,
    events: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn new(proxies: Vec<SocketAddr>) -> World {
        World {
            proxies,
            redis: Turns::default(),
            flaky: Turns::default(),
            oldest: AtomicUsize::new(0),
            newest: AtomicUsize::new(0),
            book: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            time: Instant::now(),
            redis: self.redis.now(),
            flaky: self.flaky.now(),
            oldest: self.oldest.load(Ordering::SeqCst),
            newest: self.newest.load(Ordering::SeqCst),
        }
    }

    /// Of what has happened since `before`.
    pub(super) fn since(&self, before: Now) -> Meanwhile {
        let after = self.now();
        let well = |before: usize, after: usize| before == after && before.is_multiple_of(2);
        Meanwhile {
            redis: well(before.redis, after.redis),
            flaky: well(before.flaky, after.flaky),
            versions: (before.oldest, after.newest),
        }
    }

    /// Version that the next edit makes; it may be in force from now on.
    pub(super) fn edit(&self) -> usize {
        self.newest.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// It is in force everywhere.
    pub(super) fn enforced(&self, version: usize) {
        self.oldest.store(version, Ordering::SeqCst);
    }

    /// Writes down what became of a request.
    pub(super) fn record(&self, kind: Kind, before: Now, outcome: &str, wrong: Option<String>) {
        let mut book = self.book.lock().unwrap();
        *book.outcomes.entry((kind.name(), outcome.to_owned())).or_default() += 1;
        if outcome == "200" {
            let spent = (before.time, Instant::now());
            match kind {
                Kind::Exact => book.exact.allowed.push(spent),
                Kind::Leased => book.leased.allowed.push(spent),
                _ => {}
            }
        }
        if let Some(words) = wrong {
            book.wrong_count += 1;
            if book.wrong.len() < KEPT {
                book.wrong.push(format!("{}: {outcome}: {words}", kind.name()));
            }
        }
    }

    /// Redis has lost its data between these two.
    pub(super) fn lost(&self, from: Instant, to: Instant) {
        let mut book = self.book.lock().unwrap();
        book.exact.losses.push((from, to));
        book.leased.losses.push((from, to));
    }

    /// Counts something that was done.
    pub(super) fn event(&self, name: &'static str) {
        *self.book.lock().unwrap().events.entry(name).or_default() += 1;
    }

    /// Number of answers so far.
    pub(super) fn answers(&self) -> u64 {
        self.book.lock().unwrap().outcomes.values().sum()
    }

    /// One line.
    pub(super) fn summary(&self) -> String {
        let book = self.book.lock().unwrap();
        let mut statuses: BTreeMap<&str, u64> = BTreeMap::new();
        for ((_, outcome), n) in &book.outcomes {
            *statuses.entry(outcome.as_str()).or_default() += n;
        }
        let mut text = format!("{} requests", statuses.values().sum::<u64>());
        for (outcome, n) in statuses {
            let _ = write!(text, ", {outcome}: {n}");
        }
        for (name, n) in &book.events {
            let _ = write!(text, ", {name} {n}");
        }
        let _ = write!(
            text,
            "; {} wrong; redis {}",
            book.wrong_count,
            if self.redis.now().is_multiple_of(2) { "up" } else { "down" }
        );
        text
    }

    /// # Panics
    /// When an answer was wrong, a promise was broken, or something that should have been tried was not.
    #[allow(clippy::print_stdout)]
    pub(super) fn verdict(&self) {
        let book = self.book.lock().unwrap();
        println!("soak: {:?}", book.outcomes);
        assert!(book.wrong.is_empty(), "{} wrong answers, the first: {:#?}", book.wrong_count, book.wrong);
        for (name, spent) in [("exact", &book.exact), ("leased", &book.leased)] {
            let excess = spent.excess(BURST, RATE);
            let (allowed, losses) = (spent.allowed.len(), spent.losses.len());
            println!(
                "soak: {name}: {allowed} allowed, {losses} losses of data; nearest to a breach: {excess:.1} tokens"
            );
            assert!(excess <= 0.0, "{name}: some interval has {excess} tokens more than promised");
            assert!(book.outcomes.contains_key(&(name, "429".to_owned())), "{name}: the key was never over its limit");
        }
        for kind in Kind::ALL {
            let tried = book.outcomes.keys().any(|(name, _)| *name == kind.name());
            assert!(tried, "no request of kind {}", kind.name());
        }
    }
}
