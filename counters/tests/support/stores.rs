//! The three ways to count, behind one face, each with a clock that the test sets.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edgequota_counters::{
    bucket::{Bucket, ClockMove},
    clock::Clock,
    store::{
        Counter, CounterReply, Plan, Purpose, Replies,
        embedded::{Embedded, Evict},
        script,
    },
};
use edgequota_policy::Numbers;

use super::server::RedisServer;

/// Answers plans at times that the test names.
pub trait Counts {
    fn call(&mut self, plan: &Plan, now_us: u64) -> Replies;
}

/// The arithmetic alone, with a map around it.
#[derive(Default)]
pub struct Pure {
    buckets: HashMap<String, Bucket>,
}

impl Counts for Pure {
    fn call(&mut self, plan: &Plan, now_us: u64) -> Replies {
        let mut replies = Replies { granted: plan.n, now_us, ..Replies::default() };
        let mut states = Vec::new();
        for (key, counter) in plan.iter() {
            let full = Bucket::full(&counter.numbers, now_us);
            let mut bucket = self.buckets.get(key).copied().unwrap_or(full);
            let stepped = bucket.advance(&counter.numbers, now_us) == ClockMove::Stepped;
            replies.clock_steps += u64::from(stepped);
            if counter.enforce {
                replies.granted = replies.granted.min(bucket.room(counter.cost, plan.n));
            }
            states.push((bucket, stepped));
        }
        for ((key, counter), (mut bucket, stepped)) in plan.iter().zip(states) {
            let room = bucket.room(counter.cost, plan.n);
            if plan.purpose == Purpose::Spend {
                bucket.take(counter.cost, room.min(replies.granted));
                if room.min(replies.granted) > 0 || stepped {
                    self.buckets.insert(key.to_owned(), bucket);
                }
            }
            replies.counters.push(CounterReply {
                room,
                tokens: bucket.tokens,
                retry_us: bucket.retry_after_us(&counter.numbers, counter.cost, now_us),
                reset_us: bucket.reset_after_us(&counter.numbers, now_us),
                ..CounterReply::default()
            });
        }
        replies
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
    source: String,
}

impl Scripted {
    pub fn new() -> Scripted {
        let server = RedisServer::start();
        let connection = server.client();
        let lines: Vec<&str> = script::SOURCE
            .lines()
            .map(|line| if line.starts_with(script::CLOCK_LINE) { "local now = tonumber(ARGV[#ARGV])" } else { line })
            .collect();
        let source = lines.join("\n");
        assert!(!source.contains("'TIME'"), "the clock is read on that one line only");
        Scripted { server, connection, source }
    }
}

impl Counts for Scripted {
    fn call(&mut self, plan: &Plan, now_us: u64) -> Replies {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.source);
        let plans = std::slice::from_ref(plan);
        script::arguments(plans, true, &mut command);
        command.arg(now_us);
        let value: redis::Value = command.query(&mut self.connection).expect("the script runs");
        script::parse(&value, plans).expect("the script answers what it should").remove(0)
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
