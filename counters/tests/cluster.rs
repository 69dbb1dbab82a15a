//! `cluster`: each subject's counters on the node that has their slot, wherever that is.

use std::time::Duration;

use edgequota_counters::{Ask, Refusal, Verdict};
use edgequota_policy::{GoDuration, limit::FailurePolicy};

use crate::support::{
    asks::{Rule, ask, limit},
    at_last, eventually, pause,
    server::RedisServer,
    topology::Sharded,
    traffic::Traffic,
    world::{World, by_store},
};

fn strict(name: &'static str, burst: u64) -> Rule {
    limit(name, burst, FailurePolicy::FailClosed)
}

fn key(subject: &str) -> String {
    format!("rl:edgequota:{subject}")
}

/// A subject whose counters are on that node.
fn subject_of(cluster: &Sharded, node: usize) -> String {
    let subject = (0..1000).map(|n| format!("s{n}")).find(|subject| cluster.home(&key(subject)) == node);
    subject.expect("of a thousand subjects, some are there")
}

fn subjects(cluster: &Sharded) -> [String; 3] {
    [0, 1, 2].map(|node| subject_of(cluster, node))
}

/// Tokens of a counter on the node that has it.
fn tokens(node: &RedisServer, key: &str) -> Option<u64> {
    node.hash(key).get("tokens").map(|tokens| tokens.parse().expect("a number"))
}

