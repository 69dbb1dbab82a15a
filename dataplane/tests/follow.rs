//! The data plane's side of the stream, against a control plane that says exactly what the test tells it to.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "shared with another test")]
#[path = "follow/fake.rs"]
mod fake;

use std::time::Duration;

use edgequota_config::state::{Found, StateDir};
use edgequota_dataplane::policy_slot::Source;
use edgequota_policy::{Snapshot, Version};
use edgequota_proto::control::{
    self, from_control_plane::Message as Say, from_data_plane::Message as Said, nack::Class,
};
use fake::{Fake, Follow, Following, Subscribed, bytes, eventually, version};

/// A policy of a binary that is newer than this one.
const TOMORROW: &[u8] = br#"{"backend":{"url":"http://b:1"},"quotas_of_tomorrow":[]}"#;

/// A follower whose first policy, generation 7 with average 10, is in force.
async fn in_force(fake: &mut Fake) -> (Following, Subscribed) {
    let follow = Follow::of(fake).start();
    let mut stream = fake.accept().await;
    stream.hello().await;
    stream.push(version(7, &bytes(10)), &bytes(10)).await;
    assert_eq!(stream.ack().await, version(7, &bytes(10)));
    (follow, stream)
}

/// A state directory that keeps `bytes` as generation 7.
fn kept(dir: &tempfile::TempDir, bytes: &[u8]) -> StateDir {
    let state = StateDir::open(dir.path()).unwrap();
    state.save(&Snapshot { version: version(7, bytes), bytes: bytes.to_vec().into() }).unwrap();
    state
}

#[tokio::test]
async fn a_pushed_policy_is_in_force_before_it_is_acked() {
    let mut fake = Fake::start().await;
    let follow = Follow::of(&fake).start();
    follow.probes.started();
    let mut stream = fake.accept().await;
    let hello = stream.hello().await;
    assert_eq!((hello.node.as_str(), hello.workers, hello.holds), ("me", 3, None));
    assert!(!hello.instance.is_empty());
    assert!(!follow.probes.ready());
    let pushed = bytes(10);
    stream.push(version(7, &pushed), &pushed).await;
    assert_eq!(stream.ack().await, version(7, &pushed));
    let in_force = follow.slot.load().unwrap();
    assert_eq!((in_force.snapshot.version, in_force.source), (version(7, &pushed), Source::ControlPlane));
    assert_eq!(follow.slot.serial(), 1);
    assert!(follow.probes.ready());
    follow.stop().await;
}

#[tokio::test]
async fn only_a_larger_generation_is_applied() {
    let mut fake = Fake::start().await;
    let (follow, mut stream) = in_force(&mut fake).await;
    let other = bytes(20);
    for generation in [6, 7] {
        stream.push(version(generation, &other), &other).await;
        assert_eq!(stream.nack().await.class(), Class::Local);
        // It says what it holds, so that the control plane can stamp its own above.
        assert_eq!(stream.hello().await.holds.unwrap().generation, 7);
    }
    assert_eq!(follow.slot.version(), Some(version(7, &bytes(10))));
    stream.push(version(8, &other), &other).await;
    assert_eq!(stream.ack().await, version(8, &other));
    assert_eq!(follow.slot.version(), Some(version(8, &other)));
    follow.stop().await;
}

#[tokio::test]
async fn a_policy_that_this_binary_does_not_know_is_unsupported_and_the_last_one_stays() {
    let mut fake = Fake::start().await;
    let (follow, mut stream) = in_force(&mut fake).await;
    stream.push(version(8, TOMORROW), TOMORROW).await;
    let nack = stream.nack().await;
    assert_eq!(nack.class(), Class::Unsupported);
    assert!(nack.reason.contains("quotas_of_tomorrow"), "{}", nack.reason);
    let wrong = br#"{"backend":{"url":"http://b:1"},"routes":[{"name":"a","backend":"nobody"}]}"#;
    stream.push(version(9, wrong), wrong).await;
    let nack = stream.nack().await;
    assert_eq!((nack.class(), nack.path.as_str()), (Class::Unsupported, "routes[0].backend"));
    assert_eq!(follow.slot.version(), Some(version(7, &bytes(10))));
    assert_eq!(follow.metric("edgequota_policy_rejected_total "), Some(2.0));
    follow.probes.started();
    assert!(follow.probes.ready(), "a refused policy is no reason to be unready");
    follow.stop().await;
}

#[tokio::test]
async fn damage_on_the_way_is_a_local_matter() {
    let mut fake = Fake::start().await;
    let follow = Follow::of(&fake).start();
    let mut stream = fake.accept().await;
    stream.hello().await;
    // Other bytes than the hash says.
    stream.push(version(7, &bytes(20)), &bytes(10)).await;
    assert_eq!(stream.nack().await.class(), Class::Local);
    // A bomb: it announces little and inflates to much.
    let bomb = control::Snapshot {
        version: Some(fake::to_wire(version(8, &bytes(10)))),
        gzip: edgequota_proto::envelope::pack(&vec![b' '; 15 << 20], fake::BOUNDS).unwrap(),
        plain_size: 100,
    };
    stream.say(Say::Snapshot(bomb)).await;
    assert_eq!(stream.nack().await.class(), Class::Local);
    assert_eq!(follow.slot.serial(), 0);
    follow.stop().await;
}

