//! The one suite: what counting does alike in every topology, on real servers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use edgequota_config::settings::{Redis, RedisMode};
use edgequota_counters::{Refusal, Verdict, store::Purpose};
use edgequota_policy::limit::FailurePolicy;

use crate::support::{
    asks::{Rule, ask, limit},
    eventually, pause,
    server::RedisServer,
    topology::{Replicated, Sharded, Watched},
    traffic::Traffic,
    worker::Worker,
    world::{World, by_store, settings},
};

fn strict(name: &'static str, burst: u64) -> Rule {
    limit(name, burst, FailurePolicy::FailClosed)
}

/// Servers that stand together, and how they are reached.
enum Stand {
    Single(RedisServer),
    Replicated(Replicated),
    Watched(Watched),
    Sharded(Sharded),
}

impl Stand {
    fn settings(&self) -> Redis {
        match self {
            Stand::Single(server) => settings(server),
            Stand::Replicated(set) => set.settings(),
            Stand::Watched(stand) => stand.settings(),
            Stand::Sharded(cluster) => cluster.settings(),
        }
    }

    fn servers(&self) -> &[RedisServer] {
        match self {
            Stand::Single(server) => std::slice::from_ref(server),
            Stand::Replicated(set) => &set.servers,
            Stand::Watched(stand) => &stand.set.servers,
            Stand::Sharded(cluster) => &cluster.nodes,
        }
    }
}

async fn counts_alike(stand: &Stand) {
    let world = World::new(stand.settings()).await;
    for subject in ["a", "b", "c", "d", "e", "f"] {
        world.recovered(&ask(strict("default", 10), subject)).await;
    }
    empties_and_refuses(&world).await;
    all_or_none(&world).await;
    one_call_for_many(&world).await;
    leases(&world).await;
    changed_by_hand(&world).await;
    shared_by_all_processes(&world, stand).await;
    within_its_connections(&world, stand).await;
    assert!(world.counters.healthy() && world.counters.ping().await);
    let (_, fallbacks, _) = world.counters.stats();
    assert_eq!(fallbacks, 0, "every decision was the store's");
}

async fn empties_and_refuses(world: &World) {
    for subject in ["a", "b", "c"] {
        let asks = [ask(strict("default", 3), subject)];
        for left in [2, 1, 0] {
            let decision = world.worker.spend(&asks).await;
            assert!(by_store(&decision.verdict), "{decision:?}");
            assert_eq!(decision.limits[0].remaining, Some(left));
        }
        let Verdict::Refused(Refusal::Limited { retry_after, .. }) = world.verdict(&asks).await else {
            panic!("passed")
        };
        assert!(retry_after > Duration::from_secs(1190) && retry_after <= Duration::from_secs(1200), "{retry_after:?}");
    }
}

async fn all_or_none(world: &World) {
    let asks = [ask(strict("wide", 10), "d"), ask(strict("narrow", 2), "d"), ask(strict("other", 5), "e")];
    for wanted in [true, true, false, false] {
        assert_eq!(by_store(&world.verdict(&asks).await), wanted);
    }
    eventually("a refusal takes nothing, or gives it back", || async {
        let looked = world.decider.look(&asks).await;
        let left: Vec<_> = looked.limits.iter().map(|limit| limit.remaining).collect();
        left == [Some(8), Some(0), Some(3)]
    })
    .await;
}

async fn one_call_for_many(world: &World) {
    let asks = [ask(strict("default", 40), "crowd")];
    let all = futures_util::future::join_all((0..100).map(|_| world.verdict(&asks))).await;
    assert_eq!(all.iter().filter(|verdict| by_store(verdict)).count(), 40);
}

async fn leases(world: &World) {
    let rule = Rule { leased: true, average: 20_000, period: "40000h", ..strict("default", 20_000) };
    let asks = [ask(rule, "hot")];
    let mut allowed = 0;
    for _ in 0..4_000 {
        allowed += u64::from(by_store(&world.verdict(&asks).await));
    }
    assert_eq!(allowed, 4_000);
    assert!(world.metric("edgequota_decided_by_lease_total") > 1_000.0);
    eventually("what was leased comes back", || async {
        world.decider.look(&asks).await.limits[0].remaining == Some(20_000 - allowed)
    })
    .await;
}

