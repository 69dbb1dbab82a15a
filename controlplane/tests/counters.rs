//! `/v1/counters/{subject}`: reads, resets, sets and adds, for whom and how it is told.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use edgequota_counters::{Ask, Verdict};
use edgequota_policy::{Policy, limit::Subject};
use serde_json::{Value, json};
use support::{
    Home, Running, http,
    plane::{Plane, Said},
};

const TOKEN: &str = "s3cret-of-the-admin";
const POLICY: &str = r#"
backend: { url: "http://backend:8080" }
rate_limit: { average: 1, burst: 10, period: 1h, key_strategy: { type: header, header_name: X-Tenant-Id } }
routes:
  - name: search
    match: { path_prefix: /search }
    rate_limit: { average: 5, burst: 20, period: 1h, cost: 5 }
    limits:
      - { name: seen, average: 7, period: 1h, mode: shadow }
      - { name: by-address, average: 7, period: 1h, key_strategy: { type: clientIP } }
  - name: login
    match: { path_exact: /login }
    rate_limit: { average: 3, burst: 3, period: 1h, key_strategy: { type: header, header_name: Authorization } }
overrides:
  - { keys: [acme], limit: search, burst: 50 }
  - { keys: [mallory], limit: default, block: true }
"#;

async fn with_policy() -> (Home, Running) {
    let mut home = Home::new();
    home.token = TOKEN.into();
    home.write("policy.yaml", POLICY);
    let running = home.start().await;
    running.average(1).await;
    (home, running)
}

/// Spends as data planes do.
async fn spend(running: &Running, limit: &str, subject: &str, times: usize) {
    let spec = edgequota_config::Document::parse("p", POLICY).unwrap().policy(None).unwrap().resolved();
    let policy = Policy::compile(&spec).unwrap();
    let limit = std::sync::Arc::clone(policy.limit(limit).unwrap());
    let subject = Subject { raw: subject.into(), secret: limit.shows_hash() };
    let effective = limit.effective(&subject);
    let ask = Ask { limit, subject, effective };
    let counters = running.counters.clone();
    tokio::task::LocalSet::new()
        .run_until(async move {
            let spender = counters.spender(0);
            for _ in 0..times {
                let decision = spender.spend(std::slice::from_ref(&ask)).await;
                assert!(matches!(decision.verdict, Verdict::Allowed(_)), "{:?}", decision.verdict);
            }
        })
        .await;
}

/// The next word of the control plane; heartbeats alone do not keep a test alive.
async fn hint(plane: &mut Plane) -> Said {
    tokio::time::timeout(Duration::from_secs(10), plane.next()).await.expect("a word within 10 s").unwrap()
}

async fn change(running: &Running, method: &str, path: &str, body: &str) -> (u16, Value) {
    http::json(http::with_token(running.admin, method, path, body, Some(TOKEN)).await)
}

fn counter<'a>(answer: &'a Value, limit: &str) -> &'a Value {
    let all = answer["counters"].as_array().unwrap_or_else(|| panic!("{answer}"));
    all.iter().find(|counter| counter["limit"] == limit).unwrap_or_else(|| panic!("no {limit}: {answer}"))
}

