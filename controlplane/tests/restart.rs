//! Restarts with good, broken and lost files, and policies that are adopted from data planes.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use support::{Home, eventually, http, plane::*, policy};

const BROKEN: &str = "rate_limit: [";

#[tokio::test]
async fn a_restart_is_no_edit() {
    let home = Home::with(10);
    let running = home.start().await;
    let before = running.average(10).await;
    running.stop().await;
    let running = home.start().await;
    let after = running.average(10).await;
    assert_eq!(before["version"], after["version"]);
    running.kill().await;
}

#[tokio::test]
async fn an_edit_while_it_was_down_gets_a_larger_generation() {
    let home = Home::with(10);
    let running = home.start().await;
    let before = running.average(10).await["generation"].as_u64().unwrap();
    running.kill().await;
    home.write("policy.yaml", &policy(20));
    let running = home.start().await;
    assert!(running.average(20).await["generation"].as_u64().unwrap() > before);
    running.kill().await;
}

#[tokio::test]
async fn with_broken_files_the_last_good_policy_is_served() {
    let home = Home::with(10);
    let running = home.start().await;
    let before = running.average(10).await["version"].clone();
    home.until_kept().await;
    running.kill().await;
    home.write("policy.yaml", BROKEN);
    let running = home.start().await;
    let policy_now = running.average(10).await;
    assert_eq!((&policy_now["version"], &policy_now["source"]), (&before, &"state_dir".into()));
    assert!(policy_now["files_refused"]["count"].as_u64().unwrap() > 0);
    assert_eq!(Plane::join(running.grpc, "a", None).await.take().await.spec.rate_limit.average, 10);
    running.probes.until_ready().await;
    // The same content comes back in the file: nothing is published, but it is from the file now.
    home.write("policy.yaml", &policy(10));
    let policy_now = running.serving(|p| p["source"] == "files").await;
    assert_eq!(policy_now["version"], before);
    running.kill().await;
}

#[tokio::test]
async fn an_empty_directory_where_a_policy_was_is_refused() {
    let home = Home::with(10);
    let running = home.start().await;
    running.average(10).await;
    std::fs::remove_file(home.path("policy.yaml")).unwrap();
    let policy_now = running.serving(|p| !p["files_refused"].is_null()).await;
    assert_eq!(policy_now["policy"]["rate_limit"]["average"], 10);
    home.until_kept().await;
    running.kill().await;
    let running = home.start().await;
    assert_eq!(running.average(10).await["source"], "state_dir");
    running.kill().await;
}

#[tokio::test]
async fn without_any_policy_it_stays_up_and_says_what_it_waits_for() {
    let home = Home::new();
    let running = home.start().await;
    let detail = eventually("it says what it waits for", async || {
        let (status, ready) = http::get(running.admin, "/readyz").await;
        (status == 503 && ready.to_string().contains("no *.yaml file")).then_some(ready)
    })
    .await;
    assert!(detail.to_string().contains("or from a data plane"), "{detail}");
    assert_eq!(http::get(running.admin, "/startz").await.0, 200);
    let (status, refusal) = http::get(running.admin, "/v1/policy").await;
    assert_eq!((status, &refusal["error"]), (503, &"no_policy".into()));
    assert!(refusal["message"].as_str().unwrap().contains("waiting for a policy in"), "{refusal}");
    let mut plane = Plane::join(running.grpc, "a", None).await;
    match plane.next().await.unwrap() {
        Said::Waiting(waiting) => assert!(waiting.reason.contains("waiting for a policy in"), "{}", waiting.reason),
        other => panic!("what it waits for, not {other:?}"),
    }
    home.write("policy.yaml", &policy(10));
    assert_eq!(plane.take().await.spec.rate_limit.average, 10);
    running.probes.until_ready().await;
    running.stop().await;
}

/// A control plane with broken files and nothing kept.
async fn lost() -> (Home, support::Running) {
    let mut home = Home::new();
    home.keeps = false;
    home.write("policy.yaml", BROKEN);
    let running = home.start().await;
    (home, running)
}

