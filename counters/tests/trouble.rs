//! Decisions while the store does not answer: exactly what the failure policies say, and back again.

use std::time::{Duration, Instant};

use edgequota_counters::{AllowedBy, Ask, Refusal, Verdict};
use edgequota_policy::{
    GoDuration,
    limit::{FailurePolicy, Mode, Subject},
};

use crate::support::{
    asks::{Rule, ask, blocked, limit},
    eventually, pause,
    server::RedisServer,
    world::{World, by_store, settings},
};

const PASSED: Verdict = Verdict::Allowed(AllowedBy::PassThrough);
const CLOSED: Verdict = Verdict::Refused(Refusal::Unavailable { code: 503 });

fn open(name: &'static str, burst: u64) -> Rule {
    limit(name, burst, FailurePolicy::PassThrough)
}
fn local(name: &'static str, burst: u64) -> Rule {
    limit(name, burst, FailurePolicy::InMemoryFallback)
}
fn closed(name: &'static str, burst: u64) -> Rule {
    limit(name, burst, FailurePolicy::FailClosed)
}

async fn counted_here(world: &World, asks: &[Ask], tries: usize) -> usize {
    let mut passed = 0;
    for _ in 0..tries {
        match world.verdict(asks).await {
            Verdict::Allowed(AllowedBy::Fallback) => passed += 1,
            Verdict::Refused(Refusal::Limited { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    passed
}

#[tokio::test]
async fn without_redis_each_policy_decides_and_the_store_takes_over_again() {
    let mut server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(closed("default", 10), "acme")];
    assert!(by_store(&world.verdict(&asks).await));
    server.kill();

    assert_eq!(world.verdict(&asks).await, CLOSED);
    for _ in 0..50 {
        assert_eq!(world.verdict(&[ask(open("default", 1), "acme")]).await, PASSED);
    }
    assert_eq!(counted_here(&world, &[ask(local("default", 5), "acme")], 20).await, 5);
    let decision = world.worker.spend(&[ask(local("default", 5), "acme")]).await;
    assert_eq!((decision.limits[0].remaining, decision.limits[0].passed), (Some(0), Some(false)), "numbers exist");
    assert_eq!(
        world.verdict(&[blocked(open("default", 5), "m")]).await,
        Verdict::Refused(Refusal::Blocked { limit: 0 })
    );
    let shadow = Rule { mode: Mode::Shadow, ..closed("ghost", 5) };
    assert!(by_store(&world.verdict(&[ask(shadow, "acme")]).await), "shadow limits have no failure policy");

    assert!(!world.counters.healthy());
    assert_eq!(world.metric("edgequota_redis_healthy"), 0.0);
    assert!(!world.counters.ping().await);
    let (errors, fallback, _) = world.counters.stats();
    assert!(errors > 0);
    assert_eq!(fallback, 1 + 50 + 20 + 1 + 1);
    assert_eq!(world.metric("edgequota_fallback_used_total") as u64, fallback);

    server.restart();
    assert!(world.counters.ping().await, "a probe does not sit out a backoff");
    world.recovered(&asks[0]).await;
    assert_eq!(world.metric("edgequota_redis_healthy"), 1.0);
    assert!(by_store(&world.verdict(&asks).await));

    // The buckets in the process outlive the flap.
    server.kill();
    eventually("the loss is noticed", || async { !world.counters.healthy() }).await;
    assert_eq!(counted_here(&world, &[ask(local("default", 5), "acme")], 5).await, 0);
}

#[tokio::test]
async fn the_strictest_enforced_limit_decides() {
    let mut server = RedisServer::start();
    let world = World::with(&server).await;
    server.kill();
    let shadow = Rule { mode: Mode::Shadow, ..closed("ghost", 5) };
    let (a, b, c) = (ask(open("default", 5), "x"), ask(local("b", 2), "x"), ask(closed("c", 5), "x"));
    assert_eq!(world.verdict(&[a.clone(), b.clone(), c.clone()]).await, CLOSED);
    assert_eq!(world.verdict(&[c.clone(), a.clone()]).await, CLOSED);
    assert_eq!(world.verdict(&[a.clone(), ask(shadow, "x")]).await, PASSED);
    assert_eq!(counted_here(&world, &[a.clone(), b.clone()], 10).await, 2);
    let Verdict::Refused(Refusal::Limited { limit, .. }) = world.verdict(&[a, b]).await else { panic!("limited") };
    assert_eq!(limit, 1, "names the limit that counts in the process");
}

#[tokio::test]
async fn pass_through_is_capped_for_the_whole_process() {
    let mut server = RedisServer::start();
    let world = World::with(&server).await;
    server.kill();
    let capped = Rule { global_passthrough_rps: 20, ..open("default", 1) };
    let began = Instant::now();
    let mut passed = 0;
    for i in 0..200 {
        let asks = [ask(capped, &format!("subject-{}", i % 7))];
        // A look takes nothing of the allowance.
        world.decider.look(&asks).await;
        match world.verdict(&asks).await {
            Verdict::Allowed(AllowedBy::PassThrough) => passed += 1,
            Verdict::Refused(Refusal::PassThroughFull) => {}
            other => panic!("{other:?}"),
        }
    }
    let most = 20 + (began.elapsed().as_secs_f64() * 20.0).ceil() as u64;
    assert!((20..=most).contains(&passed), "{passed} of at most {most}");
}

#[tokio::test]
async fn each_process_takes_its_share_of_the_fleet() {
    let mut server = RedisServer::start();
    let world = World::with(&server).await;
    server.kill();
    world.fleet.set(4);
    assert_eq!(counted_here(&world, &[ask(local("default", 10), "a")], 20).await, 2, "a quarter, rounded down");
    assert_eq!(counted_here(&world, &[ask(local("default", 2), "b")], 20).await, 1, "at least one token");
    world.fleet.set(1);
    assert_eq!(counted_here(&world, &[ask(local("default", 10), "c")], 20).await, 10);
}

#[tokio::test]
async fn a_frozen_redis_costs_each_request_at_most_the_deadline_and_then_nothing() {
    let server = RedisServer::start();
    let mut set = settings(&server);
    set.deadline = GoDuration::new(Duration::from_millis(200));
    let world = World::new(set).await;
    let asks = [ask(open("default", 1000), "acme")];
    world.recovered(&asks[0]).await;
    server.freeze();
    let began = Instant::now();
    let waits = futures_util::future::join_all((0..50).map(|_| world.worker.spend(&asks))).await;
    let waited = began.elapsed();
    assert!(waits.iter().all(|d| d.verdict == PASSED));
    assert!(waited >= Duration::from_millis(199) && waited < Duration::from_millis(600), "{waited:?}");
    // The breaker is open: a hundred requests one after the other, none of which waits.
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(world.verdict(&asks).await, PASSED);
    }
    assert!(began.elapsed() < Duration::from_millis(199), "{:?}", began.elapsed());
    assert!(!world.counters.healthy());
    server.thaw();
    let began = Instant::now();
    world.recovered(&asks[0]).await;
    assert!(began.elapsed() < Duration::from_secs(1), "the first answer closes the breaker: {:?}", began.elapsed());
    assert!(by_store(&world.verdict(&asks).await));
}

#[tokio::test]
async fn one_slow_request_does_not_open_the_breaker() {
    let server = RedisServer::start();
    let mut set = settings(&server);
    set.deadline = GoDuration::new(Duration::from_millis(50));
    let world = World::new(set).await;
    let asks = [ask(closed("default", 1000), "acme")];
    world.recovered(&asks[0]).await;
    server.freeze();
    assert_eq!(world.verdict(&asks).await, CLOSED);
    assert!(world.counters.healthy(), "a single waiter proves nothing");
    server.thaw();
    eventually("the store decides", || async { by_store(&world.verdict(&asks).await) }).await;
}

#[tokio::test]
async fn a_pause_just_over_the_deadline_does_not_open_the_gate_for_seconds() {
    let server = RedisServer::start();
    let mut set = settings(&server);
    set.deadline = GoDuration::new(Duration::from_millis(400));
    let world = World::new(set).await;
    let asks = [ask(open("default", 1_000_000), "acme")];
    world.recovered(&asks[0]).await;
    server.run(&["CLIENT", "PAUSE", "500", "ALL"]);
    let paused = Instant::now();
    let (mut opened, mut by_store_again) = (false, None);
    let (mut batches, mut late) = (0u32, 0u32);
    while paused.elapsed() < Duration::from_secs(3) {
        let verdicts = futures_util::future::join_all((0..8).map(|_| world.worker.spend(&asks))).await;
        let store = verdicts.iter().all(|d| by_store(&d.verdict));
        opened |= !store;
        if opened && store {
            by_store_again.get_or_insert_with(|| paused.elapsed());
        }
        if by_store_again.is_some() {
            batches += 1;
            late += u32::from(!store);
        }
        // The rate of a client that does not flood while the gate is open.
        pause(1).await;
    }
    assert!(opened, "the pause was longer than the deadline");
    let again = by_store_again.expect("the store decides again");
    assert!(again < Duration::from_millis(1500), "the gate was open until {again:?}");
    // A machine under load may miss a deadline now and then.
    assert!(late * 10 <= batches, "{late} of {batches} after that");
}

#[tokio::test]
async fn silence_for_the_read_timeout_makes_a_new_connection() {
    let server = RedisServer::start();
    let mut set = settings(&server);
    set.deadline = GoDuration::new(Duration::from_millis(50));
    set.read_timeout = GoDuration::new(Duration::from_millis(300));
    set.pool_size = 1;
    let world = World::new(set).await;
    let asks = [ask(closed("default", 1000), "acme")];
    world.recovered(&asks[0]).await;
    let before = client_ids(&server);
    server.freeze();
    assert_eq!(world.verdict(&asks).await, CLOSED);
    eventually("silence is noticed", || async { !world.counters.healthy() }).await;
    server.thaw();
    world.recovered(&asks[0]).await;
    let after = client_ids(&server);
    assert!(before.iter().all(|id| !after.contains(id)), "{before:?} {after:?}");
}

pub fn client_ids(server: &RedisServer) -> Vec<String> {
    our_ids(&redis::from_redis_value::<String>(server.run(&["CLIENT", "LIST"])).expect("text"))
}

/// Of a `CLIENT LIST`, the `id=` of our connections.
pub fn our_ids(clients: &str) -> Vec<String> {
    let ours = clients.lines().filter(|line| line.contains("name=edgequota-"));
    ours.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[tokio::test]
async fn too_many_unanswered_calls_are_not_sent() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(open("default", 1_000_000), "acme")];
    let of = |n: u32| [Ask { subject: Subject { raw: n.to_string(), secret: false }, ..asks[0].clone() }];
    let many: Vec<_> = (0..5000).map(of).collect();
    server.freeze();
    let began = Instant::now();
    let answered = futures_util::future::join_all(many.iter().map(|asks| async {
        assert_eq!(world.verdict(asks).await, PASSED);
        began.elapsed()
    }))
    .await;
    let at_once = answered.iter().filter(|t| **t < Duration::from_millis(900)).count();
    assert_eq!(at_once, 5000 - 4096, "4096 wait for the deadline, the rest is answered at once");
    server.thaw();
    world.recovered(&asks[0]).await;
}

#[tokio::test]
async fn redis_away_at_the_start_is_found_later() {
    let mut server = RedisServer::start();
    server.kill();
    let world = World::new(settings(&server)).await;
    let asks = [ask(closed("default", 10), "acme")];
    assert_eq!(world.verdict(&asks).await, CLOSED);
    server.restart();
    world.recovered(&asks[0]).await;
    assert!(by_store(&world.verdict(&asks).await));
}
