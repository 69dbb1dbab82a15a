//! Leased limits: hardly any call, never more than the promise, and what is not used comes back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edgequota_counters::{Ask, Refusal, Verdict};
use edgequota_policy::limit::FailurePolicy;

use crate::support::{
    asks::{Rule, ask, limit},
    eventually, pause,
    server::RedisServer,
    worker::Worker,
    world::{World, by_store},
};

const KEY: &str = "rl:edgequota:acme";

fn leased(burst: u64, average: u64, period: &'static str) -> Rule {
    Rule { average, period, leased: true, ..limit("default", burst, FailurePolicy::FailClosed) }
}

/// So slow a refill that no test sees it.
fn slow(burst: u64) -> Rule {
    leased(burst, burst, "40000h")
}

fn limited(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused(Refusal::Limited { .. }))
}

async fn left(world: &World, ask: &Ask) -> u64 {
    world.decider.look(std::slice::from_ref(ask)).await.limits[0].remaining.expect("redis answers")
}

/// Spends without a break for a while; how many were allowed and how many asked for.
async fn hammer(worker: &Worker, asks: &[Ask], time: Duration) -> (u64, u64) {
    let began = Instant::now();
    let (mut allowed, mut all) = (0, 0);
    while began.elapsed() < time {
        let verdict = worker.verdict(asks).await;
        assert!(by_store(&verdict) || limited(&verdict), "{verdict:?}");
        allowed += u64::from(by_store(&verdict));
        all += 1;
    }
    (allowed, all)
}

/// Tokens that are out, by the counter's own fields.
fn out(server: &RedisServer) -> u64 {
    let fields = server.hash(KEY);
    ["a", "b"].iter().filter_map(|field| fields.get(*field)).map(|n| n.parse::<u64>().expect("a number")).sum()
}

#[tokio::test]
async fn most_requests_on_a_hot_key_need_no_call() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(leased(1_000_000, 1_000_000, "1s"), "acme")];
    // Until the worker has seen how much is asked for.
    hammer(&world.worker, &asks, Duration::from_millis(300)).await;
    let calls = server.script_calls();
    let (allowed, all) = hammer(&world.worker, &asks, Duration::from_secs(2)).await;
    let calls = server.script_calls() - calls;
    assert_eq!(allowed, all);
    assert!(calls * 50 < all, "{calls} calls for {all} requests");
    assert!(world.metric("edgequota_decided_by_lease_total") * 1.1 > all as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_hammer_a_leased_key_keep_the_promise() {
    const BURST: u64 = 4_000;
    const RATE: u64 = 2_000;
    let server = RedisServer::start();
    let asks = Arc::new([ask(leased(BURST, RATE, "1s"), "acme")]);
    let mut worlds = Vec::new();
    for _ in 0..3 {
        let world = World::with(&server).await;
        world.fleet.set(3);
        worlds.push(world);
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for world in &worlds {
        let (worker, asks) = (Arc::clone(&world.worker), Arc::clone(&asks));
        tasks.spawn(async move { hammer(&worker, asks.as_slice(), Duration::from_secs(3)).await });
    }
    let all = tasks.join_all().await;
    let elapsed = began.elapsed().as_secs_f64();
    let allowed: u64 = all.iter().map(|(allowed, _)| allowed).sum();
    let bound = BURST as f64 + RATE as f64 * elapsed;
    assert!(allowed as f64 <= bound, "{allowed} of {bound}");
    let asked: u64 = all.iter().map(|(_, asked)| asked).sum();
    let wanted = (asked as f64).min(bound - BURST as f64 / 2.0) * 0.9;
    assert!(allowed as f64 >= wanted, "{allowed} of {bound}, {asked} asked");
    assert!(worlds.iter().all(|world| world.counters.stats() == (0, 0, 0)), "no decision was a fallback");
}

#[tokio::test]
async fn a_worker_that_closes_gives_back_what_it_did_not_spend() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(slow(100_000), "acme")];
    let (allowed, _) = hammer(&world.worker, &asks, Duration::from_millis(700)).await;
    assert!(out(&server) > 0, "something is leased: {:?}", server.hash(KEY));
    world.worker.close().await;
    assert_eq!(out(&server), 0);
    assert_eq!(left(&world, &asks[0]).await, 100_000 - allowed, "all but what was spent");
    // From then on every decision is the store's.
    let calls = server.script_calls();
    for _ in 0..20 {
        let verdict = world.verdict(&asks).await;
        assert!(by_store(&verdict), "{verdict:?}, {:?}", server.hash(KEY));
    }
    assert_eq!(server.script_calls() - calls, 20);
}

#[tokio::test]
async fn a_grant_that_arrives_while_its_worker_closes_is_given_back_too() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(slow(100_000), "acme")];
    let many = |n: usize| futures_util::future::join_all((0..n).map(|_| world.worker.verdict(&asks)));
    assert!(many(100).await.iter().all(by_store));
    // More than it holds: the call that asks for more is under way while the worker closes.
    server.freeze();
    let close = async {
        pause(50).await;
        tokio::join!(world.worker.close(), async {
            pause(50).await;
            server.thaw();
        })
    };
    let (verdicts, _) = tokio::join!(many(2_000), close);
    assert!(verdicts.iter().all(by_store));
    assert_eq!(out(&server), 0);
    assert_eq!(left(&world, &asks[0]).await, 100_000 - 2_100);
}

