//! `replication`: the primary is found, and found again when it is another one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use edgequota_policy::limit::FailurePolicy;

use crate::support::{
    asks::{Rule, ask, limit},
    at_last, eventually,
    proxy::{Proxy, Weather},
    server::RedisServer,
    topology::Replicated,
    traffic::Traffic,
    within,
    world::{World, by_store},
};
use crate::trouble::our_ids;

const KEY: &str = "rl:edgequota:acme";

/// Script calls that this server was asked for by a client of its own, not by its primary.
fn calls(server: &RedisServer) -> u64 {
    server.script_calls()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_found_among_the_endpoints_and_only_it_is_asked() {
    let set = Replicated::start().await;
    let world = World::new(set.settings()).await;
    let asks = [ask(limit("default", 10, FailurePolicy::FailClosed), "acme")];
    world.recovered(&asks[0]).await;
    for _ in 0..10 {
        assert!(by_store(&world.verdict(&asks).await));
    }
    assert!(!by_store(&world.verdict(&asks).await));
    assert_eq!(set.servers[0].hash(KEY)["tokens"], "0");
    assert_eq!([calls(&set.servers[1]), calls(&set.servers[2])], [0, 0], "a replica was asked to count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_primary_by_an_operators_hand_is_followed() {
    let set = Replicated::start().await;
    let world = World::new(set.settings()).await;
    let traffic = Traffic::start(&world, &["acme", "b", "c"]);
    traffic.decided().await;
    set.promote(1);
    eventually("the new one counts", || async { calls(&set.servers[1]) > 0 }).await;
    traffic.decided().await;
    let tally = traffic.end().await;
    assert!(world.metric("edgequota_redis_readonly_retries_total") > 0.0);
    assert!(tally.outage < Duration::from_secs(5), "{tally:?}");
    assert!(tally.slowest < Duration::from_millis(1500), "{tally:?}");
    assert_eq!(calls(&set.servers[2]), 0);
    assert!(world.counters.healthy());
    println!("another primary by hand: {tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_primary_is_left_for_the_one_that_is_promoted() {
    let mut set = Replicated::start().await;
    let world = World::new(set.settings()).await;
    let traffic = Traffic::start(&world, &["acme", "b", "c"]);
    traffic.decided().await;
    set.servers[0].kill();
    eventually("it is known", || async { !world.counters.healthy() }).await;
    set.promote(2);
    let promoted = Instant::now();
    traffic.decided().await;
    println!("replication, killed: decided again {:?} after another was promoted", promoted.elapsed());
    let tally = traffic.end().await;
    assert!(world.counters.healthy() && calls(&set.servers[2]) > 0);
    assert!(tally.slowest < Duration::from_millis(1500), "{tally:?}");
    // It comes back and believes that it is still the primary: the one with a replica is.
    set.servers[0].restart();
    world.edit(|redis| redis.password = "".into());
    let asks = [ask(limit("default", 10, FailurePolicy::FailClosed), "late")];
    world.recovered(&asks[0]).await;
    assert!(by_store(&world.verdict(&asks).await));
    assert_eq!(set.servers[2].hash("rl:edgequota:late")["tokens"], "9");
}

/// However long it was away: it is seen to be there again, which ends the pauses between attempts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_comes_back_after_many_attempts_counts_soon() {
    let mut set = Replicated::start().await;
    let world = World::new(set.settings()).await;
    let asks = [ask(limit("default", 1_000, FailurePolicy::FailClosed), "acme")];
    world.recovered(&asks[0]).await;
    set.servers[0].kill();
    let errors = world.counters.stats().0;
    // By now the pauses are up to half a minute.
    at_last("it was tried often", || async { world.counters.stats().0 >= errors + 8 }).await;
    set.servers[0].restart();
    within(Duration::from_secs(5), "it counts", || async { by_store(&world.verdict(&asks).await) }).await;
}

/// Its writes succeed, so no error tells that it is a replica now: its `ROLE` does, which is looked at every 30 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_writes_is_left_when_the_role_is_looked_at_again() {
    let set = Replicated::start_with(&["--replica-read-only", "no"]).await;
    let world = World::new(set.settings()).await;
    let asks = [ask(limit("default", 1_000, FailurePolicy::FailClosed), "acme")];
    world.recovered(&asks[0]).await;
    set.promote(1);
    at_last("the new one counts", || async {
        world.verdict(&asks).await;
        calls(&set.servers[1]) > 0
    })
    .await;
    // When a connection ends, it is looked at once.
    set.promote(2);
    let ours = set.servers[1].text(&["CLIENT", "LIST"]);
    for id in our_ids(&ours) {
        let _ = set.servers[1].try_run(&["CLIENT", "KILL", "ID", id.trim_start_matches("id=")]);
    }
    eventually("the third one counts", || async {
        world.verdict(&asks).await;
        calls(&set.servers[2]) > 0
    })
    .await;
}

/// Replication is asynchronous: what was spent since the replica last heard of its primary is forgotten with the primary,
/// and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_forgets_at_most_what_the_replica_had_not_seen() {
    const BURST: u64 = 1_000_000;
    let mut set = Replicated::start().await;
    let proxy = Proxy::before(set.servers[0].port).await;
    set.servers[1].run(&["REPLICAOF", "127.0.0.1", &proxy.port.to_string()]);
    set.in_step(0).await;
    let world = World::new(set.settings()).await;
    let asks =
        [ask(Rule { average: BURST, period: "40000h", ..limit("default", BURST, FailurePolicy::FailClosed) }, "acme")];
    world.recovered(&asks[0]).await;
    let (stop, worker) = (Arc::new(AtomicBool::new(false)), Arc::clone(&world.worker));
    let (stopped, asked) = (Arc::clone(&stop), asks.clone());
    let spends = tokio::spawn(async move {
        let mut allowed = 0;
        while !stopped.load(Ordering::Relaxed) {
            let all = futures_util::future::join_all((0..20).map(|_| worker.verdict(&asked))).await;
            allowed += all.iter().filter(|verdict| by_store(verdict)).count() as u64;
        }
        allowed
    });
    let seen = |server: &RedisServer| server.hash(KEY).get("tokens").and_then(|n| n.parse::<u64>().ok());
    eventually("much was spent", || async { seen(&set.servers[1]).is_some_and(|n| n < BURST - 5_000) }).await;
    let before = seen(&set.servers[0]).expect("the counter is there");
    eventually("the replica knows", || async { seen(&set.servers[1]).is_some_and(|n| n <= before) }).await;
    proxy.set(Weather::BlackHole);
    eventually("much more was spent", || async { seen(&set.servers[0]).is_some_and(|n| n < before - 5_000) }).await;
    set.servers[0].kill();
    stop.store(true, Ordering::Relaxed);
    let allowed = spends.await.expect("it ends");
    set.promote(1);
    let left = seen(&set.servers[1]).expect("the counter is there");
    let forgotten = left - (BURST - allowed);
    println!("{allowed} allowed, of which the failover forgot {forgotten}");
    assert!(left <= before && forgotten >= 4_000, "{left} left of {before}");
    world.recovered(&asks[0]).await;
    assert!(by_store(&world.verdict(&asks).await));
}
