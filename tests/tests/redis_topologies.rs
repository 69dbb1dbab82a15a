//! A fleet and its control plane behind Sentinels and a cluster, while primaries die.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{
    Edgequota, Fleet, Origin, Redis, Sentinels, Shards, body, client::request, eventually, load::Load,
};

/// Detection, election and everybody's following.
const FAILOVER: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);

fn policy(origin: &Origin, limit: &str) -> String {
    let key = "key_strategy: { type: header, header_name: x-t }";
    format!("{}rate_limit: {{ average: 1, period: 1h, {limit}, {key} }}\n", origin.yaml(&[]))
}

/// How many of so many requests, spread over the data planes, pass.
async fn passed(fleet: &Fleet, tenant: &str, requests: usize) -> usize {
    let mut passed = 0;
    for n in 0..requests {
        let plane = &fleet.planes[n % fleet.planes.len()];
        passed += usize::from(plane.get("/", &[("x-t", tenant)]).await.status == 200);
    }
    passed
}

async fn healthy(plane: &Edgequota, wanted: f64, limit: Duration) {
    eventually(&format!("edgequota_redis_healthy is {wanted}"), limit, || async {
        (plane.metrics().await.get("edgequota_redis_healthy") == Some(wanted)).then_some(())
    })
    .await;
}

/// Requests of both data planes without an end; a refusal is one that the policy asks for.
fn load(fleet: &Fleet) -> Load {
    let targets: Vec<_> = fleet.planes.iter().map(Edgequota::proxy).collect();
    Load::start(
        &targets,
        4,
        |n| request("GET", "h", "/", &[("x-t", &format!("load{}", n % 40))], body::empty()),
        |_| Ok(()),
    )
}

#[tokio::test]
async fn a_fleet_behind_sentinels_counts_together_before_and_after_a_failover() {
    let origin = Origin::start().await;
    let mut set = Sentinels::start().await;
    let text = policy(&origin, "burst: 20, failure_policy: passThrough");
    let fleet = Fleet::start(2, &set.yaml(&["deadline: 1s"]), &text).await;
    assert_eq!(passed(&fleet, "before", 50).await, 20);
    let load = load(&fleet);
    set.servers[0].kill();
    for plane in fleet.planes.iter().chain([fleet.control()]) {
        healthy(plane, 0.0, SOON).await;
        assert!(plane.is_ready().await, "Redis away does not make it unready");
    }
    for plane in fleet.planes.iter().chain([fleet.control()]) {
        healthy(plane, 1.0, FAILOVER).await;
    }
    assert!(set.primary().await.is_some_and(|primary| primary != 0));
    // What passThrough let pass is not counted; from now on all is.
    assert_eq!(passed(&fleet, "after", 50).await, 20, "the limit is in force again, together");
    let report = load.stop().await;
    report.expect_only(&[200, 429]);
}

#[tokio::test]
async fn a_dead_shard_costs_only_its_own_subjects() {
    let origin = Origin::start().await;
    let mut set = Shards::start().await;
    let text = policy(&origin, "burst: 20, failure_policy: failClosed, failure_code: 503");
    let fleet = Fleet::start(2, &set.yaml(&["deadline: 1s"]), &text).await;
    let mut tenants: [Vec<String>; 3] = Default::default();
    for n in 0..60 {
        let tenant = format!("t{n}");
        tenants[set.home(&format!("rl:edgequota:{tenant}")).await].push(tenant);
    }
    for home in &tenants {
        assert_eq!(passed(&fleet, &home[0], 50).await, 20);
    }
    set.nodes[0].kill();
    eventually("its subjects are refused", SOON, || async {
        let answer = fleet.planes[0].get("/", &[("x-t", &tenants[0][1])]).await;
        (answer.status == 503).then_some(())
    })
    .await;
    assert_eq!(passed(&fleet, &tenants[1][1], 50).await, 20, "another shard goes on");
    for plane in fleet.planes.iter().chain([fleet.control()]) {
        healthy(plane, 1.0, FAILOVER).await;
    }
    assert_eq!(passed(&fleet, &tenants[0][2], 50).await, 20, "its replica counts");
    // The control plane sees the same counters.
    let shown = fleet.control().admin_json(&format!("/v1/counters/{}", tenants[0][2])).await;
    assert!(shown.to_string().contains("\"tokens\":0") || shown.to_string().contains("\"remaining\":0"), "{shown}");
}

#[tokio::test]
async fn settings_lead_a_running_process_from_one_topology_to_another() {
    let origin = Origin::start().await;
    let (single, shards) = (Redis::start().await, Shards::start().await);
    let limit =
        "rate_limit: { average: 1000000, burst: 1000000, period: 1s, failure_policy: failClosed, failure_code: 503 }\n";
    let yaml = |redis: String| format!("{redis}{}{limit}", origin.yaml(&[]));
    let eq = Edgequota::standalone().config(yaml(single.yaml(&["deadline: 2s"]))).ready().await;
    let load = Load::start(&[eq.proxy()], 4, |_| request("GET", "h", "/", &[], body::empty()), |_| Ok(()));
    let key = "rl:edgequota:127.0.0.1";
    eq.write_config(&yaml(shards.yaml(&["deadline: 2s"])));
    let home = &shards.nodes[shards.home(key).await];
    eventually("the cluster counts", SOON, || async { (home.ask::<u8>(&["EXISTS", key]).await? == 1).then_some(()) })
        .await;
    let _: Option<()> = single.ask(&["FLUSHALL"]).await;
    eq.write_config(&yaml(single.yaml(&["deadline: 2s", "pool_size: 4"])));
    eventually("the single server counts again", SOON, || async {
        (single.ask::<u8>(&["EXISTS", key]).await? == 1).then_some(())
    })
    .await;
    load.stop().await.expect_only(&[200]);
}