#[tokio::test]
async fn what_falls_idle_comes_back_by_itself() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(slow(100_000), "acme")];
    let (allowed, _) = hammer(&world.worker, &asks, Duration::from_millis(500)).await;
    eventually("nothing is out", || async { out(&server) == 0 && left(&world, &asks[0]).await == 100_000 - allowed })
        .await;
}

#[tokio::test]
async fn a_dead_worker_costs_what_it_held_and_only_for_two_epochs() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(slow(20_000), "acme")];
    let dead = Worker::start(&world.counters, 1);
    let mut allowed = 0;
    while out(&server) == 0 {
        allowed += hammer(&dead, &asks, Duration::from_millis(20)).await.0;
    }
    let held = out(&server);
    drop(dead);
    // Nobody's room is taken for longer, and no token comes back that might have been spent.
    let exact = [ask(Rule { leased: false, ..slow(20_000) }, "acme")];
    eventually("the dead one's room is free", || async {
        assert!(by_store(&world.verdict(&exact).await));
        out(&server) == 0
    })
    .await;
    let left = left(&world, &asks[0]).await;
    assert!(left + allowed < 20_000, "{left} left, {allowed} spent by the dead one, {held} lost with it");
    assert!(left + allowed + 20_000 / 2 + 5_000 >= 20_000, "no more than half a bucket is lost: {left}, {allowed}");
}

#[tokio::test]
async fn small_limits_and_light_use_are_counted_exactly() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let small = [ask(slow(15), "acme")];
    let verdicts = futures_util::future::join_all((0..100).map(|_| world.worker.verdict(&small))).await;
    assert_eq!(verdicts.iter().filter(|verdict| by_store(verdict)).count(), 15);
    assert!(!server.hash(KEY).contains_key("a"), "{:?}", server.hash(KEY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_client_under_many_workers_gets_its_bucket_less_what_others_may_hold() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    world.fleet.set(4);
    let burst = 2_000;
    let asks = [ask(slow(burst), "acme")];
    let others: Vec<_> = (1..4).map(|index| Worker::start(&world.counters, index)).collect();
    // Each of the workers has its share of the client's requests, as behind a balancer.
    let (mut allowed, mut refused) = (0u64, 0);
    for n in 0..10_000usize {
        let worker = if n % 4 == 0 { &*world.worker } else { &others[n % 4 - 1] };
        if by_store(&worker.verdict(&asks).await) {
            allowed += 1
        } else {
            refused += 1
        }
        if refused > 50 {
            break;
        }
    }
    assert!(allowed >= burst / 2 && allowed <= burst, "{allowed} at once");
    // What the others hold and do not spend comes back, and nothing of it is lost.
    let began = Instant::now();
    while allowed < burst && began.elapsed() < Duration::from_secs(10) {
        allowed += u64::from(by_store(&world.verdict(&asks).await));
    }
    assert_eq!(allowed, burst);
    assert!(limited(&world.verdict(&asks).await));
}

#[tokio::test]
async fn a_returned_lease_helps_another_worker_within_a_second() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(slow(1_000), "acme")];
    let hoarder = Worker::start(&world.counters, 1);
    while out(&server) == 0 {
        assert!(by_store(&hoarder.verdict(&asks).await));
    }
    // The other one takes all that is not leased, and then some; at once, before the lease is given back for want of use.
    let exact = [ask(Rule { leased: false, ..slow(1_000) }, "acme")];
    futures_util::future::join_all((0..1_000).map(|_| world.verdict(&exact))).await;
    assert!(limited(&world.verdict(&exact).await));
    hoarder.close().await;
    let closed = Instant::now();
    eventually("the tokens are seen", || async { by_store(&world.verdict(&exact).await) }).await;
    assert!(closed.elapsed() < Duration::from_millis(1_500), "{:?}", closed.elapsed());
}

#[tokio::test]
async fn an_edit_gives_back_what_was_leased_under_the_old_numbers() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let before = [ask(slow(100_000), "acme")];
    let (allowed, _) = hammer(&world.worker, &before, Duration::from_millis(500)).await;
    let after = [ask(slow(200_000), "acme")];
    assert!(by_store(&world.verdict(&after).await), "what is left of the old bucket is the new one's");
    eventually("nothing of it is out", || async { out(&server) == 0 }).await;
    assert!(left(&world, &after[0]).await <= 100_000 - allowed, "an edit is no refill");
}

#[tokio::test]
async fn a_request_that_meets_an_exact_limit_too_is_counted_exactly() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(slow(100_000), "acme"), ask(limit("b", 100_000, FailurePolicy::FailClosed), "acme")];
    let calls = server.script_calls();
    for _ in 0..300 {
        assert!(by_store(&world.verdict(&asks).await));
    }
    assert_eq!(server.script_calls() - calls, 300);
    assert_eq!(out(&server), 0);
}

#[tokio::test]
async fn leases_bridge_a_pause_of_the_store() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(slow(1_000_000), "acme")];
    hammer(&world.worker, &asks, Duration::from_millis(600)).await;
    server.freeze();
    let (allowed, all) = hammer(&world.worker, &asks, Duration::from_millis(100)).await;
    server.thaw();
    assert!(allowed == all && all > 10, "{allowed} of {all}");
    pause(1).await;
}
