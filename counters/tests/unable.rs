//! A server that answers and cannot count: out of memory, unable to save, still loading.

use std::time::{Duration, Instant};

use edgequota_counters::{AllowedBy, Refusal, Verdict};
use edgequota_policy::{GoDuration, limit::FailurePolicy};

use crate::support::{
    asks::{ask, limit},
    eventually, pause,
    server::RedisServer,
    traffic::Traffic,
    world::{World, by_store, settings},
};

const CLOSED: Verdict = Verdict::Refused(Refusal::Unavailable { code: 503 });

/// So that a later request of that subject is refused.
async fn spend_the_poors(world: &World) {
    assert!(by_store(&world.verdict(&[ask(limit("default", 1, FailurePolicy::FailClosed), "poor")]).await));
}

/// Each failure policy answers, and the reason is shown; once it is mended all is well.
async fn is_unable(server: &RedisServer, world: &World, code: &str, mend: impl FnOnce()) {
    let asks = |policy| [ask(limit("default", 10, policy), "acme")];
    assert_eq!(world.verdict(&asks(FailurePolicy::FailClosed)).await, CLOSED);
    assert_eq!(world.verdict(&asks(FailurePolicy::PassThrough)).await, Verdict::Allowed(AllowedBy::PassThrough));
    assert_eq!(world.verdict(&asks(FailurePolicy::InMemoryFallback)).await, Verdict::Allowed(AllowedBy::Fallback));
    assert!(!world.counters.healthy());
    let problem = world.counters.problem().expect("it is shown");
    assert!(problem.contains(code), "{problem}");
    assert!(world.counters.stats().0 >= 3 && world.counters.stats().1 == 3);
    // A refusal writes nothing, so it proves nothing.
    let poor = [ask(limit("default", 1, FailurePolicy::FailClosed), "poor")];
    pause(1_100).await;
    assert!(matches!(world.verdict(&poor).await, Verdict::Refused(Refusal::Limited { .. })));
    assert!(!world.counters.healthy());
    // Who starts now is connected, and shows why it cannot count.
    let other = World::new(settings(server)).await;
    eventually("it is shown", || async { other.counters.problem().is_some_and(|problem| problem.contains(code)) })
        .await;
    let before = server.text(&["CLIENT", "LIST"]).matches("name=edgequota-").count();
    mend();
    let rich = [ask(limit("default", 100_000, FailurePolicy::FailClosed), "rich")];
    eventually("it counts", || async { by_store(&other.verdict(&rich).await) }).await;
    drop(other);
    eventually("the other one is gone", || async {
        server.text(&["CLIENT", "LIST"]).matches("name=edgequota-").count() == before / 2
    })
    .await;
    let before = before / 2;
    assert!(by_store(&world.verdict(&asks(FailurePolicy::FailClosed)).await));
    assert!(world.counters.healthy() && world.counters.problem().is_none());
    assert_eq!(
        server.text(&["CLIENT", "LIST"]).matches("name=edgequota-").count(),
        before,
        "no connection was to blame"
    );
}

#[tokio::test]
async fn out_of_memory() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    spend_the_poors(&world).await;
    server.run(&["CONFIG", "SET", "maxmemory", "1"]);
    is_unable(&server, &world, "OOM", || drop(server.run(&["CONFIG", "SET", "maxmemory", "0"]))).await;
}

#[tokio::test]
async fn unable_to_save() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    spend_the_poors(&world).await;
    std::fs::remove_dir_all(server.dir()).expect("it is there");
    server.run(&["CONFIG", "SET", "save", "3600 1"]);
    let _ = server.try_run(&["BGSAVE"]);
    eventually("a save failed", || async {
        server.text(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err")
    })
    .await;
    let mend = || drop(server.run(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]));
    is_unable(&server, &world, "MISCONF", mend).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn still_loading() {
    let mut server = RedisServer::slow_to_load(Duration::from_millis(20));
    eventually("it answers", || async { server.try_run(&["PING"]).is_ok() }).await;
    let mut set = settings(&server);
    set.deadline = GoDuration::new(Duration::from_millis(200));
    let world = World::new(set).await;
    world.recovered(&ask(limit("default", 10, FailurePolicy::FailClosed), "acme")).await;
    for n in 0..150 {
        server.run(&["HSET", &format!("rl:edgequota:k{n}"), "tokens", "1"]);
    }
    server.run(&["SAVE"]);
    let traffic = Traffic::start(&world, &["acme", "b", "c"]);
    traffic.decided().await;
    server.restart();
    let restarted = Instant::now();
    let told = server.try_run(&["GET", "x"]);
    assert!(told.as_ref().is_err_and(|error| error.to_string().contains("loading")), "{told:?}");
    traffic.decided().await;
    assert!(restarted.elapsed() > Duration::from_secs(2), "it had to be waited for");
    let tally = traffic.end().await;
    assert!(tally.lost > 0 && tally.slowest < Duration::from_millis(600), "{tally:?}");
    assert!(world.counters.healthy());
    println!("loading for about 3 s: {tally:?}");
}
