//! Many data planes, and slow ones.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use edgequota_controlplane::fleet::Fleet;
use support::{Home, http, plane::*};

/// A policy of about 1 MiB in its canonical form, and one more edit of it.
fn large(average: u64) -> String {
    let mut text = support::policy(average);
    text.push_str("overrides:\n");
    for i in 0..20_000 {
        text.push_str(&format!("  - {{ keys: [tenant-{i:08}], average: {} }}\n", i % 997 + 1));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_data_planes_get_a_policy_of_one_mebibyte() {
    let mut home = Home::new();
    home.times = edgequota_controlplane::Times::default();
    home.write("policy.yaml", &large(10));
    let running = home.start().await;
    let served = running.average(10).await;
    let bytes = served["bytes"].as_u64().unwrap();
    assert!(bytes > 1 << 20, "{bytes}");
    let began = Instant::now();
    let address = running.grpc;
    let joining: Vec<_> = (0..500)
        .map(|i| {
            tokio::spawn(async move {
                let mut plane = Plane::join(address, &format!("plane-{i}"), None).await;
                let version = plane.accept_unread().await;
                (plane, version)
            })
        })
        .collect();
    let mut planes = Vec::new();
    for task in joining {
        planes.push(task.await.unwrap());
    }
    let fleet = support::eventually("all have acked", async || {
        let (_, fleet) = http::get(running.admin, "/v1/dataplanes").await;
        (fleet["in_step"] == 500).then_some(fleet)
    })
    .await;
    println!("500 data planes, {bytes} bytes: all acked after {:?}", began.elapsed());
    assert_eq!(fleet["connected"], 500);
    assert_eq!(running.metric("edgequota_policy_snapshots_sent_total "), Some(500.0));
    assert!(planes.iter().all(|(_, version)| *version == planes[0].1));
    // An unoptimised build on a busy machine; the target for a release build is 2 s.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_planes_that_do_not_read_delay_nobody() {
    let home = Home::new();
    home.write("policy.yaml", &large(10));
    let running = home.start().await;
    running.average(10).await;
    // More of them than may send at once.
    let mut deaf = Vec::new();
    for i in 0..100 {
        deaf.push(Plane::join(running.grpc, &format!("deaf-{i}"), None).await);
    }
    let mut quick = Plane::join(running.grpc, "quick", None).await;
    quick.accept_unread().await;
    home.write("policy.yaml", &large(20));
    running.average(20).await;
    let began = Instant::now();
    quick.accept_unread().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(deaf);
    running.stop().await;
}

#[test]
fn the_fleet_has_a_bound() {
    let fleet = Fleet::new(2);
    let peer = "127.0.0.1:1".parse().unwrap();
    let first = fleet.join(peer, false, false).unwrap();
    let _second = fleet.join(peer, false, false).unwrap();
    assert!(fleet.join(peer, false, false).is_none());
    drop(first);
    assert!(fleet.join(peer, false, false).is_some());
}
