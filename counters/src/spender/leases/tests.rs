#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

const KEY: &str = "rl:edgequota:acme";

fn counter(burst: u64, cost: u64) -> Counter {
    let numbers = Numbers::new(1000, burst, Duration::from_secs(1)).unwrap();
    Counter { cost, numbers, enforce: true, min_ttl_ms: 0 }
}

fn grant(tokens: u64, leased: u64, epoch: u64) -> CounterReply {
    CounterReply { tokens, leased, epoch, ..CounterReply::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A worker that has asked for `n` requests within the last tenth of a second.
fn busy(n: u64, c: &Counter, now: Instant) -> Leases {
    let mut leases = Leases::new(MOST);
    for _ in 0..n {
        leases.note(KEY, c, now);
    }
    leases.answered(KEY, &grant(c.numbers.burst, 0, 0), now, now);
    leases
}

fn wanted(leases: &mut Leases, workers: u64, now: Instant) -> u64 {
    leases.call(KEY, workers, true, now).unwrap().1
}

fn named(leases: &mut Leases, now: Instant) -> Vec<(u64, u64, u64)> {
    let (credits, _) = leases.call(KEY, 1, false, now).unwrap();
    let name = |credit| match credit {
        Credit::Settle { epoch, spent, unspent } => (epoch, spent, unspent),
        Credit::Refund { .. } => panic!("leases are settled"),
    };
    credits.into_iter().map(name).collect()
}

#[test]
fn asks_for_half_a_second_of_demand_and_no_more_than_its_share() {
    let now = Instant::now();
    let c = counter(100_000, 1);
    assert_eq!(wanted(&mut busy(200, &c, now), 1, now + ms(100)), 1000);
    assert_eq!(wanted(&mut busy(200, &c, now), 100, now + ms(100)), 500, "of half the bucket");
    let mut leases = busy(200, &c, now);
    leases.answered(KEY, &grant(300, 0, 0), now, now);
    assert_eq!(wanted(&mut leases, 4, now + ms(100)), 100, "of what is left, refill included");
}

#[test]
fn small_limits_and_light_use_are_counted_exactly() {
    let now = Instant::now();
    assert_eq!(wanted(&mut busy(200, &counter(15, 1), now), 1, now + ms(100)), 0);
    assert_eq!(wanted(&mut busy(200, &counter(1000, 100), now), 1, now + ms(100)), 0, "fewer than eight requests");
    assert_eq!(wanted(&mut busy(2, &counter(100_000, 1), now), 1, now + ms(1)), 10);
    assert_eq!(wanted(&mut busy(1, &counter(100_000, 1), now), 1, now), 0, "one request is no demand");
    assert_eq!(wanted(&mut busy(200, &counter(1000, 7), now), 1, now + ms(100)) % 7, 0, "whole requests");
}

#[test]
fn spends_the_grant_until_it_ends_and_names_everything_once() {
    let now = Instant::now();
    let c = counter(100_000, 2);
    let mut leases = busy(200, &c, now);
    leases.answered(KEY, &grant(0, 20, 7), now, now + ms(5));
    assert_eq!(leases.room(KEY, &c, now + ms(5)), 10);
    for _ in 0..4 {
        assert!(leases.spend(KEY, &c, now + ms(10)).is_some());
    }
    assert_eq!(named(&mut leases, now + ms(20)), [(7, 8, 0)]);
    assert_eq!(named(&mut leases, now + ms(20)), []);
    assert!(leases.covers(KEY, &c, now + ms(899)));
    assert!(leases.spend(KEY, &c, now + ms(899)).is_some());
    assert!(!leases.covers(KEY, &c, now + USABLE), "counted from the sending");
    assert!(leases.spend(KEY, &c, now + USABLE).is_none());
    assert_eq!(named(&mut leases, now + USABLE), [(7, 2, 10)]);
    assert_eq!(named(&mut leases, now + USABLE), []);
    assert!(leases.spend(KEY, &c, now + ms(10)).is_none(), "what was named as unspent is never spent");
}

#[test]
fn asks_for_more_once_when_half_is_spent() {
    let now = Instant::now();
    let c = counter(100_000, 1);
    let mut leases = busy(200, &c, now);
    leases.answered(KEY, &grant(50_000, 10, 1), now, now);
    let asks: Vec<bool> = (0..10).map(|_| leases.spend(KEY, &c, now + ms(1)).unwrap().1).collect();
    assert_eq!(asks, [false, false, false, false, true, false, false, false, false, false]);
    assert!(leases.spend(KEY, &c, now + ms(1)).is_none());
    assert!(wanted(&mut leases, 1, now + ms(100)) > 0);
    leases.unanswered(KEY, now + ms(100));
    leases.answered(KEY, &grant(50_000, 10, 1), now + ms(100), now + ms(100));
    assert_eq!(leases.room(KEY, &c, now + ms(101)), 10);
}

#[test]
fn the_oldest_grant_is_spent_first() {
    let now = Instant::now();
    let c = counter(100_000, 1);
    let mut leases = busy(200, &c, now);
    leases.answered(KEY, &grant(0, 5, 1), now, now);
    leases.answered(KEY, &grant(0, 5, 2), now + ms(500), now + ms(500));
    for _ in 0..7 {
        leases.spend(KEY, &c, now + ms(600)).unwrap();
    }
    assert_eq!(named(&mut leases, now + ms(700)), [(1, 5, 0), (2, 2, 0)]);
    assert_eq!(leases.room(KEY, &c, now + ms(700)), 3);
}

#[test]
fn an_edit_ends_what_is_held_and_gives_it_back() {
    let now = Instant::now();
    let c = counter(100_000, 1);
    let mut leases = busy(200, &c, now);
    leases.answered(KEY, &grant(0, 10, 1), now, now);
    let edited = counter(50_000, 1);
    assert!(!leases.covers(KEY, &edited, now));
    leases.note(KEY, &edited, now + ms(1));
    assert_eq!(named(&mut leases, now + ms(1)), [(1, 0, 10)]);
}

#[test]
fn what_is_idle_or_over_is_named_and_then_forgotten() {
    let now = Instant::now();
    let c = counter(100_000, 1);
    let look = |leases: &mut Leases, at: Instant, all: bool| {
        let mut keys = Vec::new();
        leases.look(at, all, |key| keys.push(key.to_owned()));
        keys
    };
    let mut leases = busy(200, &c, now);
    leases.answered(KEY, &grant(0, 10, 1), now, now);
    assert!(look(&mut leases, now + ms(100), false).is_empty());
    assert_eq!(look(&mut leases, now + ms(300), false), [KEY], "idle");
    assert_eq!(named(&mut leases, now + ms(300)), [(1, 0, 10)]);
    assert!(look(&mut leases, now + ms(300), false).is_empty() && leases.is_empty());
    let mut leases = busy(200, &c, now);
    leases.answered(KEY, &grant(0, 10, 1), now, now);
    assert_eq!(look(&mut leases, now + ms(1), true), [KEY], "everything is given back");
    assert!(!leases.covers(KEY, &c, now + ms(1)));
}

#[test]
fn beyond_the_most_counters_limits_are_counted_exactly() {
    let now = Instant::now();
    let c = counter(100_000, 1);
    let mut leases = Leases::new(1);
    leases.note("one", &c, now);
    leases.note("two", &c, now);
    assert!(leases.call("one", 1, true, now).is_some());
    assert!(leases.call("two", 1, true, now).is_none());
}

#[test]
fn the_estimate_is_what_the_store_told_and_what_is_held_and_refilled() {
    let now = Instant::now();
    let c = counter(1000, 1);
    let mut leases = busy(200, &c, now);
    leases.answered(KEY, &grant(400, 50, 1), now, now);
    let (estimate, _) = leases.spend(KEY, &c, now + ms(100)).unwrap();
    assert_eq!(estimate, Estimate { tokens: 549, reset_us: 451_000 });
}
