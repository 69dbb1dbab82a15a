//! What networks and half-dead servers do: each request has its answer in time, and the store decides again by itself.

use std::time::Duration;

use edgequota_config::settings::Redis;
use edgequota_counters::store::Purpose;
use edgequota_policy::{GoDuration, limit::FailurePolicy};

use crate::support::{
    asks::{ask, limit},
    eventually, pause,
    proxy::{Proxy, Weather},
    server::RedisServer,
    traffic::Traffic,
    world::{World, settings},
};

const DEADLINE: Duration = Duration::from_millis(100);
/// What a loaded machine may add.
const LITTLE: Duration = Duration::from_millis(400);

/// Bad weather under load, and fair weather again.
async fn survives(weather: Weather) {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port).await;
    let mut set = settings(&server);
    set.endpoints = vec![format!("127.0.0.1:{}", proxy.port)];
    set.deadline = GoDuration::new(DEADLINE);
    set.dial_timeout = GoDuration::new(Duration::from_millis(500));
    set.read_timeout = GoDuration::new(Duration::from_millis(500));
    let world = World::new(set).await;
    world.recovered(&ask(limit("default", 10, FailurePolicy::FailClosed), "acme")).await;
    let traffic = Traffic::start(&world, &["acme", "b", "c", "d", "e"]);
    let passing = Traffic::under(&world, &["f", "g", "h"], FailurePolicy::PassThrough);
    let local = Traffic::under(&world, &["i", "j", "k"], FailurePolicy::InMemoryFallback);
    traffic.decided().await;
    let before = world.counters.stats();

    proxy.set(weather);
    eventually("it is known", || async { !world.counters.healthy() }).await;
    pause(1_000).await;
    let (errors, fallbacks, _) = world.counters.stats();
    assert!(errors > before.0 && fallbacks > before.1, "{weather:?}: {errors} errors, {fallbacks} fallbacks");

    proxy.set(Weather::Fair);
    traffic.decided().await;
    eventually("all is well", || async { world.counters.healthy() }).await;
    let clients = || server.text(&["CLIENT", "LIST"]).matches("name=edgequota-").count();
    eventually("there are as many connections as before", || async { clients() <= 2 }).await;
    for (policy, traffic) in [("failClosed", traffic), ("passThrough", passing), ("inMemoryFallback", local)] {
        let tally = traffic.end().await;
        assert!(tally.lost > 0 && tally.slowest < DEADLINE + LITTLE, "{weather:?}, {policy}: {tally:?}");
        println!("{weather:?}, {policy}: {tally:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_that_vanish() {
    survives(Weather::BlackHole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_which_only_our_half_is_left() {
    survives(Weather::HalfOpen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_come_in_pieces_and_stop() {
    survives(Weather::Partial).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_none() {
    survives(Weather::Garbage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_reset() {
    survives(Weather::Reset).await;
}

/// It may have been executed. A debit may be repeated, which costs tokens; what an administrator adds may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_addition_without_an_answer_is_not_repeated() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port).await;
    let world = World::new(Redis { endpoints: vec![format!("127.0.0.1:{}", proxy.port)], ..settings(&server) }).await;
    let asks = [ask(limit("default", 100, FailurePolicy::FailClosed), "acme")];
    world.recovered(&asks[0]).await;
    world.decider.adjust(&asks, Purpose::Set(10)).await.expect("redis answers");
    proxy.set(Weather::Cut);
    assert!(world.decider.adjust(&asks, Purpose::Add(20)).await.is_err());
    assert_eq!(server.hash("rl:edgequota:acme")["tokens"], "30");
}

/// Each answer comes later than anybody waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_come_late() {
    survives(Weather::Slow(Duration::from_millis(350))).await;
}
