//! What is in Redis: fields, expiry, what the Go original left, and garbage.

use edgequota_counters::store::{Counter, Purpose, Replies, script};

use crate::support::{
    server::RedisServer,
    stores::{Counts, Scripted, enforced, plan},
};

const SECOND: u64 = 1_000_000;
const KEY: &str = "rl:edgequota:acme";

/// One spend by the script as it ships, on the server's own clock.
fn spend(server: &RedisServer, counters: &[(&str, Counter)]) -> Replies {
    let plan = plan(Purpose::Spend, counters);
    let mut command = redis::cmd("EVAL");
    command.arg(script::SOURCE);
    let plans = [plan];
    script::arguments(&plans, true, &mut command);
    let value = command.query(&mut server.client()).expect("the script runs");
    script::parse(&value, &plans).expect("the script answers what it should").remove(0)
}

fn now_us(server: &RedisServer) -> u64 {
    let time: Vec<u64> = redis::from_redis_value(server.run(&["TIME"])).expect("two numbers");
    time[0] * SECOND + time[1]
}

#[test]
fn fields_are_whole_numbers_that_the_original_can_read() {
    let server = RedisServer::start();
    let before = now_us(&server);
    spend(&server, &[(KEY, enforced(100, 50, SECOND))]);
    let hash = server.hash(KEY);
    assert_eq!(hash["tokens"], "49");
    assert_eq!((hash["frac"].as_str(), hash["s"].as_str()), ("0", "10000"));
    let last: u64 = hash["last"].parse().expect("digits only, no exponent");
    assert!((before..=now_us(&server)).contains(&last));
    assert_eq!(hash.len(), 4);
}

#[test]
fn expiry_outlives_the_time_to_full_and_is_not_set_each_time() {
    let server = RedisServer::start();
    // 50 tokens at 10 per 2 s: full after 10 s, need = 10 + 2 + 2 s.
    let limit = [(KEY, enforced(10, 50, 2 * SECOND))];
    spend(&server, &limit);
    let ttl = server.int(&["PTTL", KEY]);
    assert!((27_900..=30_800).contains(&ttl), "2 need and at most a tenth more: {ttl}");
    server.run(&["PEXPIRE", KEY, "14500"]);
    spend(&server, &limit);
    let ttl = server.int(&["PTTL", KEY]);
    assert!((14_000..=14_500).contains(&ttl), "more than need is left alone: {ttl}");
    server.run(&["PEXPIRE", KEY, "13900"]);
    spend(&server, &limit);
    assert!(server.int(&["PTTL", KEY]) > 27_000, "less than need is renewed");
    server.run(&["PERSIST", KEY]);
    spend(&server, &limit);
    assert!(server.int(&["PTTL", KEY]) > 27_000, "a key without expiry gets one");
    let longer = [(KEY, Counter { min_ttl_ms: 3_600_000, ..limit[0].1 })];
    spend(&server, &longer);
    assert!(server.int(&["PTTL", KEY]) >= 7_199_000, "min_ttl raises it");
}

#[test]
fn expiries_are_jittered() {
    let server = RedisServer::start();
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..20 {
        let key = format!("rl:edgequota:{i}");
        spend(&server, &[(&key, enforced(1, 1000, SECOND))]);
        seen.insert(server.int(&["PTTL", &key]) / 1000);
    }
    assert!(seen.len() > 5, "{seen:?}");
}

#[test]
fn a_look_and_a_refusal_write_nothing() {
    let server = RedisServer::start();
    let limit = [(KEY, enforced(1, 1, 3600 * SECOND))];
    let mut command = redis::cmd("EVAL");
    command.arg(script::SOURCE);
    script::arguments(&[plan(Purpose::Look, &limit)], true, &mut command);
    command.query::<redis::Value>(&mut server.client()).expect("the script runs");
    assert_eq!(server.int(&["EXISTS", KEY]), 0);
    spend(&server, &limit);
    let before = server.hash(KEY);
    assert_eq!(spend(&server, &limit).granted, 0);
    assert_eq!(server.hash(KEY), before);
}

#[test]
fn counters_of_the_original_go_on() {
    let server = RedisServer::start();
    let now = now_us(&server).to_string();
    // The original writes fractions, and may write the time with an exponent.
    server.run(&["HSET", KEY, "last", &now, "tokens", "12.75"]);
    let limit = [(KEY, enforced(1, 50, 3600 * SECOND))];
    let answer = spend(&server, &limit);
    assert_eq!((answer.granted, answer.counters[0].tokens, answer.corrupt), (1, 11, 0));
    assert!(server.int(&["PTTL", KEY]) > 0);
    server.run(&["HSET", KEY, "last", "1.76e+15", "tokens", "1.0"]);
    server.run(&["HDEL", KEY, "frac", "s"]);
    assert_eq!(spend(&server, &[(KEY, enforced(1, 1, 1461 * 86_400 * SECOND))]).counters[0].tokens, 0);
    // A fraction that is left of another S is dropped.
    server.run(&["HSET", KEY, "last", &now_us(&server).to_string(), "tokens", "5", "frac", "9", "s", "10"]);
    assert_eq!(spend(&server, &limit).counters[0].tokens, 4);
    assert!(server.hash(KEY)["frac"].parse::<u64>().expect("whole") < 100_000);
}

