//! The counters of a caller on the control plane's admin port: read, reset, set, added to, by whoever has the token; and
//! every data plane knows within a second.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_tests::{
    Answer, Edgequota, Fleet, Origin, Redis, body,
    client::{get, send},
    eventually,
};
use serde_json::{Value, json};

const TOKEN: &str = "s3cret-of-the-admin";

fn policy(origin: &Origin) -> String {
    format!(
        "{}rate_limit:\n  average: 1\n  burst: 10\n  period: 1h\n  key_strategy: {{ type: header, header_name: X-Tenant-Id }}\n\
         routes:\n- name: search\n  match: {{ path_prefix: /search }}\n  \
         rate_limit: {{ average: 5, burst: 20, period: 1h, cost: 5 }}\n  limits:\n  \
         - {{ name: seen, average: 2, burst: 2, period: 1h, mode: shadow }}\n\
         - name: login\n  match: {{ path_exact: /login }}\n  \
         rate_limit: {{ average: 3, burst: 3, period: 1h, key_strategy: {{ type: header, header_name: Authorization }} }}\n\
         overrides:\n- {{ keys: [acme], limit: search, burst: 30 }}\n",
        origin.yaml(&[])
    )
}

async fn start(planes: usize) -> (Origin, Redis, Fleet) {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let settings = format!("{}admin: {{ token: {TOKEN} }}\nserver: {{ workers: 2 }}\n", redis.yaml(&["deadline: 2s"]));
    let fleet = Fleet::start(planes, &settings, &policy(&origin)).await;
    (origin, redis, fleet)
}

async fn change(control: &Edgequota, method: &str, path: &str, content: &str) -> Answer {
    let bearer = format!("Bearer {TOKEN}");
    send(control.admin(), method, path, &[("authorization", &bearer)], body::full(content.to_owned())).await
}

async fn changed(control: &Edgequota, method: &str, path: &str, content: &str) -> Value {
    let answer = change(control, method, path, content).await;
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    answer.json()
}

fn counter<'a>(answer: &'a Value, limit: &str) -> &'a Value {
    let all = answer["counters"].as_array().unwrap_or_else(|| panic!("{answer}"));
    all.iter().find(|counter| counter["limit"] == limit).unwrap_or_else(|| panic!("no {limit}: {answer}"))
}

/// Spends all of the default limit of `subject` and has every worker remember the refusal.
async fn exhaust(planes: &[Edgequota], subject: &str) {
    for _ in 0..10 {
        assert_eq!(planes[0].get("/", &[("x-tenant-id", subject)]).await.status, 200);
    }
    for plane in planes {
        for _ in 0..10 {
            assert_eq!(plane.get("/", &[("x-tenant-id", subject)]).await.status, 429);
        }
    }
}