#[tokio::test]
async fn the_newest_policy_of_the_fleet_is_adopted() {
    let (home, running) = lost().await;
    let (old, new) = (bytes(5), bytes(9));
    let (old_version, new_version) = (version(50, &old), version(90, &new));
    let mut behind = Plane::join(running.grpc, "behind", Some((old_version, "state_dir"))).await;
    let mut ahead = Plane::join(running.grpc, "ahead", Some((new_version, "control_plane"))).await;
    ahead.hand_over(new_version, &new).await;
    let policy_now = running.average(9).await;
    assert_eq!(policy_now["generation"], 90);
    assert_eq!(policy_now["source"], "adopted from ahead");
    // The one behind gets it, and so does a newcomer.
    loop {
        match behind.next().await.unwrap() {
            Said::Waiting(_) => {}
            Said::Snapshot(snapshot) => {
                assert_eq!(snapshot.version.unwrap().generation, 90);
                break;
            }
            other => panic!("the adopted policy, not {other:?}"),
        }
    }
    assert_eq!(Plane::join(running.grpc, "new", None).await.take().await.version, new_version);
    running.probes.until_ready().await;
    // Repaired files are above what was adopted.
    home.write("policy.yaml", &policy(20));
    assert!(running.average(20).await["generation"].as_u64().unwrap() > 90);
    running.stop().await;
}

#[tokio::test]
async fn what_only_a_file_of_a_data_plane_says_is_never_spread() {
    let (_home, running) = lost().await;
    let own = bytes(9);
    let mut plane = Plane::join(running.grpc, "a", Some((version(0, &own), "own_file"))).await;
    let said = plane.within(Duration::from_millis(600)).await;
    assert!(said.iter().all(|m| matches!(m, Said::Waiting(_))), "{said:?}");
    assert_eq!(http::get(running.admin, "/v1/policy").await.0, 503);
    running.stop().await;
}

#[tokio::test]
async fn a_policy_that_is_not_what_it_claims_to_be_is_not_adopted() {
    let (_home, running) = lost().await;
    let (good, bad) = (bytes(5), b"{\"backend\":{\"url\":\"http://evil:1\"}}".to_vec());
    let claimed = version(90, &bytes(9));
    let mut liar = Plane::join(running.grpc, "liar", Some((claimed, "control_plane"))).await;
    let mut honest = Plane::join(running.grpc, "honest", Some((version(50, &good), "control_plane"))).await;
    liar.hand_over(claimed, &bad).await;
    honest.hand_over(version(50, &good), &good).await;
    assert_eq!(running.average(5).await["source"], "adopted from honest");
    running.stop().await;
}

#[tokio::test]
async fn a_policy_that_this_binary_cannot_read_is_not_adopted() {
    let (_home, running) = lost().await;
    let newer = b"{\"backend\":{\"url\":\"http://b:1\"},\"quotas_of_tomorrow\":[]}".to_vec();
    let (good, newer_version) = (bytes(5), version(90, &newer));
    let mut tomorrow = Plane::join(running.grpc, "tomorrow", Some((newer_version, "control_plane"))).await;
    let mut today = Plane::join(running.grpc, "today", Some((version(50, &good), "control_plane"))).await;
    tomorrow.hand_over(newer_version, &newer).await;
    today.hand_over(version(50, &good), &good).await;
    assert_eq!(running.average(5).await["generation"], 50);
    running.stop().await;
}

#[tokio::test]
async fn a_newer_policy_beats_what_was_kept_only_from_a_peer_that_proved_who_it_is() {
    let mut home = Home::with(10);
    let running = home.start().await;
    let kept = running.average(10).await["generation"].as_u64().unwrap();
    home.until_kept().await;
    running.kill().await;
    home.write("policy.yaml", BROKEN);
    let newer = bytes(99);
    let newer_version = version(kept + 1_000, &newer);
    for extra in ["", "  allow_insecure: true\n"] {
        home.extra = extra.into();
        let running = home.start().await;
        let mut stranger = Plane::join(running.grpc, "a", Some((newer_version, "control_plane"))).await;
        let said = stranger.within(3 * home.times.deference).await;
        assert!(!said.iter().any(|m| matches!(m, Said::SendCurrent(_))), "{said:?}");
        assert_eq!(running.average(10).await["generation"], kept);
        running.kill().await;
    }
    home.extra = "  token: right\n".into();
    let running = home.start().await;
    let mut plane = Plane::silent(channel(running.grpc).await, "a", Some("right")).await.unwrap();
    plane.hello(Some((newer_version, "control_plane"))).await;
    plane.hand_over(newer_version, &newer).await;
    assert_eq!(running.average(99).await["generation"], newer_version.generation);
    running.stop().await;
}