#[test]
fn garbage_becomes_an_empty_bucket_that_refills() {
    let mut store = Scripted::new();
    let start = 1_760_000_000 * SECOND;
    let limit = [(KEY, enforced(1, 10, SECOND))];
    let s = limit[0].1.numbers.grains_per_token.to_string();
    let spoiled: Vec<Vec<&str>> = vec![
        vec!["SET", KEY, "a string"],
        vec!["LPUSH", KEY, "a list"],
        vec!["HSET", KEY, "other", "1"],
        vec!["HSET", KEY, "last", "1760000000000000"],
        vec!["HSET", KEY, "tokens", "10"],
        vec!["HSET", KEY, "last", "1760000000000000", "tokens", "many"],
        vec!["HSET", KEY, "last", "1760000000000000", "tokens", "-1"],
        vec!["HSET", KEY, "last", "1760000000000000", "tokens", "nan"],
        vec!["HSET", KEY, "last", "1760000000000000", "tokens", "inf"],
        vec!["HSET", KEY, "last", "1760000000000000", "tokens", "1e300"],
        vec!["HSET", KEY, "last", "1760000000000000", "tokens", "0x10"],
        vec!["HSET", KEY, "last", "1760000000000000", "tokens", ""],
        vec!["HSET", KEY, "last", "", "tokens", "10"],
        vec!["HSET", KEY, "last", "yesterday", "tokens", "10"],
        vec!["HSET", KEY, "last", "1760000000000000", "tokens", "9", "frac", "x", "s", &s],
        vec!["HSET", KEY, "last", "1760000000000000", "tokens", "9", "frac", &s, "s", &s],
        vec!["HSET", KEY, "last", "1760000000000000", "tokens", "9", "frac", "0.5", "s", &s],
    ];
    for words in spoiled {
        store.server.run(&["DEL", KEY]);
        store.server.run(&words);
        let looked = store.call(&plan(Purpose::Look, &limit), start);
        assert_eq!((looked.granted, looked.corrupt), (0, 1), "{words:?}");
        let answer = store.call(&plan(Purpose::Spend, &limit), start);
        assert_eq!((answer.granted, answer.corrupt, answer.counters[0].tokens), (0, 1, 0), "{words:?}");
        assert_eq!(answer.counters[0].retry_us, SECOND, "{words:?}");
        let answer = store.call(&plan(Purpose::Spend, &limit), start + SECOND);
        assert_eq!((answer.granted, answer.corrupt), (1, 0), "reported once, then refilled: {words:?}");
        assert!(store.server.int(&["PTTL", KEY]) > 0);
    }
}

#[test]
fn the_script_and_the_arithmetic_read_the_same_texts() {
    use edgequota_counters::bucket::{Bucket, Fields};
    let mut store = Scripted::new();
    let start = 1_760_000_000 * SECOND;
    let counter = enforced(1, 40_000, 3600 * SECOND);
    let s = counter.numbers.grains_per_token.to_string();
    let texts = [
        "0",
        "7",
        "7.9",
        "1e3",
        "1E+3",
        "1e-3",
        ".5",
        "5.",
        ".",
        "e",
        "1e",
        "+5",
        "-0",
        "--5",
        "1.2.3",
        " 5",
        "5 ",
        "9007199254740991",
        "9007199254740992",
        "0000012",
        "1e999",
        "",
        "٣",
        "1_0",
        "1e5.5",
    ];
    for text in texts {
        for field in ["last", "tokens", "frac", "s"] {
            store.server.run(&["DEL", KEY]);
            let last = start.to_string();
            let mut hash = [("last", last.as_str()), ("tokens", "5"), ("frac", "9"), ("s", s.as_str())];
            hash.iter_mut().filter(|(name, _)| *name == field).for_each(|(_, value)| *value = text);
            for (name, value) in hash {
                store.server.run(&["HSET", KEY, name, value]);
            }
            let fields =
                Fields { last: Some(hash[0].1), tokens: Some(hash[1].1), frac: Some(hash[2].1), s: Some(hash[3].1) };
            let answer = store.call(&plan(Purpose::Look, &[(KEY, counter)]), start);
            match Bucket::read(fields, &counter.numbers) {
                None => assert_eq!(answer.corrupt, 1, "{field} = {text:?}"),
                Some(mut bucket) => {
                    bucket.advance(&counter.numbers, start);
                    assert_eq!((answer.corrupt, answer.counters[0].tokens), (0, bucket.tokens), "{field} = {text:?}");
                    let reset = bucket.reset_after_us(&counter.numbers, start);
                    assert_eq!(answer.counters[0].reset_us, reset, "{field} = {text:?}");
                }
            }
        }
    }
}

#[test]
fn one_spoiled_key_among_good_ones_spends_nothing_of_them() {
    let server = RedisServer::start();
    server.run(&["SET", "{rl:edgequota:acme}:b", "spoiled"]);
    let counters = [(KEY, enforced(1, 10, SECOND)), ("{rl:edgequota:acme}:b", enforced(1, 10, 3600 * SECOND))];
    let answer = spend(&server, &counters);
    assert_eq!((answer.granted, answer.corrupt, answer.counters[0].tokens), (0, 1, 10));
    assert_eq!(server.int(&["EXISTS", KEY]), 0);
    assert_eq!(server.hash("{rl:edgequota:acme}:b")["tokens"], "0");
}
