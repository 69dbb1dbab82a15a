//! The embedded store: bounded, shared, exact under concurrency.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use edgequota_config::settings::RedisMode;
use edgequota_counters::{
    Counters, FleetSize,
    clock::Clock,
    store::{
        Purpose,
        embedded::{Embedded, Evict},
    },
};
use edgequota_ops::metrics::Metrics;
use edgequota_policy::limit::FailurePolicy;

use crate::support::{
    asks::{ask, limit},
    server::RedisServer,
    stores::{enforced, plan},
    worker::Worker,
    world::{by_store, settings},
};

const SECOND: u64 = 1_000_000;

fn store(capacity: usize, evict: Evict) -> (Embedded, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(SECOND));
    let read = Arc::clone(&now);
    (Embedded::new(Clock::custom(move || read.load(Ordering::Relaxed)), capacity, evict), now)
}

#[test]
fn full_buckets_make_room_first() {
    let (store, now) = store(6400, Evict::FullFirst);
    let long = enforced(1, 1, 3600 * SECOND);
    for i in 0..200 {
        store.call(&plan(Purpose::Spend, &[(&format!("long-{i}"), long)]));
    }
    // Thousands of subjects that come once, each full again a second later.
    for i in 0..20_000 {
        now.fetch_add(SECOND / 50, Ordering::Relaxed);
        store.call(&plan(Purpose::Spend, &[(&format!("once-{i}"), enforced(1, 1, SECOND))]));
    }
    assert!(store.len() <= 6400);
    assert_eq!(store.evicted(), 0, "no counter in use was lost");
    for i in 0..200 {
        assert_eq!(store.call(&plan(Purpose::Look, &[(&format!("long-{i}"), long)])).granted, 0);
    }
}

#[test]
fn memory_follows_what_is_in_use() {
    let (store, now) = store(1 << 20, Evict::FullFirst);
    for i in 0..200_000 {
        now.fetch_add(SECOND / 100, Ordering::Relaxed);
        store.call(&plan(Purpose::Spend, &[(&format!("once-{i}"), enforced(1, 1, SECOND))]));
    }
    assert!(store.len() < 64 * 64 * 2, "a hundred are in use, {} are kept", store.len());
}

#[test]
fn it_stays_bounded_when_all_are_in_use() {
    let (store, _) = store(640, Evict::FullFirst);
    for i in 0..10_000 {
        store.call(&plan(Purpose::Spend, &[(&format!("{i}"), enforced(1, 1, 3600 * SECOND))]));
    }
    assert!(store.len() <= 640, "{}", store.len());
    assert!(store.evicted() >= 9000);
}

#[test]
fn the_oldest_make_room_when_told_so() {
    let (store, now) = store(6400, Evict::Oldest);
    let limit = enforced(1, 1, 3600 * SECOND);
    for i in 0..20_000 {
        now.fetch_add(1, Ordering::Relaxed);
        store.call(&plan(Purpose::Spend, &[(&format!("{i}"), limit)]));
    }
    assert!(store.len() <= 6400);
    let kept = |i: usize| store.call(&plan(Purpose::Look, &[(&format!("{i}"), limit)])).granted == 0;
    assert!((19_000..20_000).all(kept), "the newest are kept");
    assert!((0..10_000).all(|i| !kept(i)), "the oldest are gone");
}

#[test]
fn threads_spend_exactly_what_there_is() {
    let (store, _) = store(1 << 16, Evict::FullFirst);
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, granted) = (&store, &granted);
            scope.spawn(move || {
                for _ in 0..2000 {
                    // Two keys in either order: nobody waits for anybody in a circle.
                    let mut counters =
                        [("a", enforced(1, 3000, 3600 * SECOND)), ("b", enforced(1, 5000, 3600 * SECOND))];
                    if thread % 2 == 0 {
                        counters.reverse();
                    }
                    granted.fetch_add(store.call(&plan(Purpose::Spend, &counters)).granted, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(granted.into_inner(), 3000);
    assert_eq!(store.call(&plan(Purpose::Look, &[("b", enforced(1, 5000, 3600 * SECOND))])).counters[0].tokens, 2000);
}

#[tokio::test]
async fn planes_of_one_process_share_it() {
    let server = RedisServer::start();
    let mut set = settings(&server);
    set.mode = RedisMode::Embedded;
    let (_sender, watched) = tokio::sync::watch::channel(Arc::new(set));
    let first = Counters::new(watched, &Metrics::new(1), FleetSize::default(), "a");
    let second = first.share_embedded(&Metrics::new(1), FleetSize::default());
    let asks = [ask(limit("default", 3, FailurePolicy::FailClosed), "acme")];
    let (one, other) = (Worker::start(&first, 0), Worker::start(&second, 0));
    assert!(by_store(&one.verdict(&asks).await) && by_store(&other.verdict(&asks).await));
    assert_eq!(second.decider().look(&asks).await.limits[0].remaining, Some(1));
    assert!(by_store(&Worker::start(&first, 3).verdict(&asks).await));
    assert!(!by_store(&Worker::start(&second, 9).verdict(&asks).await));
    assert!(first.ping().await && first.healthy());
    first.tried().await;
    assert_eq!(server.int(&["DBSIZE"]), 0);
}
