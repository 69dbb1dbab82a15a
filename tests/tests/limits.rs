//! Limits in front of a real Redis: who is counted, what answers say, what refusals look like.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{Answer, Edgequota, Origin, Raw, Redis, body, client::send, eventually, get};

/// One hour: nothing refills while a test runs.
const SLOW: &str = "average: 1, period: 1h";

struct Setup {
    origin: Origin,
    redis: Redis,
    eq: Edgequota,
}

/// A proxy with this policy in front of an origin, counting in Redis.
async fn setup(policy: &str) -> Setup {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let eq = Edgequota::standalone()
        .config(redis.yaml(&["deadline: 2s"]))
        .config(origin.yaml(&[]))
        .config(policy)
        .ready()
        .await;
    Setup { origin, redis, eq }
}

fn is_refused(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (429, "rate_limited"), "{}", answer.text());
}

#[tokio::test]
async fn a_bucket_starts_full_and_refuses_when_empty() {
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 3 }}\n")).await;
    for left in [2, 1, 0] {
        let answer = s.eq.get("/", &[]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.number("x-ratelimit-limit"), 3);
        assert_eq!(answer.number("x-ratelimit-remaining"), left);
        let full_in = (3 - left) * 3600;
        assert!((full_in - 5..=full_in).contains(&answer.number("x-ratelimit-reset")), "{:?}", answer.headers);
    }
    let answer = s.eq.get("/", &[]).await;
    is_refused(&answer);
    assert_eq!((answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining")), (3, 0));
    let wait = answer.number("retry-after");
    assert!((3590..=3600).contains(&wait), "{wait}");
    let body = answer.json();
    assert_eq!(body["retry_after"], wait);
    assert_eq!(body["request_id"], answer.header("x-request-id"));
    assert!(answer.header("x-retry-in").starts_with("59m") || answer.header("x-retry-in") == "1h0m0s");
    assert_eq!(s.origin.requests(), 3, "a refused request does not reach the backend");
    assert_eq!(s.redis.keys().await, ["rl:edgequota:127.0.0.1"]);
}

#[tokio::test]
async fn tokens_come_back_at_the_stated_rate() {
    let s = setup("rate_limit: { average: 2, burst: 1, period: 1s }\n").await;
    assert_eq!(s.eq.get("/", &[]).await.status, 200);
    let refused = s.eq.get("/", &[]).await;
    is_refused(&refused);
    assert_eq!(refused.number("retry-after"), 1, "rounded up, at least 1");
    assert!(refused.header("x-retry-in").ends_with("ms"), "{}", refused.header("x-retry-in"));
    let start = std::time::Instant::now();
    let limit = Duration::from_secs(5);
    s.eq.until_answer("a token is back", "/", &[], limit, |a| a.status == 200).await;
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_counter_in_redis_is_a_hash_that_lives_long_enough() {
    let s = setup("rate_limit: { average: 10, burst: 50, period: 1s }\n").await;
    s.eq.get("/", &[]).await;
    let key = "rl:edgequota:127.0.0.1";
    assert_eq!(s.redis.hget(key, "tokens").await.as_deref(), Some("49"));
    let last: u128 = s.redis.hget(key, "last").await.unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    assert!(now.abs_diff(last) < 5_000_000, "last is {last}, now is {now} microseconds");
    // need = 50/10 s + 1 s + 2 s; set to twice that and at most a tenth more.
    let ttl = s.redis.pttl(key).await;
    assert!((15_000..=17_600).contains(&ttl), "{ttl} ms");
}

#[tokio::test]
async fn the_prefix_of_keys_can_be_set() {
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 3, key_prefix: edge1 }}\n")).await;
    s.eq.get("/", &[]).await;
    assert_eq!(s.redis.keys().await, ["rl:edge1:127.0.0.1"]);
}

