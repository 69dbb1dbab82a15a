//! The control plane with data planes that are many, slow, strange or wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use edgequota_proto::control::{
    Ack, Version, from_control_plane::Message as Said, from_data_plane::Message as Answer, nack::Class,
};
use edgequota_tests::{Edgequota, FakePlane, eventually, holds_for};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);
const SETTINGS: &str = "redis: { mode: embedded }\n";

fn policy(burst: usize) -> String {
    format!("backend: {{ url: \"http://backend\" }}\nrate_limit: {{ average: 5, burst: {burst} }}\n")
}

async fn control() -> Edgequota {
    Edgequota::controlplane().config(SETTINGS).config(policy(1)).ready().await
}

fn edit(control: &Edgequota, burst: usize) {
    control.write_config(&format!("{SETTINGS}{}", policy(burst)));
}

fn generation(version: Option<&Version>) -> u64 {
    version.expect("a version").generation
}

async fn listed(control: &Edgequota, node: &str) -> Value {
    let all = control.admin_json("/v1/dataplanes").await;
    let found = all["dataplanes"].as_array().unwrap().iter().find(|d| d["node"] == node).cloned();
    found.unwrap_or_else(|| panic!("{node} is not in {all}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_subscribe_at_once_to_a_large_policy() {
    const PLANES: usize = 300;
    let control = control().await;
    // About 1 MiB that does not compress to nothing.
    let by_header = "  key_strategy: { type: header, header_name: X-Tenant-Id }\noverrides:\n";
    let mut large =
        format!("{SETTINGS}backend: {{ url: \"http://backend\" }}\nrate_limit:\n  average: 5\n  burst: 5\n{by_header}");
    for n in 0..12_000 {
        large.push_str(&format!(
            "- {{ keys: [\"tenant-{:016x}-{:016x}-{n}\"], limit: default, average: {} }}\n",
            fastrand::u64(..),
            fastrand::u64(..),
            n + 1
        ));
    }
    control.write_config(&large);
    eventually("the large policy is served", SOON, || async {
        let bytes = control.admin_json("/v1/policy").await["bytes"].as_u64().unwrap_or(0);
        (bytes > 1 << 20).then_some(())
    })
    .await;
    let (addr, start) = (control.grpc(), Instant::now());
    let mut planes = tokio::task::JoinSet::new();
    for n in 0..PLANES {
        planes.spawn(async move {
            let mut plane = FakePlane::subscribe(addr, &format!("fake-{n}"), None).await;
            let snapshot = plane.snapshot(Duration::from_secs(30)).await;
            plane.ack(snapshot.version).await;
            (plane, start.elapsed())
        });
    }
    let planes = planes.join_all().await;
    let slowest = planes.iter().map(|(_, took)| *took).max().unwrap();
    eventually("all have acknowledged", SOON, || async {
        (control.admin_json("/v1/dataplanes").await["in_step"] == PLANES).then_some(())
    })
    .await;
    println!("{PLANES} data planes had 1 MiB each after {slowest:?}");
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");
}

#[tokio::test]
async fn one_that_does_not_read_holds_up_nobody() {
    let control = control().await;
    let _stuck = FakePlane::subscribe(control.grpc(), "stuck", None).await;
    let mut good = FakePlane::subscribe(control.grpc(), "good", None).await;
    let first = good.snapshot(SOON).await;
    good.ack(first.version.clone()).await;
    let mut last = generation(first.version.as_ref());
    for burst in 2..6 {
        edit(&control, burst);
        let next = good.snapshot(SOON).await;
        assert!(generation(next.version.as_ref()) > last, "generations never go back");
        last = generation(next.version.as_ref());
        good.ack(next.version).await;
    }
}

#[tokio::test]
async fn at_most_one_policy_is_unanswered_and_then_only_the_newest_is_sent() {
    let control = control().await;
    let mut plane = FakePlane::subscribe(control.grpc(), "slow", None).await;
    let first = plane.snapshot(SOON).await;
    for burst in 2..5 {
        edit(&control, burst);
        eventually("the edit is served", SOON, || async {
            let policy = control.admin_json("/v1/policy").await;
            (policy["policy"]["rate_limit"]["burst"] == burst).then_some(())
        })
        .await;
    }
    assert!(plane.next(Duration::from_millis(500)).await.is_none(), "a second policy before the first was answered");
    plane.ack(first.version).await;
    let second = plane.snapshot(SOON).await;
    assert_eq!(control.admin_json("/v1/policy").await["generation"], generation(second.version.as_ref()));
    plane.ack(second.version).await;
    assert!(plane.next(Duration::from_millis(500)).await.is_none(), "more came than the newest");
}

#[tokio::test]
async fn an_unsupported_policy_is_shown_and_not_sent_again() {
    let control = control().await;
    let mut plane = FakePlane::subscribe(control.grpc(), "old", None).await;
    let first = plane.snapshot(SOON).await;
    plane.nack(first.version.clone(), Class::Unsupported, "unknown field magic", "rate_limit.magic").await;
    let shown = eventually("the refusal is listed", SOON, || async {
        let shown = listed(&control, "old").await;
        (!shown["rejected"].is_null()).then_some(shown)
    })
    .await;
    let rejected = &shown["rejected"];
    assert_eq!((&rejected["class"], &rejected["reason"]), (&"unsupported".into(), &"unknown field magic".into()));
    assert_eq!((&rejected["path"], &shown["in_step"]), (&"rate_limit.magic".into(), &false.into()));
    assert!(plane.next(Duration::from_secs(7)).await.is_none(), "it was sent again");
    edit(&control, 2);
    let next = plane.snapshot(SOON).await;
    plane.ack(next.version).await;
    eventually("the refusal is forgotten", SOON, || async {
        let shown = listed(&control, "old").await;
        (shown["rejected"].is_null() && shown["in_step"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_local_trouble_is_tried_again_after_a_pause() {
    let control = control().await;
    let mut plane = FakePlane::subscribe(control.grpc(), "full", None).await;
    let first = plane.snapshot(SOON).await;
    let start = Instant::now();
    plane.nack(first.version.clone(), Class::Local, "no room", "").await;
    let again = plane.snapshot(Duration::from_secs(12)).await;
    assert_eq!(again.version, first.version);
    assert!(start.elapsed() > Duration::from_secs(2), "again after {:?}", start.elapsed());
}

#[tokio::test]
async fn who_holds_the_same_gets_at_most_a_new_name() {
    let control = control().await;
    let mut plane = FakePlane::subscribe(control.grpc(), "one", None).await;
    let version = plane.snapshot(SOON).await.version.unwrap();
    let mut same = FakePlane::subscribe(control.grpc(), "two", Some(version.clone())).await;
    let said = same.next(Duration::from_secs(1)).await;
    assert!(!matches!(said, Some(Said::Snapshot(_))), "what it holds was sent to it");
    let older = Version { generation: version.generation - 1000, ..version.clone() };
    let mut renamed = FakePlane::subscribe(control.grpc(), "three", Some(older)).await;
    match renamed.next(SOON).await {
        Some(Said::Relabel(relabel)) => assert_eq!(relabel.version, Some(version)),
        other => panic!("wanted a relabel, got {other:?}"),
    }
}

#[tokio::test]
async fn a_newer_policy_of_another_control_plane_is_respected_for_a_while() {
    let control = control().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let ahead = u64::try_from(now).unwrap() + 3_600_000;
    let holds = Version { generation: ahead, hash: vec![7; 32].into() };
    let mut plane = FakePlane::subscribe(control.grpc(), "ahead", Some(holds)).await;
    let start = Instant::now();
    let snapshot = loop {
        match plane.next(Duration::from_secs(25)).await {
            Some(Said::Snapshot(snapshot)) => break snapshot,
            Some(_) => {}
            None => panic!("nothing was pushed after {:?}", start.elapsed()),
        }
    };
    assert!(start.elapsed() > Duration::from_secs(8), "pushed over a newer one after {:?}", start.elapsed());
    assert!(generation(snapshot.version.as_ref()) > ahead, "it must be stamped above what the data plane holds");
}

#[tokio::test]
async fn strange_peers_end_and_the_control_plane_does_not() {
    let mut control = control().await;
    let mut mute = FakePlane::connect(control.grpc()).await;
    let mut rude = FakePlane::connect(control.grpc()).await;
    rude.say(Answer::Ack(Ack { version: Some(Version { generation: 1, hash: vec![1; 3].into() }) })).await;
    let mut named = FakePlane::connect(control.grpc()).await;
    named.hello(&"n".repeat(1 << 20), None).await;
    assert!(rude.ended(SOON).await, "an ack before the hello was taken");
    assert!(named.ended(SOON).await, "a name of 1 MiB was taken");
    assert!(mute.ended(Duration::from_secs(20)).await, "a stream without a hello was kept");
    let mut raw = edgequota_tests::Raw::connect(control.grpc()).await;
    let _ = raw.try_send(vec![b'x'; 100_000]).await;
    drop(raw);
    assert!(control.is_running());
    let mut good = FakePlane::subscribe(control.grpc(), "good", None).await;
    good.snapshot(SOON).await;
    holds_for("it is ready", Duration::from_millis(300), || async { control.is_ready().await }).await;
}

#[tokio::test]
async fn a_silent_data_plane_is_taken_off_the_list() {
    let control = control().await;
    let mut plane = FakePlane::subscribe(control.grpc(), "silent", None).await;
    let snapshot = plane.snapshot(SOON).await;
    plane.ack(snapshot.version).await;
    eventually("it is listed", SOON, || async {
        (control.admin_json("/v1/dataplanes").await["connected"] == 1).then_some(())
    })
    .await;
    eventually("it is taken off after 15 s of silence", Duration::from_secs(25), || async {
        (control.admin_json("/v1/dataplanes").await["connected"] == 0).then_some(())
    })
    .await;
    assert!(plane.ended(SOON).await);
}
