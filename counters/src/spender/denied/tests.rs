#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::time::Duration;

use edgequota_policy::Numbers;

use super::*;

fn counter(average: u64, burst: u64, cost: u64) -> Counter {
    let numbers = Numbers::new(average, burst, Duration::from_secs(1)).unwrap();
    Counter { cost, numbers, enforce: true, min_ttl_ms: 0 }
}

fn refuses_for(ms: u64) -> CounterReply {
    CounterReply { retry_us: ms * 1000, reset_us: ms * 2000, ..CounterReply::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn refuses_until_the_store_may_have_a_token_counted_from_the_sending() {
    let (mut denied, sent, c) = (Denied::new(10), Instant::now(), counter(10, 1, 1));
    denied.learn("k", &c, &refuses_for(100), sent, sent + ms(30));
    let known = denied.refusal("k", &c, sent + ms(40)).unwrap();
    assert_eq!((known.retry_us, known.reset_us, known.room), (60_000, 160_000, 0));
    assert!(denied.refusal("k", &c, sent + ms(99)).is_some());
    assert!(denied.refusal("k", &c, sent + ms(100)).is_none());
    assert!(denied.refusal("another", &c, sent + ms(40)).is_none());
}

#[test]
fn no_entry_lives_longer_than_a_second_though_it_tells_the_whole_wait() {
    let (mut denied, sent, c) = (Denied::new(10), Instant::now(), counter(10, 1, 1));
    denied.learn("k", &c, &refuses_for(86_400_000), sent, sent);
    assert_eq!(denied.refusal("k", &c, sent + ms(999)).unwrap().retry_us, 86_399_001_000);
    assert!(denied.refusal("k", &c, sent + LONGEST).is_none());
}

#[test]
fn an_answer_that_leaves_a_token_or_comes_too_late_is_no_refusal() {
    let (mut denied, sent, c) = (Denied::new(10), Instant::now(), counter(10, 1, 1));
    denied.learn("k", &c, &refuses_for(0), sent, sent);
    denied.learn("k", &c, &refuses_for(5), sent, sent + ms(5));
    assert_eq!(denied.len(), 0);
}

#[test]
fn an_answer_that_finds_a_token_ends_the_refusal_before() {
    let (mut denied, sent, c) = (Denied::new(10), Instant::now(), counter(10, 1, 1));
    denied.learn("k", &c, &refuses_for(100), sent, sent);
    denied.learn("k", &c, &refuses_for(0), sent + ms(10), sent + ms(20));
    assert!(denied.refusal("k", &c, sent + ms(30)).is_none(), "this worker gave a lease back, say");
}

#[test]
fn only_an_edit_of_this_limit_or_its_cost_makes_it_void() {
    let (mut denied, sent) = (Denied::new(10), Instant::now());
    denied.learn("k", &counter(10, 5, 2), &refuses_for(100), sent, sent);
    for other in [counter(11, 5, 2), counter(10, 6, 2), counter(10, 5, 1)] {
        assert!(denied.refusal("k", &other, sent).is_none());
    }
    let same = Counter { min_ttl_ms: 7, ..counter(10, 5, 2) };
    assert!(denied.refusal("k", &same, sent).is_some());
    denied.forget("k");
    assert!(denied.refusal("k", &same, sent).is_none());
}

#[test]
fn a_full_cache_remembers_no_more_until_something_is_over() {
    let (mut denied, sent, c) = (Denied::new(3), Instant::now(), counter(10, 1, 1));
    for (n, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
        denied.learn(key, &c, &refuses_for(200 + n as u64), sent, sent);
    }
    assert_eq!(denied.len(), 3);
    assert!(denied.refusal("d", &c, sent).is_none());
    // What is there already is renewed all the same.
    denied.learn("a", &c, &refuses_for(900), sent, sent);
    denied.learn("d", &c, &refuses_for(900), sent + ms(250), sent + ms(250));
    assert!(denied.refusal("d", &c, sent + ms(250)).is_some() && denied.refusal("a", &c, sent + ms(250)).is_some());
    denied.sweep(sent + ms(2000));
    assert_eq!(denied.len(), 0);
}