#[tokio::test]
async fn what_data_planes_spent_is_read_reset_set_and_added_to() {
    let (_origin, redis, fleet) = start(1).await;
    let (plane, control) = (&fleet.planes[0], fleet.control());
    let acme = [("x-tenant-id", "acme")];
    for left in [25, 20, 15] {
        let real = plane.get("/search", &acme).await;
        assert_eq!((real.status.as_u16(), real.number("x-ratelimit-remaining")), (200, left), "a request costs five");
    }
    let answer = control.admin_json("/v1/counters/acme").await;
    assert_eq!(answer["policy"], fleet.version().await);
    let search = counter(&answer, "search");
    assert_eq!((&search["tokens"], &search["burst"], &search["cost"]), (&json!(15), &json!(30), &json!(5)), "{search}");
    assert_eq!(search["sources"].as_array().unwrap().len(), 2, "{search}");
    let key = search["counter_key"].as_str().unwrap();
    assert_eq!(redis.hget(key, "tokens").await.as_deref(), Some("15"), "the key is the store's");
    let seen = counter(&answer, "search/seen");
    assert_eq!((&seen["tokens"], &seen["mode"]), (&json!(0), &json!("shadow")), "{seen}");
    assert_eq!(counter(&answer, "default")["full"], true);

    let answer = changed(control, "PATCH", "/v1/counters/acme", r#"{"limit":"search","tokens":4}"#).await;
    assert_eq!((&counter(&answer, "search")["before"], &counter(&answer, "search")["tokens"]), (&json!(15), &json!(4)));
    assert_eq!(plane.get("/search", &acme).await.status, 429, "four are too few for one that costs five");
    changed(control, "PATCH", "/v1/counters/acme", r#"{"limit":"search","add":1}"#).await;
    eventually("five are enough", Duration::from_secs(2), || async {
        (plane.get("/search", &acme).await.status == 200).then_some(())
    })
    .await;
    let answer = changed(control, "PATCH", "/v1/counters/acme", r#"{"limit":"search","tokens":1000}"#).await;
    assert_eq!(counter(&answer, "search")["tokens"], 30, "the override's burst is the most");
    changed(control, "PATCH", "/v1/counters/acme", r#"{"limit":"search","add":-1000}"#).await;
    assert_eq!(counter(&control.admin_json("/v1/counters/acme").await, "search")["tokens"], 0);

    let answer = changed(control, "DELETE", "/v1/counters/acme?limit=search", "").await;
    assert_eq!(answer["changed"], 1, "{answer}");
    let answer = changed(control, "DELETE", "/v1/counters/acme", "").await;
    assert_eq!((&answer["changed"], &counter(&answer, "search/seen")["before"]), (&json!(1), &json!(0)), "{answer}");
    let answer = control.admin_json("/v1/counters/acme").await;
    assert!(answer["counters"].as_array().unwrap().iter().all(|c| c["full"] == true), "{answer}");
    const LINE: &str = "an administrator changed a counter";
    let lines = eventually("a line for each change", Duration::from_secs(5), || async {
        let lines = control.log().with_msg(LINE);
        (lines.len() >= 6).then_some(lines)
    })
    .await;
    let last = lines.iter().rev().find(|line| line["limit"] == "search").unwrap();
    assert_eq!((&last["subject"], &last["change"]), (&json!("acme"), &json!("reset")), "{last}");
    assert_eq!((&last["before"], &last["after"]), (&json!(0), &json!(30)), "{last}");
    assert!(last["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{last}");
    // Without a limit's name, "acme" might be one of the credentials that limit login counts.
    let all = lines.iter().rev().find(|line| line["limit"] == "search/seen").unwrap();
    assert!(all["subject"].as_str().unwrap().starts_with("sha256:"), "{all}");
}

#[tokio::test]
async fn an_exhausted_caller_may_call_again_within_a_second_everywhere() {
    let (_origin, _redis, mut fleet) = start(2).await;
    exhaust(&fleet.planes, "acme").await;
    let allowed_on_both = async |fleet: &Fleet, since: Instant| {
        for plane in &fleet.planes {
            let allowed = eventually("allowed again", Duration::from_secs(5), || async {
                (plane.get("/", &[("x-tenant-id", "acme")]).await.status == 200).then_some(())
            });
            allowed.await;
        }
        since.elapsed()
    };
    changed(fleet.control(), "DELETE", "/v1/counters/acme", "").await;
    let took = allowed_on_both(&fleet, Instant::now()).await;
    assert!(took < Duration::from_secs(1), "with a hint it took {took:?}");

    // Without a hint: a control plane that no data plane is connected to has the same store.
    changed(fleet.control(), "PATCH", "/v1/counters/acme", r#"{"tokens":0}"#).await;
    for plane in &fleet.planes {
        eventually("refused again", Duration::from_secs(2), || async {
            (plane.get("/", &[("x-tenant-id", "acme")]).await.status == 429).then_some(())
        })
        .await;
    }
    fleet.kill_control();
    fleet.port = edgequota_tests::ports::free_port();
    fleet.start_control().await;
    fleet.version().await;
    for plane in &fleet.planes {
        assert_eq!(plane.get("/", &[("x-tenant-id", "acme")]).await.status, 429);
    }
    changed(fleet.control(), "DELETE", "/v1/counters/acme", "").await;
    let took = allowed_on_both(&fleet, Instant::now()).await;
    assert!(took < Duration::from_millis(1500), "without a hint it took {took:?}");
}

#[tokio::test]
async fn odd_subjects_are_the_ones_that_are_counted() {
    let (_origin, _redis, fleet) = start(1).await;
    let long = "long-".repeat(60);
    for (raw, path) in [
        ("a/b", "a%2Fb"),
        ("{a}", "%7Ba%7D"),
        ("50%", "50%25"),
        ("sm\u{f8}r", "sm%C3%B8r"),
        ("t:acme", "t:acme"),
        (long.as_str(), long.as_str()),
    ] {
        assert_eq!(fleet.planes[0].get("/", &[("x-tenant-id", raw)]).await.status, 200);
        let answer = fleet.control().admin_json(&format!("/v1/counters/{path}?limit=default")).await;
        assert_eq!(answer["counters"][0]["tokens"], 9, "{raw}: {answer}");
        let answer = changed(fleet.control(), "DELETE", &format!("/v1/counters/{path}"), "").await;
        assert_eq!((&answer["changed"], &counter(&answer, "default")["tokens"]), (&json!(1), &json!(10)), "{raw}");
    }
}

#[tokio::test]
async fn only_who_has_the_token_changes_anything_and_a_credential_is_nowhere_in_clear() {
    let (_origin, _redis, fleet) = start(1).await;
    let control = fleet.control();
    for (method, content) in [("DELETE", ""), ("PATCH", r#"{"tokens":0}"#)] {
        let answer = send(control.admin(), method, "/v1/counters/acme", &[], body::full(content)).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (401, "unauthorized"), "{method}");
        let wrong = [("authorization", "Bearer wrong")];
        assert_eq!(send(control.admin(), method, "/v1/counters/acme", &wrong, body::full(content)).await.status, 401);
    }
    for content in ["", "{}", "[]", "{\"tokens\":-1}", "{\"tokens\":1,\"add\":1}", "{\"burst\":1}"] {
        let answer = change(control, "PATCH", "/v1/counters/acme", content).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "bad_request"), "{content}");
    }
    let plane = &fleet.planes[0];
    plane.get("/login", &[("authorization", "Bearer hunter2")]).await;
    let mut said = get(control.admin(), "/v1/counters/Bearer%20hunter2", &[]).await.text();
    assert!(said.contains("sha256:"), "{said}");
    let answer = changed(control, "DELETE", "/v1/counters/Bearer%20hunter2", "").await;
    assert_eq!((&answer["changed"], &counter(&answer, "login")["before"]), (&json!(1), &json!(2)), "{answer}");
    said.push_str(&answer.to_string());
    said.push_str(&change(control, "PATCH", "/v1/counters/Bearer%20hunter2", r#"{"tokens":1}"#).await.text());
    control.log().until("an administrator changed a counter", Duration::from_secs(5)).await;
    said.push_str(&control.log().text());
    said.push_str(&plane.log().text());
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn without_a_token_nothing_is_changed_and_without_a_store_it_is_told() {
    let (origin, mut redis) = (Origin::start().await, Redis::start().await);
    let mut fleet = Fleet::control_only(&redis.yaml(&[]), &policy(&origin)).await;
    fleet.version().await;
    let forbidden = change(fleet.control(), "DELETE", "/v1/counters/acme", "").await;
    assert_eq!((forbidden.status.as_u16(), forbidden.error().as_str()), (403, "forbidden"));
    redis.kill();
    eventually("the store is said to be away", Duration::from_secs(10), || async {
        let answer = fleet.control().admin_get("/v1/counters/acme").await;
        (answer.status == 503 && answer.error() == "store_unavailable").then_some(())
    })
    .await;
    redis.restart().await;
    eventually("it is back", Duration::from_secs(40), || async {
        (fleet.control().admin_get("/v1/counters/acme").await.status == 200).then_some(())
    })
    .await;
    fleet.kill_control();
}