#[tokio::test]
async fn a_relabel_renames_what_is_in_force() {
    let mut fake = Fake::start().await;
    let (follow, mut stream) = in_force(&mut fake).await;
    let before = follow.slot.load().unwrap().policy.clone();
    stream.relabel(version(9, &bytes(10))).await;
    assert_eq!(stream.ack().await, version(9, &bytes(10)));
    let after = follow.slot.load().unwrap();
    assert_eq!(after.snapshot.version.generation, 9);
    assert!(std::sync::Arc::ptr_eq(&before, &after.policy), "nothing is compiled again");
    // A relabel for something else is answered with what it holds.
    stream.relabel(version(11, &bytes(99))).await;
    assert_eq!(stream.hello().await.holds.unwrap().generation, 9);
    follow.stop().await;
}

#[tokio::test]
async fn without_the_control_plane_the_kept_policy_is_in_force_after_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let mut follow = Follow::to("127.0.0.1:1");
    follow.state = Some(kept(&dir, &bytes(10)));
    follow.own = Some(fake::spec(99));
    let began = std::time::Instant::now();
    let follow = follow.start();
    eventually("a policy is in force", async || (follow.slot.serial() > 0).then_some(())).await;
    assert!(began.elapsed() >= Duration::from_millis(290), "not before the wait: {:?}", began.elapsed());
    let in_force = follow.slot.load().unwrap();
    assert_eq!((in_force.snapshot.version, in_force.source), (version(7, &bytes(10)), Source::StateDir));
    follow.stop().await;
}

#[tokio::test]
async fn a_kept_policy_with_the_right_hash_costs_no_transfer() {
    let dir = tempfile::tempdir().unwrap();
    let state = kept(&dir, &bytes(10));
    let mut fake = Fake::start().await;
    let mut follow = Follow::of(&fake);
    follow.state = Some(state.clone());
    follow.initial_wait = Duration::from_secs(60);
    let follow = follow.start();
    let mut stream = fake.accept().await;
    let hello = stream.hello().await;
    assert_eq!((hello.holds.unwrap().generation, hello.source.as_str()), (7, "state_dir"));
    assert_eq!(follow.slot.serial(), 0, "it waits for the answer first");
    stream.relabel(version(8, &bytes(10))).await;
    assert_eq!(stream.ack().await, version(8, &bytes(10)));
    assert_eq!(follow.slot.load().unwrap().source, Source::ControlPlane);
    follow.stop().await;
    assert!(matches!(state.load(), Found::Good(s) if s.version.generation == 8), "the new name is kept");
}

#[tokio::test]
async fn without_a_kept_policy_the_own_file_counts_and_the_control_plane_wins_later() {
    let mut fake = Fake::start().await;
    let mut follow = Follow::of(&fake);
    follow.own = Some(fake::spec(99));
    let follow = follow.start();
    let mut stream = fake.accept().await;
    assert_eq!(stream.hello().await.holds, None);
    // It is connected, but nothing is pushed: after the wait it says what it runs now.
    let hello = stream.hello().await;
    assert_eq!((hello.holds.unwrap().generation, hello.source.as_str()), (0, "own_file"));
    assert_eq!(follow.slot.load().unwrap().source, Source::OwnFile);
    stream.push(version(7, &bytes(10)), &bytes(10)).await;
    stream.ack().await;
    assert_eq!(follow.slot.load().unwrap().source, Source::ControlPlane);
    follow.stop().await;
}

#[tokio::test]
async fn a_kept_policy_that_this_binary_cannot_read_is_not_replaced_by_the_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::start().await;
    let mut follow = Follow::of(&fake);
    follow.state = Some(kept(&dir, TOMORROW));
    follow.own = Some(fake::spec(99));
    let follow = follow.start();
    let mut stream = fake.accept().await;
    stream.hello().await;
    stream.nothing_for(Duration::from_millis(600)).await;
    assert_eq!(follow.slot.serial(), 0);
    let detail = follow.readyz();
    assert!(detail.contains("quotas_of_tomorrow") && detail.contains("waiting for policy from"), "{detail}");
    stream.push(version(8, &bytes(10)), &bytes(10)).await;
    stream.ack().await;
    follow.stop().await;
}

#[tokio::test]
async fn with_nothing_at_all_it_stays_up_and_says_what_it_waits_for() {
    let mut fake = Fake::start().await;
    let follow = Follow::of(&fake).start();
    let mut stream = fake.accept().await;
    stream.hello().await;
    stream.say(Say::Waiting(control::Waiting { reason: "the files are broken".into() })).await;
    let detail = eventually("it says why", async || {
        let detail = follow.readyz();
        detail.contains("the files are broken").then_some(detail)
    })
    .await;
    assert!(detail.contains(&format!("waiting for policy from http://{}", fake.address)), "{detail}");
    follow.stop().await;
}

