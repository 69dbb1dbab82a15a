//! The denied cache: refusals that need no call, and none that refill would have allowed.

use std::time::{Duration, Instant};

use edgequota_counters::{Ask, Refusal, Verdict, store::Purpose};
use edgequota_policy::{
    GoDuration,
    limit::{FailurePolicy, Subject},
};
use futures_util::future::join_all;

use crate::support::{
    asks::{Rule, ask, limit},
    server::RedisServer,
    worker::Worker,
    world::{World, by_store, settings},
};

fn strict(burst: u64, average: u64, period: &'static str) -> Rule {
    Rule { average, period, ..limit("default", burst, FailurePolicy::FailClosed) }
}

fn limited(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused(Refusal::Limited { .. }))
}

/// Whether `ask` passes within `at_most`; refusals on the way are by the limit.
async fn passes_within(world: &World, ask: &Ask, at_most: Duration) -> bool {
    let began = Instant::now();
    while began.elapsed() < at_most {
        let verdict = world.verdict(std::slice::from_ref(ask)).await;
        if by_store(&verdict) {
            return true;
        }
        assert!(limited(&verdict), "{verdict:?}");
    }
    false
}

#[tokio::test]
async fn a_flood_on_an_empty_bucket_costs_a_call_a_second_and_worker() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let workers = [Worker::start(&world.counters, 1), Worker::start(&world.counters, 2)];
    world.counters.tried().await;
    let asks = [ask(strict(1, 1, "1h"), "acme")];
    assert!(by_store(&world.verdict(&asks).await));
    let before = server.script_calls();
    let began = Instant::now();
    let mut refused = 0;
    while began.elapsed() < Duration::from_millis(2500) {
        for worker in &workers {
            assert!(limited(&worker.verdict(&asks).await));
            refused += 1;
        }
    }
    let calls = server.script_calls() - before;
    // One when the entry ends, at second 0, 1 and 2, for each worker. The machine may stand still for a moment.
    let most = 2 * (began.elapsed().as_secs() + 2);
    assert!(calls <= most && calls >= 4, "{calls} calls for {refused} refusals in {:?}", began.elapsed());
    assert!(refused > 500, "{refused}");
}

#[tokio::test]
async fn no_refusal_that_refill_would_have_allowed() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    // A token each 20 ms, and somebody who takes it as soon as it is there.
    let asks = [ask(strict(5, 50, "1s"), "acme")];
    let began = Instant::now();
    let mut allowed = 0u64;
    while began.elapsed() < Duration::from_secs(2) {
        allowed += u64::from(by_store(&world.verdict(&asks).await));
    }
    let elapsed = began.elapsed().as_secs_f64();
    let exact = 5.0 + 50.0 * elapsed;
    assert!(allowed as f64 <= exact + 1.0, "{allowed} of {exact}");
    // A call takes longer than the token needs at times; what the cache holds back would be far more.
    assert!(allowed as f64 >= exact * 0.95 - 1.0, "{allowed} of {exact}");
}

#[tokio::test]
async fn the_wait_that_is_told_shrinks_with_time() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict(1, 1, "10s"), "acme")];
    world.worker.spend(&asks).await;
    let retry = |verdict: Verdict| match verdict {
        Verdict::Refused(Refusal::Limited { retry_after, .. }) => retry_after,
        other => panic!("{other:?}"),
    };
    let calls = server.script_calls();
    let first = world.worker.spend(&asks).await;
    let shown = &first.limits[0];
    assert_eq!((shown.remaining, shown.passed), (Some(0), Some(false)));
    assert!(shown.reset_after.is_some_and(|reset| reset <= Duration::from_secs(10)));
    let first = retry(first.verdict);
    crate::support::pause(50).await;
    let second = retry(world.verdict(&asks).await);
    assert!(second + Duration::from_millis(50) <= first, "{first:?} then {second:?}");
    assert_eq!(server.script_calls(), calls, "the spend that left nothing had told it all");
}

#[tokio::test]
async fn an_edit_of_another_limit_leaves_the_entry_and_one_of_this_limit_does_not() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict(1, 1, "1h"), "acme")];
    world.worker.spend(&asks).await;
    let before = server.script_calls();
    // Another limit of the same subject, edited: the same definition of ours compiled anew.
    let again = [ask(strict(1, 1, "1h"), "acme")];
    assert!(limited(&world.verdict(&again).await));
    assert_eq!(server.script_calls(), before);
    // Raised: its numbers are others, nothing that was remembered holds.
    let raised = [ask(strict(3, 3, "1ms"), "acme")];
    assert!(passes_within(&world, &raised[0], Duration::from_secs(1)).await);
    let dearer = [ask(Rule { cost: 2, ..strict(3, 3, "1ms") }, "acme")];
    assert!(passes_within(&world, &dearer[0], Duration::from_secs(1)).await);
}

#[tokio::test]
async fn a_counter_that_was_reset_is_seen_within_a_second_and_with_a_hint_at_once() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict(2, 2, "1h"), "acme")];
    let exhaust = async || while by_store(&world.verdict(&asks).await) {};
    exhaust().await;
    world.decider.adjust(&asks, Purpose::Reset).await.expect("redis answers");
    assert!(passes_within(&world, &asks[0], Duration::from_millis(1500)).await);
    exhaust().await;
    world.decider.adjust(&asks, Purpose::Reset).await.expect("redis answers");
    assert!(limited(&world.verdict(&asks).await), "remembered");
    world.counters.changed("rl:edgequota:acme");
    assert!(by_store(&world.verdict(&asks).await), "forgotten");
}

#[tokio::test]
async fn one_full_limit_refuses_for_all_without_touching_the_others() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let roomy = ask(limit("default", 1000, FailurePolicy::FailClosed), "acme");
    let tight = ask(limit("tight", 1, FailurePolicy::FailClosed), "acme");
    let asks = [roomy.clone(), tight];
    assert!(by_store(&world.verdict(&asks).await));
    let calls = server.script_calls();
    for _ in 0..50 {
        assert!(limited(&world.verdict(&asks).await));
    }
    assert_eq!(server.script_calls(), calls);
    assert_eq!(world.decider.look(&[roomy]).await.limits[0].remaining, Some(999));
}

#[tokio::test]
async fn many_subjects_that_are_refused_are_remembered_up_to_a_bound() {
    let server = RedisServer::start();
    let mut set = settings(&server);
    // All of them at once take a loaded machine its time.
    set.deadline = GoDuration::new(Duration::from_secs(30));
    let world = World::new(set).await;
    assert!(world.counters.ping().await);
    let one = ask(strict(1, 1, "1h"), "acme");
    let of = |n: u32| [Ask { subject: Subject { raw: format!("s{n}"), secret: false }, ..one.clone() }];
    let many: Vec<_> = (0..20_000).map(of).collect();
    let ask_all = async |good: fn(&Verdict) -> bool| {
        // Not all at once: more than 4,096 unanswered plans go by failure policy.
        for some in many.chunks(1_000) {
            let verdicts = join_all(some.iter().map(|asks| world.verdict(asks))).await;
            assert!(verdicts.iter().all(good), "{:?}", verdicts.iter().find(|verdict| !good(verdict)));
        }
    };
    ask_all(by_store).await;
    ask_all(limited).await;
    // Beyond the bound the store is asked, nothing else changes.
    ask_all(limited).await;
}