#[tokio::test]
async fn average_zero_is_no_limit_and_no_call() {
    let s = setup("rate_limit: { average: 0, burst: 1 }\n").await;
    for _ in 0..5 {
        let answer = s.eq.get("/", &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-ratelimit-limit")), (200, ""));
    }
    assert!(s.redis.keys().await.is_empty());
    assert_eq!(s.eq.metrics().await.sum("edgequota_requests_allowed_total", &[]), 5.0);
}

#[tokio::test]
async fn buckets_of_an_original_that_wrote_fractions_are_taken_over() {
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 10 }}\n")).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros().to_string();
    let fields = ["rl:edgequota:127.0.0.1", "last", now.as_str(), "tokens", "2.75"];
    let _: i64 = redis::cmd("HSET").arg(&fields).query_async(&mut s.redis.connection().await).await.unwrap();
    for wanted in [200, 200, 429] {
        assert_eq!(s.eq.get("/", &[]).await.status.as_u16(), wanted);
    }
}

#[tokio::test]
async fn garbage_in_a_counter_is_an_empty_bucket_never_an_open_gate() {
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 10, failure_policy: failClosed }}\n")).await;
    let mut redis = s.redis.connection().await;
    let fields = ["rl:edgequota:127.0.0.1", "last", "yesterday", "tokens", "many"];
    let _: i64 = redis::cmd("HSET").arg(&fields).query_async(&mut redis).await.unwrap();
    is_refused(&s.eq.get("/", &[]).await);
    let _: i64 = redis::cmd("DEL").arg("rl:edgequota:127.0.0.1").query_async(&mut redis).await.unwrap();
    let _: () = redis::cmd("SET").arg("rl:edgequota:127.0.0.1").arg("x").query_async(&mut redis).await.unwrap();
    is_refused(&s.eq.get("/", &[]).await);
}

#[tokio::test]
async fn client_ip_believes_only_trusted_proxies() {
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 9 }}\n")).await;
    s.eq.get("/", &[("x-forwarded-for", "9.9.9.9"), ("x-real-ip", "8.8.8.8")]).await;
    assert_eq!(s.redis.keys().await, ["rl:edgequota:127.0.0.1"]);
}

#[tokio::test]
async fn client_ip_behind_trusted_proxies() {
    let strategy = "key_strategy: { type: clientIP, trusted_proxies: [127.0.0.1, 10.0.0.0/8]";
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 9, {strategy} }} }}\n")).await;
    let cases = [
        (&[("x-forwarded-for", "1.1.1.1, 2.2.2.2")][..], "2.2.2.2"),
        (&[("x-forwarded-for", "1.1.1.1, 3.3.3.3, 10.0.0.7")], "3.3.3.3"),
        (&[("x-forwarded-for", "4.4.4.4, nonsense")], "127.0.0.1"),
        (&[("x-real-ip", "5.5.5.5")], "5.5.5.5"),
        (&[("x-forwarded-for", "6.6.6.6"), ("x-real-ip", "5.5.5.6")], "6.6.6.6"),
        (&[("x-forwarded-for", "::ffff:7.7.7.7")], "7.7.7.7"),
    ];
    for (headers, subject) in cases {
        let mut redis = s.redis.connection().await;
        let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
        s.eq.get("/", headers).await;
        assert_eq!(s.redis.keys().await, [format!("rl:edgequota:{subject}")], "{headers:?}");
    }
    let _: () = redis::cmd("FLUSHALL").query_async(&mut s.redis.connection().await).await.unwrap();
    s.eq.get("/", &[("x-forwarded-for", "2001:db8:1:2:aaaa::1")]).await;
    s.eq.get("/", &[("x-forwarded-for", "2001:db8:1:2:bbbb::2")]).await;
    assert_eq!(s.redis.keys().await.len(), 1, "a /64 is one client: {:?}", s.redis.keys().await);

    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 9, {strategy}, trusted_ip_depth: 2 }} }}\n")).await;
    s.eq.get("/", &[("x-forwarded-for", "1.1.1.1, 2.2.2.2, 3.3.3.3")]).await;
    assert_eq!(s.redis.keys().await, ["rl:edgequota:2.2.2.2"]);
}