#[tokio::test]
async fn it_comes_back_and_serves_on_meanwhile() {
    let mut fake = Fake::start().await;
    let (follow, stream) = in_force(&mut fake).await;
    drop(stream);
    let mut stream = fake.accept().await;
    let hello = stream.hello().await;
    assert_eq!((hello.source.as_str(), hello.holds.unwrap().generation), ("control_plane", 7));
    let instance = hello.instance;
    drop(stream);
    assert_eq!(fake.accept().await.hello().await.instance, instance, "it is the same process");
    assert_eq!(follow.slot.version(), Some(version(7, &bytes(10))));
    follow.stop().await;
}

#[tokio::test]
async fn a_silent_control_plane_is_left() {
    let mut fake = Fake::start().await;
    let mut follow = Follow::of(&fake);
    follow.times.dead = Duration::from_millis(300);
    let follow = follow.start();
    let mut first = fake.accept().await;
    first.hello().await;
    // It says nothing: a new stream comes.
    fake.accept().await.hello().await;
    follow.stop().await;
}

#[tokio::test]
async fn a_large_policy_is_compiled_while_heartbeats_go_on() {
    let mut fake = Fake::start().await;
    let follow = Follow::of(&fake).start();
    let mut stream = fake.accept().await;
    stream.hello().await;
    let mut spec = fake::spec(10);
    for i in 0..5_000 {
        spec.overrides.push(edgequota_policy::spec::OverrideSpec {
            keys: vec![format!("10.0.{}.{}", i / 250, i % 250)],
            average: Some(5),
            ..Default::default()
        });
    }
    let large = spec.resolved().canonical();
    stream.push(version(7, &large), &large).await;
    assert_eq!(stream.ack().await, version(7, &large));
    assert!(matches!(stream.any().await, Said::Heartbeat(_)));
    assert!(follow.metric("edgequota_policy_age_seconds ").unwrap() < 5.0);
    follow.stop().await;
}

#[tokio::test]
async fn what_is_held_is_handed_over_when_asked() {
    let mut fake = Fake::start().await;
    let (follow, mut stream) = in_force(&mut fake).await;
    stream.say(Say::SendCurrent(control::SendCurrent {})).await;
    assert_eq!(stream.current().await, (version(7, &bytes(10)), bytes(10)));
    follow.stop().await;
}

#[tokio::test]
async fn literal_secrets_are_not_handed_over_in_clear() {
    let mut fake = Fake::start().await;
    let (follow, mut stream) = in_force(&mut fake).await;
    let mut spec = fake::spec(10);
    spec.events.http.headers.insert("X-Token".into(), "hunter2".into());
    let secret = spec.resolved().canonical();
    stream.push(version(8, &secret), &secret).await;
    stream.ack().await;
    stream.say(Say::SendCurrent(control::SendCurrent {})).await;
    stream.nothing_for(Duration::from_millis(300)).await;
    follow.stop().await;
}

#[tokio::test]
async fn the_fleet_size_is_learned() {
    let mut fake = Fake::start().await;
    let (follow, stream) = in_force(&mut fake).await;
    assert_eq!(follow.fleet.get(), 1);
    stream.say(Say::Fleet(control::Fleet { planes: 5, workers: 10 })).await;
    eventually("it is learned", async || (follow.fleet.get() == 5).then_some(())).await;
    assert_eq!(follow.fleet.workers(), 10, "leases are sized by the workers");
    follow.stop().await;
}

#[tokio::test]
async fn what_was_pushed_last_is_kept_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let mut fake = Fake::start().await;
    let mut follow = Follow::of(&fake);
    follow.state = Some(state.clone());
    let follow = follow.start();
    let mut stream = fake.accept().await;
    stream.hello().await;
    let mut last: Option<Version> = None;
    for generation in 1..20 {
        let pushed = bytes(i64::try_from(generation).unwrap());
        stream.push(version(generation, &pushed), &pushed).await;
        last = Some(stream.ack().await);
    }
    follow.stop().await;
    assert!(matches!(state.load(), Found::Good(snapshot) if Some(snapshot.version) == last));
}

#[tokio::test]
async fn changed_counters_are_passed_on_and_the_stream_goes_on() {
    let mut fake = Fake::start().await;
    let (follow, mut stream) = in_force(&mut fake).await;
    let long = "k".repeat(4096);
    let keys = vec!["rl:edgequota:acme".to_owned(), long, "{rl:edgequota:acme}:search".to_owned()];
    stream.say(Say::CounterReset(control::CounterReset { keys })).await;
    // What an older data plane would not know, and what means nothing, does no harm either.
    stream.say(Say::CounterReset(control::CounterReset::default())).await;
    stream.push(version(8, &bytes(20)), &bytes(20)).await;
    assert_eq!(stream.ack().await, version(8, &bytes(20)));
    assert_eq!(*follow.changed.lock().unwrap(), ["rl:edgequota:acme", "{rl:edgequota:acme}:search"]);
    follow.stop().await;
}