async fn changed_by_hand(world: &World) {
    let asks = [ask(strict("default", 3), "a"), ask(strict("second", 9), "b")];
    let replies = world.decider.adjust(&asks, Purpose::Reset).await.expect("redis answers");
    assert_eq!(replies.counters.iter().map(|reply| reply.tokens).collect::<Vec<_>>(), [3, 9]);
    world.counters.changed("rl:edgequota:a");
    assert!(by_store(&world.verdict(&asks[..1]).await));
}

async fn shared_by_all_processes(world: &World, stand: &Stand) {
    let other = World::new(stand.settings()).await;
    let asks = [ask(strict("default", 60), "shared")];
    other.recovered(&asks[0]).await;
    let all = |world: &World| {
        let (worker, asks) = (Arc::clone(&world.worker), asks.clone());
        tokio::spawn(async move {
            let mut allowed = 0;
            for _ in 0..100 {
                allowed += usize::from(by_store(&worker.verdict(&asks).await));
            }
            allowed
        })
    };
    let (one, two) = (all(world), all(&other));
    assert_eq!(one.await.expect("it ends") + two.await.expect("it ends"), 60);
}

/// Connections of ours, by the server's own list; its name tells whose they are.
fn connections(server: &RedisServer, name: &str) -> usize {
    let list = server.text(&["CLIENT", "LIST"]);
    list.lines().filter(|line| line.contains(&format!("name=edgequota-{name} "))).count()
}

async fn within_its_connections(world: &World, stand: &Stand) {
    let pool = world.settings.borrow().pool_size;
    // More workers than there may be connections: they share.
    let workers: Vec<Worker> = (1..2 * pool).map(|index| Worker::start(&world.counters, index)).collect();
    for (n, worker) in workers.iter().enumerate() {
        let asks = [ask(strict("default", 100), &format!("w{n}"))];
        eventually("a worker counts", || async { by_store(&worker.verdict(&asks).await) }).await;
    }
    let most: HashMap<u16, usize> =
        stand.servers().iter().map(|server| (server.port, connections(server, "test-node"))).collect();
    assert!(most.values().all(|connections| *connections <= pool), "{most:?}");
    assert!(
        most.values().any(|connections| *connections == pool),
        "each worker has its own while there are enough: {most:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single() {
    counts_alike(&Stand::Single(RedisServer::start())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replication() {
    counts_alike(&Stand::Replicated(Replicated::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel() {
    counts_alike(&Stand::Watched(Watched::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster() {
    counts_alike(&Stand::Sharded(Sharded::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_lead_from_one_topology_to_another_without_a_lost_request() {
    let (single, replicated) = (RedisServer::start(), Replicated::start().await);
    let (watched, sharded) = (Watched::start().await, Sharded::start().await);
    let world = World::new(settings(&single)).await;
    world.recovered(&ask(strict("default", 10), "acme")).await;
    let traffic = Traffic::start(&world, &["acme", "b", "c", "d"]);
    traffic.decided().await;
    let calls = |servers: &[RedisServer]| servers.iter().map(RedisServer::script_calls).sum::<u64>();
    let stands: [(Redis, &[RedisServer]); 5] = [
        (sharded.settings(), &sharded.nodes),
        (replicated.settings(), &replicated.servers),
        (watched.settings(), &watched.set.servers),
        (sharded.settings(), &sharded.nodes),
        (settings(&single), std::slice::from_ref(&single)),
    ];
    for (next, servers) in stands {
        let before = calls(servers);
        world.edit(|redis| *redis = next);
        eventually("the new servers count", || async { calls(servers) > before + 200 }).await;
        traffic.decided().await;
    }
    // What leads nowhere changes nothing, and does not stand in the way of what comes after it.
    let nowhere = || vec!["127.0.0.1:1".to_owned()];
    world.edit(|redis| (redis.mode, redis.endpoints) = (RedisMode::Cluster, nowhere()));
    traffic.decided().await;
    pause(1_000).await;
    world.edit(|redis| (redis.mode, redis.pool_size) = (RedisMode::Single, 4));
    traffic.decided().await;
    pause(1_000).await;
    world.edit(|redis| *redis = settings(&single));
    traffic.decided().await;
    world.edit(|redis| redis.pool_size = 5);
    eventually("more connections may be made", || async { world.counters.healthy() }).await;
    traffic.decided().await;
    pause(200).await;
    let tally = traffic.end().await;
    assert_eq!(tally.lost, 0, "{tally:?}");
    eventually("the old connections end", || async {
        replicated.servers.iter().chain(&watched.set.servers).all(|server| connections(server, "test-node") == 0)
    })
    .await;
}
