//! The stream between the planes, seen from data planes that are raw gRPC clients.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use edgequota_proto::control::{Heartbeat, from_data_plane::Message, nack::Class};
use support::{Home, eventually, http, plane::*, policy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_reaches_a_data_plane_and_the_ack_comes_back() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    let first = plane.take().await;
    assert_eq!(first.spec.rate_limit.average, 10);
    home.write("policy.yaml", &policy(20));
    let second = plane.take().await;
    assert_eq!(second.spec.rate_limit.average, 20);
    assert!(second.version.generation > first.version.generation);
    let fleet = eventually("the ack is seen", async || {
        let (_, fleet) = http::get(running.admin, "/v1/dataplanes").await;
        (fleet["in_step"] == 1).then_some(fleet)
    })
    .await;
    let entry = &fleet["dataplanes"][0];
    assert_eq!(
        (&entry["node"], &entry["workers"], &entry["source"]),
        (&"a".into(), &2.into(), &"control_plane".into())
    );
    assert_eq!(entry["accepted"], fleet["policy"]);
    assert_eq!(running.metric("edgequota_dataplanes_accepted "), Some(1.0));
    assert_eq!(running.metric("edgequota_policy_snapshots_sent_total "), Some(2.0));
    running.stop().await;
}

#[tokio::test]
async fn an_edit_that_changes_nothing_is_not_published() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    let version = plane.take().await.version;
    home.write("policy.yaml", &format!("# a comment\n{}", policy(10)));
    assert!(plane.within(Duration::from_millis(600)).await.is_empty());
    assert_eq!(running.average(10).await["generation"], version.generation);
    running.stop().await;
}

#[tokio::test]
async fn an_equal_hash_gets_a_relabel_and_no_snapshot() {
    let home = Home::with(10);
    let running = home.start().await;
    let served = Plane::join(running.grpc, "a", None).await.take().await.version;
    let older = edgequota_policy::Version { generation: 5, hash: served.hash };
    let mut plane = Plane::join(running.grpc, "b", Some((older, "state_dir"))).await;
    assert_eq!(plane.relabel().await, served);
    plane.ack(served).await;
    assert!(plane.within(Duration::from_millis(200)).await.is_empty());
    assert_eq!(plane.snapshots, 0);
    running.stop().await;
}

#[tokio::test]
async fn the_same_content_under_a_larger_generation_keeps_that_and_all_are_told() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut first = Plane::join(running.grpc, "a", None).await;
    let served = first.take().await.version;
    let larger = edgequota_policy::Version { generation: served.generation + 1_000_000, hash: served.hash };
    let mut plane = Plane::join(running.grpc, "b", Some((larger, "control_plane"))).await;
    assert_eq!(plane.relabel().await, larger);
    assert_eq!(first.relabel().await, larger);
    assert_eq!(running.average(10).await["generation"], larger.generation);
    running.stop().await;
}

#[tokio::test]
async fn a_newer_policy_of_another_control_plane_is_left_alone_for_a_while_and_then_overruled() {
    let home = Home::with(10);
    let running = home.start().await;
    let served = running.average(10).await["generation"].as_u64().unwrap();
    let held = version(served + 1_000_000, &bytes(77));
    let mut plane = Plane::join(running.grpc, "b", Some((held, "control_plane"))).await;
    assert!(plane.within(Duration::from_millis(200)).await.is_empty(), "nothing is pushed at once");
    let got = plane.take().await;
    assert_eq!(got.spec.rate_limit.average, 10);
    assert!(got.version.generation > held.generation);
    running.stop().await;
}

#[tokio::test]
async fn at_most_one_snapshot_is_unanswered_and_then_the_newest_comes() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    let first = plane.snapshot().await;
    for average in [20, 30, 40] {
        home.write("policy.yaml", &policy(average));
        running.average(average).await;
    }
    assert!(plane.within(Duration::from_millis(200)).await.is_empty());
    plane.ack(first.version).await;
    assert_eq!(plane.take().await.spec.rate_limit.average, 40);
    assert!(plane.within(Duration::from_millis(200)).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn what_is_unsupported_is_not_sent_again_until_a_new_hello() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    let first = plane.snapshot().await.version;
    plane.nack(first, Class::Unsupported, "unknown field `new`").await;
    assert!(plane.within(Duration::from_millis(700)).await.is_empty());
    let (_, fleet) = http::get(running.admin, "/v1/dataplanes").await;
    let rejected = &fleet["dataplanes"][0]["rejected"];
    assert_eq!(rejected["class"], "unsupported");
    assert_eq!(rejected["reason"], "unknown field `new`");
    assert_eq!(rejected["path"], "routes[0]");
    assert_eq!(running.metric("edgequota_policy_nacks_total{class=\"unsupported\"} "), Some(1.0));
    plane.hello(None).await;
    assert_eq!(plane.snapshot().await.version, first);
    plane.nack(first, Class::Unsupported, "still").await;
    home.write("policy.yaml", &policy(20));
    assert_eq!(plane.take().await.spec.rate_limit.average, 20, "other content is sent");
    running.stop().await;
}