#[tokio::test]
async fn another_policy_than_announced_is_not_adopted() {
    let (_home, running) = lost().await;
    let (said, given, good) = (bytes(5), bytes(6), bytes(7));
    let mut odd = Plane::join(running.grpc, "odd", Some((version(90, &said), "control_plane"))).await;
    let mut even = Plane::join(running.grpc, "even", Some((version(50, &good), "control_plane"))).await;
    odd.hand_over(version(95, &given), &given).await;
    even.hand_over(version(50, &good), &good).await;
    assert_eq!(running.average(7).await["source"], "adopted from even");
    running.stop().await;
}

/// No claim of a peer puts what is issued after it beyond what peers may name.
#[tokio::test]
async fn a_generation_beyond_any_clock_locks_nobody_out() {
    let home = Home::with(10);
    let running = home.start().await;
    running.average(10).await;
    let mut liar = Plane::join(running.grpc, "liar", Some((version(u64::MAX / 2, &bytes(1)), "control_plane"))).await;
    let refused = loop {
        if let Err(status) = liar.next().await {
            break status;
        }
    };
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    home.write("policy.yaml", &policy(20));
    let issued = running.average(20).await["generation"].as_u64().unwrap();
    assert!(issued < u64::MAX / 4, "{issued}");
    let mut plane = Plane::join(running.grpc, "a", None).await;
    let version = plane.take().await.version;
    running.stop().await;
    let running = home.start().await;
    let mut plane = Plane::join(running.grpc, "a", Some((version, "control_plane"))).await;
    assert_eq!(plane.relabel().await.generation, version.generation);
    running.stop().await;
}

/// A state directory from before such claims were refused.
#[tokio::test]
async fn a_kept_generation_far_in_the_future_is_served_consistently() {
    let home = Home::with(10);
    let far = version(u64::MAX / 2, &bytes(10));
    std::fs::create_dir_all(home.state_dir()).unwrap();
    let state = edgequota_config::state::StateDir::open(&home.state_dir()).unwrap();
    state.save(&edgequota_policy::Snapshot { version: far, bytes: bytes(10).into() }).unwrap();
    drop(state);
    let running = home.start().await;
    running.average(10).await;
    let mut plane = Plane::join(running.grpc, "a", Some((far, "state_dir"))).await;
    assert_eq!(plane.take().await.version.generation, far.generation + 1);
    home.write("policy.yaml", &policy(20));
    let got = plane.take().await;
    assert_eq!((got.version.generation, got.spec.rate_limit.average), (far.generation + 2, 20));
    eventually("it is in step", async || {
        (http::get(running.admin, "/v1/dataplanes").await.1["in_step"] == 1).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn damaged_state_is_survived() {
    let home = Home::with(10);
    let running = home.start().await;
    running.average(10).await;
    running.stop().await;
    for entry in std::fs::read_dir(home.state_dir()).unwrap() {
        let path = entry.unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    }
    home.write("policy.yaml", BROKEN);
    let running = home.start().await;
    eventually("it waits", async || (http::get(running.admin, "/readyz").await.0 == 503).then_some(())).await;
    let held = bytes(7);
    let mut plane = Plane::join(running.grpc, "a", Some((version(90, &held), "control_plane"))).await;
    plane.hand_over(version(90, &held), &held).await;
    running.average(7).await;
    running.stop().await;
    // What was adopted was kept.
    let running = home.start().await;
    assert_eq!(running.average(7).await["generation"], 90);
    running.kill().await;
}