#[tokio::test]
async fn a_header_is_the_key() {
    let strategy = "key_strategy: { type: header, header_name: X-Tenant-Id }";
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 1, {strategy} }}\n")).await;
    for tenant in ["a", "b"] {
        assert_eq!(s.eq.get("/", &[("x-tenant-id", tenant)]).await.status, 200);
        is_refused(&s.eq.get("/", &[("x-tenant-id", tenant)]).await);
    }
    for headers in [&[][..], &[("x-tenant-id", "")]] {
        let answer = s.eq.get("/", headers).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (500, "key_extraction_failed"));
    }
    let two = s.eq.get("/", &[("x-tenant-id", "a"), ("x-tenant-id", "c")]).await;
    assert_eq!((two.status.as_u16(), two.error().as_str()), (400, "bad_request"));
    let metrics = s.eq.metrics().await;
    assert!(metrics.sum("edgequota_key_extract_errors_total", &[]) >= 2.0);
    assert_eq!(metrics.sum("edgequota_tenant_requests_limited_total", &["tenant=\"a\""]), 1.0);
}

#[tokio::test]
async fn subjects_cannot_leave_their_slot_or_pose_as_others() {
    let strategy = "key_strategy: { type: header, header_name: X-Tenant-Id }";
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 1, {strategy} }}\n")).await;
    let long = "l".repeat(300);
    for tenant in ["a{b}c%", "t:a", long.as_str()] {
        assert_eq!(s.eq.get("/", &[("x-tenant-id", tenant)]).await.status, 200);
    }
    let keys = s.redis.keys().await;
    assert_eq!(keys.len(), 3);
    assert!(keys.contains(&"rl:edgequota:a%7Bb%7Dc%25".to_owned()), "{keys:?}");
    assert!(!keys.contains(&"rl:edgequota:t:a".to_owned()), "{keys:?}");
    assert!(keys.iter().all(|k| k.len() <= 300), "{keys:?}");
}

#[tokio::test]
async fn a_missing_header_has_three_outcomes() {
    for (on_missing, status) in [("skip", 200), ("client_ip", 200), ("error, missing_code: 401", 401)] {
        let strategy = format!("key_strategy: {{ type: header, header_name: X-T, on_missing: {on_missing} }}");
        let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 1, {strategy} }}\n")).await;
        assert_eq!(s.eq.get("/", &[]).await.status.as_u16(), status, "{on_missing}");
        let second = s.eq.get("/", &[]).await.status.as_u16();
        let keys = s.redis.keys().await;
        match on_missing {
            "skip" => assert!(second == 200 && keys.is_empty(), "{keys:?}"),
            "client_ip" => assert!(second == 429 && keys == ["rl:edgequota:127.0.0.1"], "{keys:?}"),
            _ => assert!(second == 401 && keys.is_empty(), "{keys:?}"),
        }
    }
}

#[tokio::test]
async fn composite_and_global_keys() {
    let strategy = "key_strategy: { type: composite, header_name: X-T, path_prefix: true }";
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 1, {strategy} }}\n")).await;
    for path in ["/api/x", "/", "/api/y"] {
        s.eq.get(path, &[("x-t", "acme")]).await;
    }
    let mut keys = s.redis.keys().await;
    keys.sort();
    assert_eq!(keys, ["rl:edgequota:acme:api", "rl:edgequota:acme:root"]);

    let strategy = "key_strategy: { type: global, global_key: everyone }";
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 1, {strategy} }}\n")).await;
    s.eq.get("/", &[]).await;
    is_refused(&s.eq.get("/", &[("x-t", "acme")]).await);
    assert_eq!(s.redis.keys().await, ["rl:edgequota:everyone"]);
}

#[tokio::test]
async fn credentials_used_as_keys_are_shown_as_a_hash() {
    let strategy = "key_strategy: { type: header, header_name: Authorization }";
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 1, {strategy} }}\n")).await;
    let secret = "Bearer very-secret-credential";
    for _ in 0..2 {
        s.eq.get("/", &[("authorization", secret)]).await;
    }
    s.eq.log().until("\"msg\":\"access\"", Duration::from_secs(5)).await;
    let metrics = s.eq.admin_get("/metrics").await.text();
    for (what, text) in [("log", s.eq.log().text()), ("metrics", metrics)] {
        assert!(!text.contains("very-secret-credential"), "the {what} shows the credential");
    }
}