#[tokio::test]
async fn what_failed_for_a_local_reason_is_sent_again_with_growing_pauses() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    let mut version = plane.snapshot().await.version;
    let mut pauses = Vec::new();
    for _ in 0..4 {
        plane.nack(version, Class::Local, "no memory").await;
        let asked = std::time::Instant::now();
        version = plane.snapshot().await.version;
        pauses.push(asked.elapsed());
    }
    // 150, 300, 600, 600 ms.
    for (pause, least) in pauses.iter().zip([145, 295, 595, 595]) {
        assert!(*pause >= Duration::from_millis(least), "{pauses:?}");
    }
    plane.ack(version).await;
    eventually("the refusal is forgotten", async || {
        let (_, fleet) = http::get(running.admin, "/v1/dataplanes").await;
        (fleet["in_step"] == 1 && fleet["dataplanes"][0]["rejected"].is_null()).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_silent_data_plane_is_dead() {
    let mut home = Home::with(10);
    home.times.dead = Duration::from_millis(400);
    let running = home.start().await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    plane.take().await;
    eventually("it is in the fleet", async || {
        (http::get(running.admin, "/v1/dataplanes").await.1["connected"] == 1).then_some(())
    })
    .await;
    // It says nothing and reads nothing.
    eventually("it is out of the fleet", async || {
        (http::get(running.admin, "/v1/dataplanes").await.1["connected"] == 0).then_some(())
    })
    .await;
    let end = loop {
        if let Err(status) = plane.next().await {
            break status;
        }
    };
    assert_eq!(end.code(), tonic::Code::DeadlineExceeded, "{end}");
    running.stop().await;
}

#[tokio::test]
async fn a_stream_must_begin_with_a_hello_and_soon() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut rude = Plane::silent(channel(running.grpc).await, "a", None).await.unwrap();
    rude.say(Message::Heartbeat(Heartbeat {})).await;
    assert_eq!(rude.next().await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let mut shy = Plane::silent(channel(running.grpc).await, "b", None).await.unwrap();
    let end = async {
        loop {
            // Reading alone is no word.
            if let Err(status) = shy.next_quietly().await {
                break status;
            }
        }
    };
    assert_eq!(end.await.code(), tonic::Code::DeadlineExceeded);
    running.stop().await;
}

#[tokio::test]
async fn the_newer_stream_of_a_process_ends_the_older() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut older = Plane::join(running.grpc, "a", None).await;
    older.take().await;
    let mut newer = Plane::join(running.grpc, "a", None).await;
    newer.take().await;
    assert_eq!(older.next().await.unwrap_err().code(), tonic::Code::Aborted);
    assert_eq!(http::get(running.admin, "/v1/dataplanes").await.1["connected"], 1);
    running.stop().await;
}

#[tokio::test]
async fn a_draining_control_plane_pushes_nothing() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    plane.take().await;
    running.shutdown.advance(edgequota_ops::shutdown::Stage::Leaving);
    home.write("policy.yaml", &policy(20));
    assert!(plane.within(Duration::from_millis(500)).await.is_empty());
    let mut late = Plane::join(running.grpc, "b", None).await;
    assert!(late.within(Duration::from_millis(300)).await.is_empty());
    running.stop().await;
    assert_eq!(plane.next().await.unwrap_err().code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn the_fleet_size_is_told_when_it_grows_at_once_and_when_it_shrinks_late() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut first = Plane::join(running.grpc, "a", None).await;
    let told = first.fleet().await;
    assert_eq!((told.planes, told.workers), (1, 2));
    let second = Plane::join(running.grpc, "b", None).await;
    assert_eq!(first.fleet().await.planes, 2);
    let left = std::time::Instant::now();
    drop(second);
    assert_eq!(first.fleet().await.planes, 1);
    assert!(left.elapsed() >= Duration::from_millis(450), "{:?}", left.elapsed());
    running.stop().await;
}

#[tokio::test]
async fn a_bad_edit_leaves_the_last_good_policy_and_is_visible() {
    let home = Home::with(10);
    let running = home.start().await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    plane.take().await;
    home.write("policy.yaml", "backend: { url: \"http://b:1\" }\nrate_limit: { average: -1, bursst: 3 }\n");
    let policy_now = running.serving(|p| !p["files_refused"].is_null()).await;
    assert_eq!(policy_now["policy"]["rate_limit"]["average"], 10);
    let problems = policy_now["files_refused"]["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    for problem in problems {
        assert_eq!(problem["line"], 2, "{problem}");
        assert!(problem["column"].as_u64().unwrap() > 1, "{problem}");
    }
    assert_eq!(running.metric("edgequota_policy_rejected_total "), Some(1.0));
    assert_eq!(running.metric("edgequota_config_reload_success "), Some(0.0));
    let (status, ready) = http::get(running.admin, "/readyz").await;
    assert_eq!(status, 200, "{ready}");
    assert!(ready.to_string().contains("the files are refused"), "{ready}");
    assert!(plane.within(Duration::from_millis(200)).await.is_empty());
    home.write("policy.yaml", &policy(11));
    assert_eq!(plane.take().await.spec.rate_limit.average, 11);
    assert_eq!(running.metric("edgequota_config_reload_success "), Some(1.0));
    running.stop().await;
}
