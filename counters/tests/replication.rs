//! `replication`: the primary is found, and found again when it is another one.

use std::time::Duration;

use edgequota_policy::limit::FailurePolicy;

use crate::support::{
    asks::{ask, limit},
    eventually,
    server::RedisServer,
    topology::Replicated,
    traffic::Traffic,
    world::{World, by_store},
};

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
    traffic.decided().await;
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

/// Its writes succeed, so no error tells that it is a replica now: its `ROLE` does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_writes_is_left_when_the_role_is_looked_at_again() {
    let set = Replicated::start_with(&["--replica-read-only", "no"]).await;
    let world = World::new(set.settings()).await;
    let asks = [ask(limit("default", 10, FailurePolicy::FailClosed), "acme")];
    world.recovered(&asks[0]).await;
    set.promote(1);
    // Something makes it look, sooner than every thirty seconds.
    world.edit(|redis| redis.pool_size += 1);
    eventually("the new one counts", || async {
        world.verdict(&asks).await;
        set.servers[1].script_calls() > 0
    })
    .await;
}
