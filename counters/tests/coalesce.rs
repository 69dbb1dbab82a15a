//! Requests that go as one call: none is lost, none is granted twice, the first come first.

use std::{sync::Arc, time::Duration};

use edgequota_counters::{AllowedBy, Ask, Refusal, Verdict};
use edgequota_policy::{
    GoDuration,
    limit::{FailurePolicy, Mode, Subject},
};
use futures_util::future::join_all;

use crate::support::{
    asks::{Rule, ask, limit},
    eventually, pause,
    server::RedisServer,
    world::{World, by_store, settings},
};

fn strict(name: &'static str, burst: u64) -> Rule {
    limit(name, burst, FailurePolicy::FailClosed)
}

async fn left(world: &World, ask: &Ask) -> u64 {
    world.decider.look(std::slice::from_ref(ask)).await.limits[0].remaining.expect("redis answers")
}

#[tokio::test]
async fn requests_that_come_together_go_as_one_call_and_the_first_are_granted() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict("default", 60), "acme")];
    server.freeze();
    let wait = join_all((0..100).map(|_| world.worker.spend(&asks)));
    tokio::pin!(wait);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut wait).await.is_err(), "the server stands still");
    server.thaw();
    let decisions = wait.await;
    let verdicts: Vec<bool> = decisions.iter().map(|decision| by_store(&decision.verdict)).collect();
    assert_eq!(verdicts, (0..100).map(|n| n < 60).collect::<Vec<_>>(), "first come, first served");
    let remaining: Vec<_> =
        decisions[..60].iter().map(|decision| decision.limits[0].remaining.expect("told")).collect();
    assert_eq!(remaining, (0..60).rev().collect::<Vec<_>>(), "as if each had been alone");
    assert!(server.script_calls() < 20, "{}", server.script_calls());
    assert_eq!(left(&world, &asks[0]).await, 0);
}

#[tokio::test]
async fn those_who_come_while_a_call_is_under_way_go_with_the_next() {
    let server = RedisServer::start();
    let mut set = settings(&server);
    set.deadline = GoDuration::new(Duration::from_secs(8));
    let world = World::new(set).await;
    let asks = [ask(strict("default", 1000), "acme")];
    world.recovered(&asks[0]).await;
    let before = server.script_calls();
    server.freeze();
    let first = world.worker.spend(&asks);
    let others = async {
        pause(50).await;
        join_all((0..50).map(|_| world.worker.spend(&asks))).await
    };
    let thaw = async {
        pause(150).await;
        server.thaw();
    };
    let (first, others, ()) = tokio::join!(first, others, thaw);
    assert!(by_store(&first.verdict) && others.iter().all(|decision| by_store(&decision.verdict)));
    assert_eq!(server.script_calls() - before, 2);
    assert_eq!(left(&world, &asks[0]).await, 949);
}

#[tokio::test]
async fn a_second_call_may_start_beside_one_that_takes_long() {
    let server = RedisServer::start();
    let mut set = settings(&server);
    set.deadline = GoDuration::new(Duration::from_millis(800));
    let world = World::new(set).await;
    let asks = [ask(strict("default", 1000), "acme")];
    world.recovered(&asks[0]).await;
    server.freeze();
    let first = world.worker.spend(&asks);
    let second = async {
        pause(300).await;
        world.worker.spend(&asks).await
    };
    let thaw = async {
        // The first has no answer by its deadline, the second has.
        pause(900).await;
        server.thaw();
    };
    let (first, second, ()) = tokio::join!(first, second, thaw);
    assert_eq!(first.verdict, Verdict::Refused(Refusal::Unavailable { code: 503 }), "its own deadline");
    assert!(by_store(&second.verdict), "{:?}", second.verdict);
}

#[tokio::test]
async fn what_was_granted_to_those_who_left_goes_to_the_next_or_back() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict("default", 1000), "acme")];
    for round in 0..20u64 {
        server.freeze();
        let mut leavers: Vec<_> = (0..30).map(|_| Box::pin(world.worker.spend(&asks))).collect();
        for leaver in &mut leavers {
            assert!(tokio::time::timeout(Duration::from_millis(1), leaver).await.is_err());
        }
        // Sent, and then half of them leave: before the answer or just with it.
        leavers.truncate(15);
        if round % 2 == 0 {
            pause(20).await;
        }
        server.thaw();
        assert!(join_all(leavers).await.iter().all(|decision| by_store(&decision.verdict)));
        let spent = 15 * (round + 1);
        eventually("the tokens of those who left are back", || async { left(&world, &asks[0]).await == 1000 - spent })
            .await;
    }
}

#[tokio::test]
async fn a_refund_is_of_all_limits_that_gave_something() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [
        ask(Rule { cost: 3, ..strict("default", 100) }, "acme"),
        ask(strict("b", 50), "acme"),
        ask(Rule { mode: Mode::Shadow, ..strict("c", 1) }, "acme"),
    ];
    server.freeze();
    let mut leaver = Box::pin(world.worker.spend(&asks));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut leaver).await.is_err());
    drop(leaver);
    server.thaw();
    eventually("everything is back", || async {
        let looked = world.decider.look(&asks).await;
        looked.limits.iter().map(|state| state.remaining).eq([Some(100), Some(50), Some(1)])
    })
    .await;
}

#[tokio::test]
async fn different_counters_go_together_and_each_is_counted() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let one = ask(strict("default", 2), "acme");
    let of = |n: u32| [Ask { subject: Subject { raw: format!("s{}", n % 300), secret: false }, ..one.clone() }];
    let many: Vec<_> = (0..900).map(of).collect();
    let before = server.script_calls();
    let verdicts = join_all(many.iter().map(|asks| world.verdict(asks))).await;
    assert_eq!(verdicts.iter().filter(|verdict| by_store(verdict)).count(), 600);
    let calls = server.script_calls() - before;
    assert!(calls < 150, "{calls} calls for 300 counters");
}

#[tokio::test]
async fn one_key_that_is_forbidden_does_not_fail_those_that_went_with_it() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let good: Vec<_> = (0..20).map(|n| [ask(strict("default", 5), &format!("good{n}"))]).collect();
    let bad = [ask(strict("default", 5), "bad")];
    server.run(&["ACL", "SETUSER", "default", "resetkeys", "~rl:edgequota:good*", "~{rl:*"]);
    let (good, bad) = tokio::join!(join_all(good.iter().map(|asks| world.verdict(asks))), world.verdict(&bad));
    assert!(good.iter().all(by_store), "{good:?}");
    assert_eq!(bad, Verdict::Refused(Refusal::Unavailable { code: 503 }));
}

#[tokio::test]
async fn a_shadow_limit_grants_in_a_joint_call_what_it_has() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks =
        Arc::new([ask(strict("default", 8), "acme"), ask(Rule { mode: Mode::Shadow, ..strict("shadow", 3) }, "acme")]);
    server.freeze();
    let wait = join_all((0..10).map(|_| world.worker.spend(asks.as_slice())));
    tokio::pin!(wait);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut wait).await.is_err());
    server.thaw();
    let decisions = wait.await;
    let allowed = |decision: &edgequota_counters::Decision| decision.verdict == Verdict::Allowed(AllowedBy::Store);
    assert_eq!(decisions.iter().filter(|decision| allowed(decision)).count(), 8);
    assert_eq!(decisions.iter().filter(|decision| decision.limits[1].passed == Some(true)).count(), 3);
}
