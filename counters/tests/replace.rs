//! Connections are replaced without a lost decision.

use std::time::Duration;

use edgequota_counters::{Refusal, Verdict};
use edgequota_policy::{GoDuration, limit::FailurePolicy};
use secrecy::SecretString;

use crate::{
    support::{
        asks::{Rule, ask, limit},
        eventually,
        server::RedisServer,
        traffic::Traffic,
        worker::Worker,
        world::{World, by_store, settings},
    },
    trouble::{client_ids, our_ids},
};

fn strict(burst: u64) -> Rule {
    limit("default", burst, FailurePolicy::FailClosed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_settings_move_to_a_new_server_without_a_lost_call() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let world = World::with(&first).await;
    let traffic = Traffic::start(&world, &["acme"]);
    traffic.some().await;
    world.edit(|redis| redis.endpoints = vec![second.address()]);
    eventually("the new server counts", || async { second.int(&["EXISTS", "rl:edgequota:acme"]) == 1 }).await;
    eventually("the old connections end", || async { client_ids(&first).is_empty() }).await;
    traffic.some().await;
    let tally = traffic.end().await;
    assert_eq!(tally.lost, 0, "of {}", tally.all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_lead_nowhere_keep_the_old_connection() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let traffic = Traffic::start(&world, &["acme"]);
    world.edit(|redis| redis.endpoints = vec!["127.0.0.1:1".to_owned()]);
    eventually("the new address was tried", || async { world.counters.stats().0 > 0 }).await;
    traffic.some().await;
    let tally = traffic.end().await;
    assert_eq!(tally.lost, 0, "of {}", tally.all);
}

#[tokio::test]
async fn an_old_connection_is_watched_while_new_settings_lead_nowhere() {
    let server = RedisServer::start();
    let mut set = settings(&server);
    set.deadline = GoDuration::new(Duration::from_millis(50));
    let world = World::new(set).await;
    let asks = [ask(strict(1_000_000), "acme")];
    world.recovered(&asks[0]).await;
    world.edit(|redis| redis.endpoints = vec!["127.0.0.1:1".to_owned()]);
    eventually("the new address was tried", || async { world.counters.stats().0 > 0 }).await;
    server.freeze();
    futures_util::future::join_all((0..5).map(|_| world.worker.spend(&asks))).await;
    assert!(!world.counters.healthy());
    server.thaw();
    world.recovered(&asks[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_one_connection_is_covered_by_another() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let traffic = Traffic::start(&world, &["acme"]);
    for _ in 0..5 {
        traffic.some().await;
        let ids = client_ids(&server);
        let id = ids.first().and_then(|id| id.strip_prefix("id=")).expect("a connection").to_owned();
        server.run(&["CLIENT", "KILL", "ID", &id]);
        eventually("a new one is made", || async { client_ids(&server).len() == ids.len() }).await;
    }
    let tally = traffic.end().await;
    assert_eq!(tally.lost, 0, "of {}", tally.all);
}

#[tokio::test]
async fn an_idle_connection_that_ends_is_made_anew() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let before = client_ids(&server);
    server.run(&["CLIENT", "KILL", "TYPE", "normal"]);
    eventually("new connections", || async {
        let now = client_ids(&server);
        now.len() == before.len() && now.iter().all(|id| !before.contains(id))
    })
    .await;
    assert!(by_store(&world.verdict(&[ask(strict(5), "acme")]).await));
}

#[tokio::test]
async fn a_password_is_rotated_by_its_file() {
    let server = RedisServer::start_with(&["--requirepass", "first"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "first\n").expect("written");
    let mut set = settings(&server);
    set.password_file = file.to_string_lossy().into_owned();
    let world = World::new(set).await;
    let asks = [ask(strict(1000), "acme")];
    assert!(by_store(&world.verdict(&asks).await));
    let mut admin = server.client_with("first");
    let mut run =
        |words: &[&str]| redis::cmd(words[0]).arg(&words[1..]).query::<redis::Value>(&mut admin).expect("done");
    run(&["CONFIG", "SET", "requirepass", "second"]);
    std::fs::write(&file, "second\n").expect("written");
    run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    eventually("connected with the new password", || async { by_store(&world.verdict(&asks).await) }).await;
    assert!(by_store(&world.verdict(&asks).await));
}

#[tokio::test]
async fn a_changed_password_file_alone_makes_new_connections() {
    let server = RedisServer::start_with(&["--requirepass", "first"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "first").expect("written");
    let mut set = settings(&server);
    set.password_file = file.to_string_lossy().into_owned();
    let world = World::new(set).await;
    let mut admin = server.client_with("first");
    // Both are valid while the secret is rolled out.
    let command = redis::cmd("ACL").arg(&["SETUSER", "default", ">second"]).exec(&mut admin);
    command.expect("done");
    let mut ids = || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut admin).expect("text");
        our_ids(&clients)
    };
    let before = ids();
    assert_eq!(before.len(), 2);
    std::fs::write(&file, "second").expect("written");
    let traffic = Traffic::start(&world, &["acme"]);
    eventually("new connections", || {
        let now = ids();
        std::future::ready(now.len() == 2 && now.iter().all(|id| !before.contains(id)))
    })
    .await;
    let tally = traffic.end().await;
    assert_eq!(tally.lost, 0, "of {}", tally.all);
}

#[tokio::test]
async fn a_wrong_password_is_no_connection_and_is_not_shown() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let mut set = settings(&server);
    set.password = SecretString::from("wr0ng-s3cret");
    let world = World::new(set).await;
    let verdict = world.verdict(&[ask(strict(5), "acme")]).await;
    assert_eq!(verdict, Verdict::Refused(Refusal::Unavailable { code: 503 }));
    assert!(!format!("{:?}", world.counters).contains("wr0ng"));
    world.edit(|redis| redis.password = SecretString::from("right"));
    world.recovered(&ask(strict(5), "acme")).await;
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_left_and_found_again() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict(1000), "acme")];
    assert!(by_store(&world.verdict(&asks).await));
    server.run(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(world.verdict(&asks).await, Verdict::Refused(Refusal::Unavailable { code: 503 }));
    assert!(world.counters.stats().2 > 0, "readonly_retries");
    for _ in 0..200 {
        world.verdict(&asks).await;
    }
    let connects = connections_received(&server);
    for _ in 0..200 {
        world.verdict(&asks).await;
    }
    assert!(connections_received(&server) < connects + 20, "no tight loop of connects");
    server.run(&["REPLICAOF", "NO", "ONE"]);
    eventually("writable again", || async { by_store(&world.verdict(&asks).await) }).await;
}

#[tokio::test]
async fn a_replica_without_its_primary_is_left_too() {
    let server = RedisServer::start_with(&["--replica-serve-stale-data", "no"]);
    let world = World::with(&server).await;
    let asks = [ask(strict(1000), "acme")];
    server.run(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(world.verdict(&asks).await, Verdict::Refused(Refusal::Unavailable { code: 503 }));
    eventually("MASTERDOWN is noticed", || async {
        assert!(!by_store(&world.verdict(&asks).await));
        !world.counters.healthy()
    })
    .await;
    server.run(&["REPLICAOF", "NO", "ONE"]);
    eventually("it counts again", || async { by_store(&world.verdict(&asks).await) }).await;
}

fn connections_received(server: &RedisServer) -> u64 {
    let info: String = redis::from_redis_value(server.run(&["INFO", "stats"])).expect("text");
    let line = info.lines().find_map(|l| l.strip_prefix("total_connections_received:")).expect("a number");
    line.trim().parse().expect("a number")
}

#[tokio::test]
async fn connections_end_with_the_counting() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    assert!(!client_ids(&server).is_empty());
    drop(world);
    eventually("no connection is left", || async { client_ids(&server).is_empty() }).await;
}

#[tokio::test]
async fn a_worker_that_ends_leaves_its_requests_to_the_others() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict(100), "acme")];
    let another = Worker::start(&world.counters, 1);
    world.counters.tried().await;
    assert!(by_store(&another.verdict(&asks).await));
    drop(another);
    assert!(by_store(&world.verdict(&asks).await));
    // Its place is free for another.
    let another = Worker::start(&world.counters, 1);
    assert!(by_store(&another.verdict(&asks).await));
}
