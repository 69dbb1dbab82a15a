//! The access log: one JSON line a request, every field of the contract, nothing secret, never in the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{Edgequota, H2, Origin, Redis, body, client::request, eventually, post};
use serde_json::Value;

const FIELDS: &[&str] = &[
    "time",
    "level",
    "msg",
    "method",
    "path",
    "status",
    "duration_ms",
    "bytes",
    "remote_addr",
    "request_id",
    "user_agent",
    "proto",
    "originalHost",
    "backend_url",
    "backend_protocol",
    "rl_key",
    "tenant_id",
    "policy_version",
    "route",
    "limit",
    "decision",
    "grpc_status",
];

async fn line(eq: &Edgequota, request_id: &str) -> Value {
    eventually(&format!("access line of {request_id}"), Duration::from_secs(10), || async {
        eq.log().with_msg("access").into_iter().find(|l| l["request_id"] == request_id)
    })
    .await
}

async fn setup(more: &str) -> (Origin, Redis, Edgequota) {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let policy = format!(
        "rate_limit: {{ average: 1, burst: 1, period: 1h, key_strategy: {{ type: header, header_name: X-Tenant-Id }} }}\n\
         routes: [{{ name: api, match: {{ path_prefix: /api }} }}]\n{more}"
    );
    let eq = Edgequota::standalone()
        .config(redis.yaml(&["deadline: 2s"]))
        .config(origin.yaml(&[]))
        .config(policy)
        .ready()
        .await;
    (origin, redis, eq)
}

#[tokio::test]
async fn every_field_is_there() {
    let (origin, _redis, eq) = setup("").await;
    let headers = [
        ("x-request-id", "one"),
        ("x-tenant-id", "acme"),
        ("user-agent", "test/1"),
        ("host", "api.example.com"),
        ("x-origin", "length=1234"),
    ];
    post(eq.proxy(), "/api/x?secret=query", &headers, "body").await;
    let l = line(&eq, "one").await;
    for field in FIELDS {
        assert!(l.get(*field).is_some(), "no {field} in {l}");
    }
    assert_eq!((&l["method"], &l["path"], &l["status"]), (&"POST".into(), &"/api/x".into(), &200.into()), "{l}");
    assert_eq!((&l["bytes"], &l["user_agent"]), (&1234.into(), &"test/1".into()), "{l}");
    assert_eq!((&l["originalHost"], &l["proto"]), (&"api.example.com".into(), &"HTTP/1.1".into()), "{l}");
    assert_eq!((&l["rl_key"], &l["tenant_id"]), (&"acme".into(), &"acme".into()), "{l}");
    assert_eq!(
        (&l["route"], &l["limit"], &l["decision"]),
        (&"api".into(), &"default".into(), &"allowed".into()),
        "{l}"
    );
    assert!(l["backend_url"].as_str().unwrap().starts_with(&origin.url()), "{l}");
    assert!(l["remote_addr"].as_str().unwrap().starts_with("127.0.0.1"), "{l}");
    assert!(l["duration_ms"].is_number() && !l["policy_version"].as_str().unwrap().is_empty(), "{l}");
    assert!(!l.to_string().contains("secret"), "the query is in the log: {l}");

    post(eq.proxy(), "/api/x", &[("x-request-id", "two"), ("x-tenant-id", "acme")], "body").await;
    let l = line(&eq, "two").await;
    assert_eq!((&l["status"], &l["decision"]), (&429.into(), &"limited".into()), "{l}");
}

#[tokio::test]
async fn hostile_values_stay_one_line_of_json() {
    let (_origin, _redis, eq) = setup("").await;
    let agent = "a\"b\\c\td";
    let headers = [("x-request-id", "one"), ("x-tenant-id", "t\"x"), ("user-agent", agent)];
    eq.get("/quote%22/x", &headers).await;
    let l = line(&eq, "one").await;
    assert!(l["user_agent"].as_str().unwrap().starts_with("a\"b\\c\td"), "{l}");
    assert_eq!(l["rl_key"], "t\"x");
}

#[tokio::test]
async fn every_way_out_is_logged_once() {
    let (_origin, _redis, eq) = setup("").await;
    let cases = [
        ("ok", &[("x-tenant-id", "a")][..], 200),
        ("limited", &[("x-tenant-id", "a")], 429),
        ("no-key", &[], 500),
        ("dropped", &[("x-tenant-id", "b"), ("x-origin", "drop=head")], 502),
    ];
    for (id, headers, status) in cases {
        let mut all = vec![("x-request-id", id)];
        all.extend(headers);
        assert_eq!(eq.get("/", &all).await.status.as_u16(), status, "{id}");
        assert_eq!(line(&eq, id).await["status"], status, "{id}");
    }
    let lines = eq.log().with_msg("access");
    assert_eq!(lines.len(), cases.len(), "{lines:?}");
}

#[tokio::test]
async fn grpc_statuses_are_in_the_log() {
    let (_origin, _redis, eq) = setup("").await;
    let client = H2::connect(eq.proxy()).await;
    for (id, status) in [("g1", 200), ("g2", 200)] {
        let headers =
            [("content-type", "application/grpc"), ("te", "trailers"), ("x-tenant-id", "g"), ("x-request-id", id)];
        let answer = client.send(request("POST", "h", "/p.S/M", &headers, body::empty())).await.unwrap();
        assert_eq!(answer.status, status);
    }
    let l = line(&eq, "g2").await;
    assert_eq!(
        (&l["grpc_status"], &l["decision"], &l["proto"]),
        (&"8".into(), &"limited".into(), &"HTTP/2.0".into()),
        "{l}"
    );
}

#[tokio::test]
async fn it_can_be_turned_off_and_on_while_running() {
    let (origin, _redis, eq) = setup("logging: { access_log_enabled: false }\n").await;
    let policy = |on: bool| {
        format!("redis: {{ mode: embedded }}\n{}logging: {{ access_log_enabled: {on} }}\n", origin.yaml(&[]))
    };
    eq.get("/", &[("x-tenant-id", "a")]).await;
    eq.write_config(&policy(true));
    eventually("an access line", Duration::from_secs(10), || async {
        eq.get("/", &[]).await;
        (!eq.log().with_msg("access").is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stdout_that_nobody_reads_delays_no_request() {
    let origin = Origin::start().await;
    let yaml = format!("redis: {{ mode: embedded }}\n{}", origin.yaml(&[]));
    let blocked = edgequota_tests::edgequota::Blocked::start(&yaml).await;
    let agent = "x".repeat(4000);
    for n in 0..2000 {
        let start = std::time::Instant::now();
        let answer = edgequota_tests::get(blocked.proxy, "/", &[("user-agent", &agent)]).await;
        assert_eq!(answer.status, 200);
        assert!(start.elapsed() < Duration::from_secs(2), "request {n} took {:?}", start.elapsed());
    }
    let text = edgequota_tests::get(blocked.admin, "/metrics", &[]).await.text();
    let dropped = edgequota_tests::Metrics::parse(&text).sum("edgequota_access_log_dropped_total", &[]);
    assert!(dropped > 0.0, "8 MiB of lines fitted nowhere, yet none was dropped");
}