#[tokio::test]
async fn several_limits_pass_all_or_nothing() {
    let policy = format!(
        "rate_limit: {{ {SLOW}, burst: 5 }}\nroutes:\n- name: s\n  match: {{ path_prefix: /s }}\n  limits:\n  \
         - {{ name: day, average: 1, burst: 2, period: 24h }}\n"
    );
    // With one worker, which remembers what the answer before left.
    let s = setup(&format!("{policy}server: {{ workers: 1 }}\n")).await;
    for _ in 0..2 {
        assert_eq!(s.eq.get("/s", &[]).await.status, 200);
    }
    let both = |field: &str| field.contains("\"default\";") && field.contains("\"s/day\";");
    let answer = s.eq.get("/s", &[]).await;
    is_refused(&answer);
    assert!(both(answer.header("ratelimit-policy")), "{:?}", answer.headers);
    assert!(answer.header("ratelimit").contains("\"s/day\";r=0"), "{:?}", answer.headers);
    // A refusal by the store knows both.
    let answer = eventually("the store is asked again", Duration::from_secs(5), || async {
        let answer = s.eq.get("/s", &[]).await;
        is_refused(&answer);
        both(answer.header("ratelimit")).then_some(answer)
    })
    .await;
    assert_eq!(answer.number("x-ratelimit-limit"), 2, "the headers are those of the most constrained limit");
    assert!(answer.number("retry-after") > 80_000, "the limit that waits longest says when");
    let state = answer.header("ratelimit");
    assert!(state.contains("\"default\";r=3") && state.contains("\"s/day\";r=0"), "{state}");
    let mut keys = s.redis.keys().await;
    keys.sort();
    assert_eq!(keys, ["rl:edgequota:127.0.0.1", "{rl:edgequota:127.0.0.1}:s/day"]);
    assert_eq!(s.redis.hget("rl:edgequota:127.0.0.1", "tokens").await.as_deref(), Some("3"), "a refusal spent a token");
    for wanted in [200, 200, 200, 429] {
        assert_eq!(s.eq.get("/", &[]).await.status.as_u16(), wanted);
    }
}

#[tokio::test]
async fn a_route_has_its_own_limit_or_none() {
    let policy = format!(
        "rate_limit: {{ {SLOW}, burst: 1 }}\nroutes:\n\
         - {{ name: own, match: {{ path_prefix: /own }}, rate_limit: {{ average: 1, burst: 2, period: 1h }} }}\n\
         - {{ name: free, match: {{ path_prefix: /free }}, rate_limit: {{ mode: disabled }} }}\n"
    );
    let s = setup(&policy).await;
    for (path, statuses) in [("/own", [200, 200, 429]), ("/free", [200, 200, 200]), ("/x", [200, 429, 429])] {
        for wanted in statuses {
            assert_eq!(s.eq.get(path, &[]).await.status.as_u16(), wanted, "{path}");
        }
    }
    assert_eq!(s.eq.get("/free", &[]).await.header("x-ratelimit-limit"), "");
}

#[tokio::test]
async fn a_shadow_limit_counts_and_never_refuses() {
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 1, mode: shadow }}\n")).await;
    for _ in 0..4 {
        let answer = s.eq.get("/", &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-ratelimit-limit")), (200, ""));
    }
    let metrics = s.eq.metrics().await;
    let shadow = ["limit=\"default\"", "mode=\"shadow\""];
    assert_eq!(metrics.sum("edgequota_limit_decisions_total", &shadow), 4.0);
    assert_eq!(metrics.sum("edgequota_limit_decisions_total", &[shadow[0], shadow[1], "decision=\"allowed\""]), 1.0);
    assert_eq!(metrics.sum("edgequota_requests_allowed_total", &[]), 4.0);
    assert_eq!(metrics.sum("edgequota_requests_limited_total", &[]), 0.0);
}

#[tokio::test]
async fn overrides_change_numbers_or_block() {
    let strategy = "key_strategy: { type: header, header_name: X-T }";
    let policy = format!(
        "rate_limit: {{ {SLOW}, burst: 1, {strategy} }}\noverrides:\n\
         - {{ keys: [acme, globex], limit: default, average: 3, burst: 3 }}\n\
         - {{ keys: [mallory], limit: default, block: true }}\n"
    );
    let s = setup(&policy).await;
    for tenant in ["acme", "globex"] {
        for wanted in [200, 200, 200, 429] {
            let answer = s.eq.get("/", &[("x-t", tenant)]).await;
            assert_eq!((answer.status.as_u16(), answer.number("x-ratelimit-limit")), (wanted, 3));
        }
    }
    let blocked = s.eq.get("/", &[("x-t", "mallory")]).await;
    is_refused(&blocked);
    assert_eq!(blocked.header("retry-after"), "", "waiting does not help");
    for wanted in [200, 429] {
        assert_eq!(s.eq.get("/", &[("x-t", "other")]).await.status.as_u16(), wanted);
    }
}

