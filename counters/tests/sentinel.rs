//! `sentinel`: whom the Sentinels name, once it says so itself.

use std::time::{Duration, Instant};

use edgequota_policy::{GoDuration, limit::FailurePolicy};

use crate::support::{
    asks::{ask, limit},
    at_last,
    topology::{MASTER, Watched},
    traffic::Traffic,
    within,
    world::{World, by_store},
};

/// Far below the 30 s after which everybody is asked again.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_that_the_sentinels_name_counts() {
    let mut stand = Watched::start().await;
    // Sentinels that are away have no voice.
    stand.sentinels[0].kill();
    stand.sentinels[1].kill();
    let world = World::new(stand.settings()).await;
    let asks = [ask(limit("default", 3, FailurePolicy::FailClosed), "acme")];
    world.recovered(&asks[0]).await;
    for wanted in [true, true, true, false] {
        assert_eq!(by_store(&world.verdict(&asks).await), wanted);
    }
    let calls: Vec<u64> = stand.set.servers.iter().map(|server| server.script_calls()).collect();
    assert!(calls[0] > 0 && calls[1..] == [0, 0], "{calls:?}");
    // With nobody to ask, who was named last goes on.
    stand.sentinels[2].kill();
    let others = [ask(limit("default", 3, FailurePolicy::FailClosed), "other")];
    assert!(by_store(&world.verdict(&others).await) && world.counters.healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_is_told_is_followed_at_once() {
    let stand = Watched::start().await;
    stand.settled().await;
    let world = World::new(stand.settings()).await;
    let traffic = Traffic::start(&world, &["acme", "b", "c"]);
    traffic.decided().await;
    stand.sentinels[0].run(&["SENTINEL", "FAILOVER", MASTER]);
    at_last("another one is named", || async { stand.named().is_some_and(|named| named != 0) }).await;
    let named = stand.named().expect("it was just named");
    within(AT_ONCE, "it counts", || async { stand.set.servers[named].script_calls() > 0 }).await;
    traffic.decided().await;
    let tally = traffic.end().await;
    assert!(tally.slowest < Duration::from_millis(1500), "{tally:?}");
    println!("switch by hand: {tally:?}");
}

/// The old primary says nothing, with which nobody loses patience: only the Sentinels tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_away_from_a_silent_primary_waits_for_no_word_of_it() {
    let stand = Watched::start().await;
    stand.settled().await;
    let mut set = stand.settings();
    set.deadline = GoDuration::new(Duration::from_millis(200));
    set.read_timeout = GoDuration::new(Duration::ZERO);
    let world = World::new(set).await;
    let traffic = Traffic::start(&world, &["acme", "b", "c", "d"]);
    traffic.decided().await;
    stand.set.servers[0].freeze();
    at_last("another one is named", || async { stand.named().is_some_and(|named| named != 0) }).await;
    let named = stand.named().expect("it was just named");
    within(AT_ONCE, "it counts", || async { stand.set.servers[named].script_calls() > 0 }).await;
    traffic.decided().await;
    stand.set.servers[0].thaw();
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_or_freezes_is_replaced() {
    let mut stand = Watched::start().await;
    stand.settled().await;
    let world = World::new(stand.settings()).await;
    let traffic = Traffic::start(&world, &["acme", "b", "c"]);
    traffic.decided().await;
    stand.set.servers[0].freeze();
    let frozen = Instant::now();
    at_last("another one is named", || async { stand.named().is_some_and(|named| named != 0) }).await;
    traffic.decided().await;
    println!("sentinel, frozen: decided again after {:?}", frozen.elapsed());
    let second = stand.named().expect("it was just named");
    let calls = |stand: &Watched, server: usize| stand.set.servers[server].script_calls();
    assert!(world.counters.healthy() && calls(&stand, second) > 0);
    stand.set.servers[0].thaw();
    let before = calls(&stand, 0);
    traffic.decided().await;
    assert_eq!(calls(&stand, 0), before, "who was the primary once is not asked any more");
    // Somebody follows the new one, and may take over from it.
    at_last("it has a replica", || async {
        stand.set.servers[second].text(&["INFO", "replication"]).contains("state=online")
    })
    .await;
    stand.set.servers[second].kill();
    let killed = Instant::now();
    at_last("a third one is named", || async { stand.named().is_some_and(|named| named != second) }).await;
    traffic.decided().await;
    println!("sentinel, killed: decided again after {:?}", killed.elapsed());
    let third = stand.named().expect("it was just named");
    assert!(world.counters.healthy() && calls(&stand, third) > 0);
    let tally = traffic.end().await;
    assert!(tally.slowest < Duration::from_millis(1500), "{tally:?}");
    println!("a death and a freeze: {tally:?}");
}

/// A Sentinel that slept through the switch names the old primary, which is a replica now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_names_an_old_primary_is_not_believed() {
    let mut stand = Watched::start().await;
    stand.settled().await;
    stand.sentinels[2].freeze();
    stand.sentinels[0].run(&["SENTINEL", "FAILOVER", MASTER]);
    at_last("another one is named", || async { stand.named().is_some_and(|named| named != 0) }).await;
    let named = stand.named().expect("it was just named");
    at_last("the old one follows", || async {
        stand.set.servers[0].text(&["INFO", "replication"]).contains("role:slave")
    })
    .await;
    stand.sentinels[0].kill();
    stand.sentinels[1].kill();
    stand.sentinels[2].thaw();
    let world = World::new(stand.settings()).await;
    let asks = [ask(limit("default", 3, FailurePolicy::FailClosed), "acme")];
    // Until it is told by others it has nobody to name.
    world.verdict(&asks).await;
    stand.sentinels[0].restart();
    stand.sentinels[1].restart();
    world.recovered(&asks[0]).await;
    assert!(by_store(&world.verdict(&asks).await));
    for (i, server) in stand.set.servers.iter().enumerate() {
        assert_eq!(server.script_calls() > 0, i == named, "server {i}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_have_a_password_of_their_own() {
    let stand = Watched::start_with("requirepass at-the-door").await;
    let mut settings = stand.settings();
    settings.sentinel_password = "wrong".into();
    let world = World::new(settings).await;
    let asks = [ask(limit("default", 3, FailurePolicy::FailClosed), "acme")];
    assert!(!by_store(&world.verdict(&asks).await) && !world.counters.healthy());
    world.edit(|redis| redis.sentinel_password = "at-the-door".into());
    world.recovered(&asks[0]).await;
    assert!(by_store(&world.verdict(&asks).await));
}
