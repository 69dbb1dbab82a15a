//! What a decision costs the worker that makes it: in the embedded store, by a lease, by the denied cache, and by a
//! call of a real redis-server, one after the other.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

#[path = "../tests/support/asks.rs"]
mod asks;
#[path = "../tests/support/server.rs"]
mod server;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use edgequota_config::settings::{Redis, RedisMode};
use edgequota_counters::{Ask, Counters, FleetSize, Refusal, Spender, Verdict};
use edgequota_ops::metrics::Metrics;
use edgequota_policy::{GoDuration, limit::FailurePolicy};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
    task::LocalSet,
};

use asks::{Rule, ask, limit};
use server::RedisServer;

/// A worker on the thread of the benchmark.
struct Worker {
    runtime: Runtime,
    local: LocalSet,
    spender: Spender,
    counters: Counters,
    _settings: watch::Sender<Arc<Redis>>,
}

impl Worker {
    fn new(redis: Redis) -> Worker {
        let (runtime, local) = (Builder::new_current_thread().enable_all().build().unwrap(), LocalSet::new());
        let metrics = Metrics::new(1);
        let (settings, watched) = watch::channel(Arc::new(redis));
        let (counters, spender) = local.block_on(&runtime, async {
            let counters = Counters::new(watched, &metrics, FleetSize::default(), "bench");
            let spender = counters.spender(0);
            counters.tried().await;
            (counters, spender)
        });
        Worker { runtime, local, spender, counters, _settings: settings }
    }

    fn embedded() -> Worker {
        Worker::new(Redis { mode: RedisMode::Embedded, ..Redis::default() })
    }

    fn beside(server: &RedisServer) -> Worker {
        let worker = Worker::new(Redis {
            endpoints: vec![server.address()],
            deadline: GoDuration::new(Duration::from_secs(5)),
            ..Redis::default()
        });
        assert!(worker.local.block_on(&worker.runtime, worker.counters.ping()), "redis answers");
        worker
    }

    /// The time of `n` decisions, one after the other; each must be as `right` says. Other tasks of the worker get a turn
    /// every thousand, as between the requests of a connection.
    fn decide(&self, n: u64, asks: &[Ask], right: fn(&Verdict) -> bool) -> Duration {
        self.local.block_on(&self.runtime, async {
            let start = Instant::now();
            for count in 0..n {
                let decision = self.spender.spend(black_box(asks)).await;
                assert!(right(&decision.verdict), "{:?}", decision.verdict);
                if count % 1000 == 999 {
                    tokio::task::yield_now().await;
                }
            }
            start.elapsed()
        })
    }
}

fn allowed(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Allowed(_))
}

fn limited(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused(Refusal::Limited { .. }))
}

fn never_reached(leased: bool) -> Rule {
    const MANY: u64 = 1_000_000_000;
    Rule { average: MANY, period: "1s", leased, ..limit("default", MANY, FailurePolicy::FailClosed) }
}

fn spent_for_an_hour() -> Rule {
    limit("default", 1, FailurePolicy::FailClosed)
}

fn embedded(c: &mut Criterion) {
    let worker = Worker::embedded();
    let mut group = c.benchmark_group("embedded store");
    let hot = [ask(never_reached(false), "hot")];
    group.bench_function("allowed, one key", |b| b.iter_custom(|n| worker.decide(n, &hot, allowed)));
    let spent = [ask(spent_for_an_hour(), "spent")];
    worker.decide(1, &spent, allowed);
    group.bench_function("refused, one key", |b| b.iter_custom(|n| worker.decide(n, &spent, limited)));
    let several = ["a", "b", "c"].map(|name| ask(never_reached(false), name));
    group.bench_function("allowed, three subjects", |b| b.iter_custom(|n| worker.decide(n, &several, allowed)));
    group.finish();
}

fn beside_redis(c: &mut Criterion) {
    let server = RedisServer::start();
    let worker = Worker::beside(&server);
    let mut group = c.benchmark_group("redis");

    let leased = [ask(never_reached(true), "leased")];
    // The lease grows with the rate that it is used at.
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_secs(2) {
        worker.decide(10_000, &leased, allowed);
    }
    let before = server.script_calls();
    group.bench_function("allowed by a lease", |b| b.iter_custom(|n| worker.decide(n, &leased, allowed)));
    shown("allowed by a lease", &server, before);

    let denied = [ask(spent_for_an_hour(), "denied")];
    worker.decide(1, &denied, allowed);
    worker.decide(1, &denied, limited);
    let before = server.script_calls();
    group.bench_function("refused by the denied cache", |b| b.iter_custom(|n| worker.decide(n, &denied, limited)));
    shown("refused by the denied cache", &server, before);

    let exact = [ask(never_reached(false), "exact")];
    group.sample_size(20);
    group.bench_function("allowed by a call, nobody else under way", |b| {
        b.iter_custom(|n| worker.decide(n, &exact, allowed));
    });
    group.finish();
}

#[allow(clippy::print_stdout)]
fn shown(what: &str, server: &RedisServer, before: u64) {
    println!("{what}: {} calls of redis in the whole measurement", server.script_calls() - before);
}

criterion_group!(benches, embedded, beside_redis);
criterion_main!(benches);