#[tokio::test]
async fn header_families_can_be_chosen() {
    for (headers, legacy, ietf) in
        [("both", true, true), ("legacy", true, false), ("ietf", false, true), ("none", false, false)]
    {
        let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 5, headers: {headers} }}\n")).await;
        let answer = s.eq.get("/", &[]).await;
        assert_eq!(!answer.header("x-ratelimit-limit").is_empty(), legacy, "{headers}");
        assert_eq!(!answer.header("ratelimit").is_empty(), ietf, "{headers}");
        assert_eq!(!answer.header("ratelimit-policy").is_empty(), ietf, "{headers}");
    }
}

#[tokio::test]
async fn the_backends_own_limit_headers() {
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 5 }}\n")).await;
    let script = "status=503; header=x-ratelimit-limit:999; header=x-ratelimit-remaining:998; \
                  header=ratelimit:\"theirs\"; header=retry-after:7";
    let answer = s.eq.get("/", &[("x-origin", script)]).await;
    assert_eq!((answer.status.as_u16(), answer.number("retry-after")), (503, 7));
    let values: Vec<_> = answer.headers.get_all("x-ratelimit-limit").iter().collect();
    assert_eq!(values, ["5"]);
    assert_eq!(answer.number("x-ratelimit-remaining"), 4);
    let all: Vec<_> = answer.headers.get_all("ratelimit").iter().map(|v| v.to_str().unwrap()).collect();
    let all = all.join(", ");
    assert!(all.contains("\"theirs\"") && all.contains("\"default\""), "{all}");
}

#[tokio::test]
async fn a_refusal_with_a_large_body_is_still_readable() {
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 1 }}\n")).await;
    assert_eq!(s.eq.get("/", &[]).await.status, 200);
    for size in [1000, 60_000] {
        let answer = send(s.eq.proxy(), "POST", "/", &[], body::full(vec![b'x'; size])).await;
        is_refused(&answer);
    }
    let mut raw = Raw::connect(s.eq.proxy()).await;
    raw.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4194304\r\n\r\n").await;
    let piece = vec![b'x'; 64 << 10];
    for _ in 0..64 {
        // It may stop reading at some point; what it said must have arrived all the same.
        let _ = tokio::time::timeout(Duration::from_millis(100), raw.try_send(&piece)).await;
    }
    let answer = raw.answer().await.expect("the answer is not lost");
    assert_eq!((answer.status, answer.header("connection")), (429, "close"));
}

#[tokio::test]
async fn requests_at_once_spend_exactly_the_burst() {
    let s = setup(&format!("rate_limit: {{ {SLOW}, burst: 100 }}\n")).await;
    let addr = s.eq.proxy();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..300 {
        all.spawn(async move { get(addr, "/", &[]).await.status.as_u16() });
    }
    let statuses = all.join_all().await;
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((count(200), count(429)), (100, 200));
    let stats = s.eq.admin_json("/v1/stats").await;
    assert_eq!((stats["allowed"].as_u64(), stats["limited"].as_u64()), (Some(100), Some(200)), "{stats}");
}

#[tokio::test]
async fn the_embedded_store_is_exact_too() {
    let origin = Origin::start().await;
    let yaml = format!("redis: {{ mode: embedded }}\n{}rate_limit: {{ {SLOW}, burst: 50 }}\n", origin.yaml(&[]));
    let eq = Edgequota::standalone().config(yaml).ready().await;
    let addr = eq.proxy();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..200 {
        all.spawn(async move { get(addr, "/", &[]).await.status.as_u16() });
    }
    assert_eq!(all.join_all().await.iter().filter(|s| **s == 200).count(), 50);
    let answer = eq.get("/", &[]).await;
    is_refused(&answer);
    assert_eq!(answer.number("x-ratelimit-limit"), 50);
}