fn limits(answer: &Value) -> Vec<&str> {
    answer["counters"].as_array().unwrap().iter().map(|counter| counter["limit"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_counter_of_a_subject_is_read_and_those_in_use_come_first() {
    let (_home, running) = with_policy().await;
    spend(&running, "search", "acme", 2).await;
    let (status, answer) = http::get(running.admin, "/v1/counters/acme").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(limits(&answer), ["search", "default", "search/seen", "login"]);
    assert_eq!((&answer["total"], &answer["skipped"]), (&json!(4), &json!(1)), "an address is no tenant");
    assert!(answer.get("truncated").is_none() && answer.get("changed").is_none(), "{answer}");
    let search = counter(&answer, "search");
    assert_eq!((&search["tokens"], &search["burst"], &search["cost"]), (&json!(40), &json!(50), &json!(5)), "{search}");
    assert_eq!((&search["full"], &search["retry_ms"]), (&json!(false), &json!(0)));
    let reset = search["reset_ms"].as_u64().unwrap();
    assert!(reset > 7_100_000 && reset <= 7_200_000, "10 tokens of 5 an hour take two hours, not {reset} ms");
    assert_eq!(search["counter_key"], "{rl:edgequota:acme}:search");
    assert_eq!(search["sources"][1]["from"], "overrides[0] (limit search, 1 key)");
    let seen = counter(&answer, "search/seen");
    assert_eq!((&seen["mode"], &seen["tokens"], &seen["full"]), (&json!("shadow"), &json!(7), &json!(true)));
    let (_, one) = http::get(running.admin, "/v1/counters/acme?limit=search%2Fseen").await;
    assert_eq!(limits(&one), ["search/seen"]);
    let (_, blocked) = http::get(running.admin, "/v1/counters/mallory?limit=default").await;
    assert_eq!((&blocked["counters"][0]["blocked"], &blocked["counters"][0]["tokens"]), (&json!(true), &json!(10)));
    running.stop().await;
}

#[tokio::test]
async fn a_reset_fills_what_is_not_full() {
    let (_home, running) = with_policy().await;
    spend(&running, "search", "acme", 10).await;
    spend(&running, "default", "acme", 3).await;
    let (status, answer) = change(&running, "DELETE", "/v1/counters/acme?limit=default", "").await;
    assert_eq!((status, &answer["changed"]), (200, &json!(1)), "{answer}");
    let default = counter(&answer, "default");
    assert_eq!((&default["before"], &default["tokens"], &default["full"]), (&json!(7), &json!(10), &json!(true)));
    let (_, answer) = change(&running, "DELETE", "/v1/counters/acme", "").await;
    assert_eq!((&answer["changed"], limits(&answer)[0]), (&json!(1), "search"));
    let (_, again) = change(&running, "DELETE", "/v1/counters/acme", "").await;
    assert_eq!(again["changed"], 0, "{again}");
    let (_, answer) = http::get(running.admin, "/v1/counters/acme").await;
    assert!(answer["counters"].as_array().unwrap().iter().all(|counter| counter["full"] == true), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn tokens_are_set_and_added_between_none_and_the_burst_of_the_subject() {
    let (_home, running) = with_policy().await;
    let tokens = async |body: &str| {
        let (status, answer) = change(&running, "PATCH", "/v1/counters/acme", body).await;
        assert_eq!(status, 200, "{answer}");
        counter(&answer, "search")["tokens"].as_u64().unwrap()
    };
    assert_eq!(tokens(r#"{"limit":"search","tokens":7}"#).await, 7);
    assert_eq!(tokens(r#"{"limit":"search","add":5}"#).await, 12);
    assert_eq!(tokens(r#"{"limit":"search","add":-2}"#).await, 10);
    assert_eq!(tokens(r#"{"limit":"search","add":-1000}"#).await, 0);
    assert_eq!(tokens(r#"{"limit":"search","tokens":1000}"#).await, 50, "the override's burst is the most");
    assert_eq!(tokens(r#"{"tokens":3}"#).await, 3);
    let (_, answer) = http::get(running.admin, "/v1/counters/acme").await;
    let left: Vec<&Value> = answer["counters"].as_array().unwrap().iter().map(|counter| &counter["tokens"]).collect();
    assert_eq!(left, [3, 3, 3, 3], "no limit named: all of them");
    let (_, other) = http::get(running.admin, "/v1/counters/globex").await;
    assert!(other["counters"].as_array().unwrap().iter().all(|counter| counter["full"] == true));
    running.stop().await;
}

#[tokio::test]
async fn subjects_with_odd_characters_are_meant_as_they_are() {
    let (_home, running) = with_policy().await;
    let long = "x".repeat(300);
    for (raw, path) in [
        ("a/b", "a%2Fb"),
        ("a/c", "a/c"),
        ("{a}:b", "%7Ba%7D:b"),
        ("50%", "50%25"),
        ("%2F", "%252F"),
        ("sm\u{f8}r", "sm%C3%B8r"),
        ("a+b c", "a+b%20c"),
        ("t:acme", "t:acme"),
        (long.as_str(), long.as_str()),
    ] {
        spend(&running, "default", raw, 4).await;
        let (status, answer) = http::get(running.admin, &format!("/v1/counters/{path}?limit=default")).await;
        assert_eq!((status, &answer["counters"][0]["tokens"]), (200, &json!(6)), "{raw}: {answer}");
        assert_eq!(answer["subject"], raw);
    }
    spend(&running, "search/by-address", "2001:db8::/64", 4).await;
    for path in ["2001:db8::77", "2001:db8::/64", "2001:db8::%2F64"] {
        let (_, answer) = http::get(running.admin, &format!("/v1/counters/{path}?limit=search/by-address")).await;
        assert_eq!(answer["counters"][0]["tokens"], 3, "{path}: {answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_a_bad_request() {
    let (_home, running) = with_policy().await;
    for (method, path, body, words) in [
        ("GET", "/v1/counters", "", "name a subject"),
        ("GET", "/v1/counters/", "", "name a subject"),
        ("GET", "/v1/counters/a%zz", "", "%25"),
        ("GET", "/v1/counters/acme?limits=default", "", "known is limit"),
        ("GET", "/v1/counters/acme?limit=dfault", "", "unknown limit \"dfault\""),
        ("GET", "/v1/counters/acme?limit=search/by-address", "", "counts by clientIP"),
        ("DELETE", "/v1/counters/acme", "{\"limit\":\"default\"}", "DELETE takes no body"),
        ("PATCH", "/v1/counters/acme", "", "no JSON"),
        ("PATCH", "/v1/counters/acme", "{\"tokens\":1,\"add\":1}", "exclude each other"),
        ("PATCH", "/v1/counters/acme", "{\"tokens\":1,\"limit\":\"x\"}", "unknown limit"),
        ("PATCH", "/v1/counters/acme?limit=default", "{\"tokens\":1}", "in the body"),
    ] {
        let (status, answer) = change(&running, method, path, body).await;
        assert_eq!((status, &answer["error"]), (400, &json!("bad_request")), "{method} {path} {body}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(words), "{method} {path} {body}: {answer}");
    }
    let large = format!("{{\"tokens\":1,\"limit\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(change(&running, "PATCH", "/v1/counters/acme", &large).await.0, 413);
    let (_, answer) = http::get(running.admin, "/v1/counters/acme").await;
    assert!(answer["counters"].as_array().unwrap().iter().all(|counter| counter["full"] == true), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn changing_needs_the_admin_token() {
    let (mut home, running) = with_policy().await;
    for (method, body) in [("DELETE", ""), ("PATCH", "{\"tokens\":0}")] {
        for token in [None, Some("wrong"), Some("")] {
            let answer = http::with_token(running.admin, method, "/v1/counters/acme", body, token).await;
            assert_eq!(answer.status(), 401, "{method} {token:?}");
        }
    }
    assert_eq!(http::get(running.admin, "/v1/counters/acme").await.1["counters"][0]["full"], true);
    running.stop().await;
    home.token = String::new();
    let open = home.start().await;
    open.average(1).await;
    let answer = http::with_token(open.admin, "DELETE", "/v1/counters/acme", "", Some("")).await;
    assert_eq!(answer.status(), 403);
    open.stop().await;
}

#[tokio::test]
async fn a_credential_is_never_shown() {
    let (_home, running) = with_policy().await;
    spend(&running, "login", "Bearer hunter2", 2).await;
    for path in ["/v1/counters/Bearer%20hunter2", "/v1/counters/Bearer%20hunter2?limit=login"] {
        let (status, answer) = http::get(running.admin, path).await;
        assert_eq!((status, &counter(&answer, "login")["tokens"]), (200, &json!(1)), "{answer}");
        assert!(!answer.to_string().contains("hunter2"), "{answer}");
        assert!(answer["subject"].as_str().unwrap().starts_with("sha256:"), "{answer}");
    }
    let (_, answer) = change(&running, "DELETE", "/v1/counters/Bearer%20hunter2?limit=login", "").await;
    assert_eq!(counter(&answer, "login")["tokens"], 3);
    assert!(!answer.to_string().contains("hunter2"), "{answer}");
    let (_, refused) = http::get(running.admin, "/v1/counters/Bearer%20hunter2?limit=nobody").await;
    assert!(!refused.to_string().contains("hunter2"), "{refused}");
    running.stop().await;
}

#[tokio::test]
async fn data_planes_are_told_of_changes_and_of_credentials_only_where_those_may_go() {
    let (_home, running) = with_policy().await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    plane.take().await;
    change(&running, "PATCH", "/v1/counters/acme", r#"{"limit":"default","tokens":1}"#).await;
    change(&running, "PATCH", "/v1/counters/hunter2", r#"{"limit":"login","tokens":1}"#).await;
    change(&running, "PATCH", "/v1/counters/acme", r#"{"limit":"search","tokens":1}"#).await;
    // A full bucket that is filled changes nothing, and nobody is told.
    change(&running, "DELETE", "/v1/counters/globex", "").await;
    change(&running, "DELETE", "/v1/counters/acme?limit=default", "").await;
    let mut told = Vec::new();
    while told.len() < 3 {
        match hint(&mut plane).await {
            Said::CounterReset(reset) => told.extend(reset.keys),
            other => panic!("a hint, not {other:?}"),
        }
    }
    assert_eq!(told, ["rl:edgequota:acme", "{rl:edgequota:acme}:search", "rl:edgequota:acme"]);
    running.stop().await;
}

#[tokio::test]
async fn an_answer_is_bounded_and_a_change_is_not() {
    let home = Home { token: TOKEN.into(), ..Home::new() };
    let routes: Vec<Value> = (0..1100)
        .map(|n| json!({ "name": format!("r{n}"), "match": { "path_exact": format!("/{n}") }, "rate_limit": { "average": 5, "period": "1h" } }))
        .collect();
    let strategy = json!({ "type": "header", "header_name": "X-T" });
    let policy = json!({ "backend": { "url": "http://b:1" }, "rate_limit": { "average": 1, "burst": 5, "key_strategy": strategy }, "routes": routes });
    home.write("policy.yaml", &policy.to_string());
    let running = home.start().await;
    running.average(1).await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    plane.take().await;
    let (status, answer) = change(&running, "PATCH", "/v1/counters/acme", r#"{"limit":"r1099","tokens":2}"#).await;
    assert_eq!(status, 200, "{answer}");
    let (_, answer) = http::get(running.admin, "/v1/counters/acme").await;
    assert_eq!((answer["total"].as_u64(), answer["counters"].as_array().unwrap().len()), (Some(1101), 1000));
    assert!(answer["truncated"].as_str().unwrap().contains("limit=NAME"), "{}", answer["truncated"]);
    assert_eq!(answer["counters"][0]["limit"], "r1099", "what is not full is never cut off");
    let (_, answer) = change(&running, "PATCH", "/v1/counters/acme", r#"{"add":-1}"#).await;
    assert_eq!(answer["changed"], 1101);
    let (_, last) = http::get(running.admin, "/v1/counters/acme?limit=r1098&limit=r1099").await;
    assert_eq!((&counter(&last, "r1098")["tokens"], &counter(&last, "r1099")["tokens"]), (&json!(4), &json!(1)));
    // The stream is as good as before, whatever of the hints was dropped.
    home.write("policy.yaml", &policy.to_string().replace("\"average\":1,", "\"average\":2,"));
    let newest = support::eventually("the next policy", async || match hint(&mut plane).await {
        Said::Snapshot(snapshot) => Some(snapshot),
        Said::CounterReset(_) => None,
        other => panic!("{other:?}"),
    });
    newest.await;
    running.stop().await;
}
