//! The three ways to count, behind one face, each with a clock that the test sets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edgequota_counters::{
    clock::Clock,
    store::{
        Counter, Plan, Purpose, Replies,
        embedded::{Embedded, Evict},
        script,
    },
};
use edgequota_policy::Numbers;

pub use super::machine::Pure;
use super::server::RedisServer;

/// Answers plans at times that the test names.
pub trait Counts {
    fn call(&mut self, plan: &Plan, now_us: u64) -> Replies;

    /// Several plans that are sent together.
    fn batch(&mut self, plans: &[Plan], now_us: u64) -> Vec<Replies> {
        plans.iter().map(|plan| self.call(plan, now_us)).collect()
    }

    /// The model, where there is one, to look inside.
    fn model(&self) -> Option<&Pure> {
        None
    }
}

/// The embedded store.
pub struct InProcess {
    store: Embedded,
    now_us: Arc<AtomicU64>,
}

impl InProcess {
    pub fn new() -> InProcess {
        let now_us = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&now_us);
        let clock = Clock::custom(move || read.load(Ordering::Relaxed));
        InProcess { store: Embedded::new(clock, 1 << 16, Evict::FullFirst), now_us }
    }
}

impl Counts for InProcess {
    fn call(&mut self, plan: &Plan, now_us: u64) -> Replies {
        self.now_us.store(now_us, Ordering::Relaxed);
        self.store.call(plan)
    }
}

/// The script in a real server, its clock line replaced by an argument; all else is byte for byte what ships.
pub struct Scripted {
    pub server: RedisServer,
    connection: redis::Connection,
    hash: String,
}

impl Scripted {
    pub fn new() -> Scripted {
        let server = RedisServer::start();
        let mut connection = server.client();
        let lines: Vec<&str> = script::SOURCE
            .lines()
            .map(|line| if line.starts_with(script::CLOCK_LINE) { "local now = tonumber(ARGV[#ARGV])" } else { line })
            .collect();
        let source = lines.join("\n");
        assert!(!source.contains("'TIME'"), "the clock is read on that one line only");
        let load = redis::cmd("SCRIPT").arg("LOAD").arg(source).query(&mut connection);
        let hash = load.expect("the script compiles");
        Scripted { server, connection, hash }
    }
}

impl Counts for Scripted {
    fn call(&mut self, plan: &Plan, now_us: u64) -> Replies {
        self.batch(std::slice::from_ref(plan), now_us).remove(0)
    }

    fn batch(&mut self, plans: &[Plan], now_us: u64) -> Vec<Replies> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash);
        script::arguments(plans, true, &mut command);
        command.arg(now_us);
        let value: redis::Value = command.query(&mut self.connection).expect("the script runs");
        script::parse(&value, plans).expect("the script answers what it should").into_vec()
    }
}

/// Runs `test` over every way to count.
pub fn everywhere(test: impl Fn(&mut dyn Counts)) {
    test(&mut Pure::default());
    test(&mut InProcess::new());
    test(&mut Scripted::new());
}

/// Numbers as a policy compiles them.
pub fn numbers(average: u64, burst: u64, period_us: u64) -> Numbers {
    Numbers::new(average, burst, Duration::from_micros(period_us)).expect("numbers that can be counted")
}

/// A counter of an enforced limit.
pub fn enforced(average: u64, burst: u64, period_us: u64) -> Counter {
    Counter { cost: 1, numbers: numbers(average, burst, period_us), enforce: true, min_ttl_ms: 0 }
}

/// A counter of a shadow limit.
pub fn shadow(average: u64, burst: u64, period_us: u64) -> Counter {
    Counter { enforce: false, ..enforced(average, burst, period_us) }
}

/// A plan for one request.
pub fn plan(purpose: Purpose, counters: &[(&str, Counter)]) -> Plan {
    let mut plan = Plan::new(purpose, String::new());
    for (key, counter) in counters {
        plan.push(*counter, |out| out.push_str(key));
    }
    plan
}