async fn world(cluster: &Sharded) -> World {
    let world = World::new(cluster.settings()).await;
    for subject in subjects(cluster) {
        world.recovered(&ask(strict("default", 10), &subject)).await;
    }
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_subject_is_counted_where_its_slot_is() {
    let cluster = Sharded::start().await;
    let world = world(&cluster).await;
    for (node, subject) in subjects(&cluster).iter().enumerate() {
        // Two limits of one subject share the slot: one call.
        let asks = [ask(strict("default", 3), subject), ask(strict("second", 5), subject)];
        let before = cluster.nodes[node].script_calls();
        for wanted in [true, true, true, false] {
            assert_eq!(by_store(&world.verdict(&asks).await), wanted);
        }
        let calls = cluster.nodes[node].script_calls() - before;
        assert!((3..=4).contains(&calls), "{calls} calls for three requests and a refusal");
        assert_eq!(tokens(&cluster.nodes[node], &key(subject)), Some(0));
        assert_eq!(tokens(&cluster.nodes[node], &format!("{{{}}}:second", key(subject))), Some(2));
    }
    assert!(world.counters.healthy() && world.counters.ping().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_several_subjects_pass_all_or_none_and_a_refusal_gives_back() {
    let cluster = Sharded::start().await;
    let world = world(&cluster).await;
    let [a, b, c] = subjects(&cluster);
    let asks = [ask(strict("default", 10), &a), ask(strict("second", 2), &b), ask(strict("third", 10), &c)];
    for _ in 0..2 {
        assert!(by_store(&world.verdict(&asks).await));
    }
    let refused = world.worker.spend(&asks).await;
    let Verdict::Refused(Refusal::Limited { limit: 1, .. }) = refused.verdict else { panic!("{refused:?}") };
    // A single refusal may still be remembered by its counter alone; the store is asked again when it is forgotten.
    pause(1100).await;
    assert!(!by_store(&world.verdict(&asks).await));
    eventually("what the others took came back", || async {
        tokens(&cluster.nodes[0], &key(&a)) == Some(8)
            && tokens(&cluster.nodes[2], &format!("{{{}}}:third", key(&c))) == Some(8)
    })
    .await;
    assert_eq!(tokens(&cluster.nodes[1], &format!("{{{}}}:second", key(&b))), Some(0));
    // Many at once are coalesced, and together get what the smallest has.
    let asks = [ask(strict("default", 100), "p"), ask(strict("second", 30), "q"), ask(strict("third", 100), "r")];
    let all = futures_util::future::join_all((0..60).map(|_| world.verdict(&asks))).await;
    assert_eq!(all.iter().filter(|verdict| by_store(verdict)).count(), 30);
    let left = |asks: &Ask| {
        let ask = asks.clone();
        async { world.decider.look(&[ask]).await.limits[0].remaining }
    };
    eventually("what is left is what was not used", || async {
        left(&asks[0]).await == Some(70) && left(&asks[1]).await == Some(0) && left(&asks[2]).await == Some(70)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leased_limits_are_leased_from_their_nodes() {
    let cluster = Sharded::start().await;
    let world = world(&cluster).await;
    let leased = Rule { leased: true, average: 1_000_000, period: "1s", ..strict("default", 1_000_000) };
    let asks = subjects(&cluster).map(|subject| [ask(leased, &subject)]);
    let calls = || cluster.nodes.iter().map(RedisServer::script_calls).sum::<u64>();
    let before = calls();
    let mut all = 0;
    for _ in 0..3000 {
        for ask in &asks {
            assert!(by_store(&world.verdict(ask).await));
            all += 1;
        }
    }
    assert!((calls() - before) * 10 < all, "{} calls for {all}", calls() - before);
    world.worker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_primary_costs_its_own_subjects_until_its_replica_takes_over() {
    let mut cluster = Sharded::start().await;
    let world = world(&cluster).await;
    let names = subjects(&cluster);
    let dying = Traffic::start(&world, &[&names[0]]);
    let others = Traffic::start(&world, &[&names[1], &names[2]]);
    dying.decided().await;
    cluster.nodes[0].kill();
    eventually("it is known", || async { !world.counters.healthy() }).await;
    others.decided().await;
    dying.decided().await;
    at_last("all is well", || async { world.counters.healthy() }).await;
    assert!(cluster.nodes[3].script_calls() > 0, "the replica counts");
    let (dying, others) = (dying.end().await, others.end().await);
    assert!(dying.lost > 0 && dying.slowest < Duration::from_millis(1500), "{dying:?}");
    assert!(others.slowest < Duration::from_millis(1500), "{others:?}");
    println!("a dead shard: {dying:?}, the others: {others:?}");
}

/// Who has as many connections as there may be still learns who has which slots.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_map_is_followed_without_room_for_another_connection() {
    let mut cluster = Sharded::start_with(&["--cluster-require-full-coverage", "no"]).await;
    let mut set = cluster.settings();
    set.pool_size = 2;
    // Replicas, to which there is no connection, are not named.
    set.endpoints.truncate(3);
    let world = World::new(set).await;
    let names = subjects(&cluster);
    for subject in &names {
        world.recovered(&ask(strict("default", 10), subject)).await;
    }
    // Everybody is asked anew.
    world.edit(|redis| redis.deadline = GoDuration::new(Duration::from_millis(900)));
    let traffic = Traffic::start(&world, &names.each_ref().map(String::as_str));
    traffic.decided().await;
    cluster.nodes[0].kill();
    at_last("its replica counts", || async { cluster.nodes[3].script_calls() > 0 && world.counters.healthy() }).await;
    traffic.decided().await;
    traffic.end().await;
}

/// Silence of one opens no other's breaker, and costs nobody else anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_costs_the_others_nothing() {
    let cluster = Sharded::start_with(&["--cluster-require-full-coverage", "no"]).await;
    let mut set = cluster.settings();
    set.deadline = GoDuration::new(Duration::from_millis(200));
    let world = World::new(set).await;
    let names = subjects(&cluster);
    for subject in &names {
        world.recovered(&ask(strict("default", 10), subject)).await;
    }
    let frozen = Traffic::start(&world, &[names[0].as_str(); 4]);
    let others = Traffic::start(&world, &[&names[1], &names[2]]);
    frozen.decided().await;
    cluster.nodes[0].freeze();
    eventually("it is known", || async { !world.counters.healthy() }).await;
    others.decided().await;
    // Its replica takes over; what thaws is not believed any more.
    frozen.decided().await;
    cluster.nodes[0].thaw();
    at_last("all is well", || async { world.counters.healthy() }).await;
    let (frozen, others) = (frozen.end().await, others.end().await);
    assert!(frozen.lost > 0 && frozen.slowest < Duration::from_millis(600), "{frozen:?}");
    assert_eq!(others.lost, 0, "{others:?}");
    println!("a frozen shard: {frozen:?}, the others: {others:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_at_another_address_is_found() {
    let mut cluster =
        Sharded::start_with(&["--cluster-replica-no-failover", "yes", "--cluster-require-full-coverage", "no"]).await;
    let world = world(&cluster).await;
    let names = subjects(&cluster);
    let traffic = Traffic::start(&world, &[&names[1]]);
    traffic.decided().await;
    cluster.nodes[1].move_away();
    at_last("its new address counts", || async { cluster.nodes[1].script_calls() > 0 && world.counters.healthy() })
        .await;
    traffic.decided().await;
    println!("a node at another address: {:?}", traffic.end().await);
}

/// Moves slots with all their keys while requests go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_load_without_a_lost_request() {
    let cluster = Sharded::start().await;
    let world = world(&cluster).await;
    let moving: Vec<String> =
        (0..2000).map(|n| format!("m{n}")).filter(|s| cluster.home(&key(s)) == 0).take(12).collect();
    let traffic = Traffic::start(&world, &moving.iter().map(String::as_str).collect::<Vec<_>>());
    traffic.decided().await;
    let (from, to) = (&cluster.nodes[0], &cluster.nodes[1]);
    let (from_id, to_id) = (cluster.id(0), cluster.id(1));
    for subject in &moving {
        let slot = from.int(&["CLUSTER", "KEYSLOT", &key(subject)]).to_string();
        to.run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        from.run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        // Two limits of a subject, one of which is only now used: its keys are apart.
        let asks = [ask(strict("default", 100_000_000), subject), ask(strict("second", 100), subject)];
        assert!(by_store(&world.verdict(&asks).await), "while its slot moves");
        traffic.some().await;
        let keys: Vec<String> =
            redis::from_redis_value(from.run(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])).expect("keys");
        for key in keys {
            from.run(&["MIGRATE", "127.0.0.1", &to.port.to_string(), &key, "0", "5000"]);
            traffic.some().await;
        }
        assert!(by_store(&world.verdict(&asks).await), "when its keys are there");
        for node in [to, from, &cluster.nodes[2]] {
            node.run(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
        traffic.some().await;
    }
    traffic.decided().await;
    let tally = traffic.end().await;
    assert_eq!(tally.lost, 0, "{tally:?}");
    for subject in &moving {
        assert!(tokens(to, &key(subject)).is_some(), "its counter moved");
    }
    println!("twelve slots moved: {tally:?}");
}
