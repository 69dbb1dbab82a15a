//! The control plane explains with the code that the data plane enforces, and spends nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{Fleet, Origin, Redis, edgequota::run, eventually, get, post};
use serde_json::{Value, json};

fn policy(origin: &Origin) -> String {
    format!(
        "{}rate_limit:\n  average: 1\n  burst: 10\n  period: 1h\n  key_strategy: {{ type: header, header_name: X-Tenant-Id }}\n\
         routes:\n- name: search\n  match: {{ hosts: [api.example.com], path_prefix: /v1/search, methods: [GET] }}\n  \
         rate_limit: {{ average: 2, burst: 5, period: 1h }}\n  limits:\n  - {{ name: per-day, average: 100, burst: 100, period: 24h, cost: 1 }}\n\
         overrides:\n- {{ keys: [acme], limit: search, average: 4, burst: 8 }}\n- {{ keys: [mallory], limit: default, block: true }}\n",
        origin.yaml(&[])
    )
}

const SEARCH: &str = "/v1/limits/effective?method=GET&host=api.example.com&path=/v1/search/x&header=X-Tenant-Id:acme";

async fn start() -> (Origin, Redis, Fleet) {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let fleet = Fleet::start(1, &redis.yaml(&["deadline: 2s"]), &policy(&origin)).await;
    (origin, redis, fleet)
}

fn limit<'a>(answer: &'a Value, name: &str) -> &'a Value {
    answer["limits"]
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {answer}"))
}

#[tokio::test]
async fn the_answer_names_route_backend_limits_numbers_and_their_sources() {
    let (origin, _redis, fleet) = start().await;
    let answer = fleet.control().admin_json(SEARCH).await;
    assert_eq!(answer["policy"]["version"], fleet.version().await);
    assert_eq!(answer["route"]["name"], "search");
    assert!(!answer["route"]["why"].as_str().unwrap().is_empty());
    assert_eq!(answer["backend"]["url"], origin.url());
    let own = limit(&answer, "search");
    assert_eq!((&own["average"], &own["burst"], &own["subject"]), (&json!(4), &json!(8), &json!("acme")), "{own}");
    assert_eq!(own["counter_key"], "{rl:edgequota:acme}:search");
    let sources = own["sources"].as_array().unwrap();
    assert_eq!(sources.len(), 2, "{own}");
    assert_eq!((&sources[0]["burst"], &sources[1]["burst"]), (&json!(5), &json!(8)), "the last one wins");
    assert!(sources[1]["from"].as_str().unwrap().contains("overrides[0]"), "{own}");
    let day = limit(&answer, "search/per-day");
    assert_eq!((&day["burst"], &day["remaining"], &day["passes"]), (&json!(100), &json!(100), &json!(true)), "{day}");
    assert_eq!(answer["verdict"]["allowed"], true);
}

#[tokio::test]
async fn what_is_explained_is_what_is_enforced_and_nothing_is_spent() {
    let (_origin, redis, fleet) = start().await;
    let plane = &fleet.planes[0];
    let headers = [("host", "api.example.com"), ("x-tenant-id", "acme")];
    for spent in 0..8 {
        for _ in 0..3 {
            let answer = fleet.control().admin_json(SEARCH).await;
            assert_eq!(limit(&answer, "search")["remaining"], 8 - spent, "asking spent a token");
            assert_eq!(answer["verdict"]["allowed"], true);
        }
        let real = get(plane.proxy(), "/v1/search/x", &headers).await;
        assert_eq!((real.status.as_u16(), real.number("x-ratelimit-remaining")), (200, 7 - spent));
    }
    let answer = fleet.control().admin_json(SEARCH).await;
    let verdict = &answer["verdict"];
    assert_eq!(
        (&verdict["allowed"], &verdict["status"], &verdict["error"]),
        (&json!(false), &json!(429), &json!("rate_limited"))
    );
    let real = get(plane.proxy(), "/v1/search/x", &headers).await;
    assert_eq!(real.status, 429);
    let told = verdict["retry_after_seconds"].as_f64().unwrap();
    assert!((told - real.number("retry-after") as f64).abs() <= 2.0, "{told} and {}", real.number("retry-after"));
    assert_eq!(limit(&answer, "search/per-day")["remaining"], 92, "a refusal spends nothing anywhere");
    assert!(redis.keys().await.len() == 2, "asking made counters: {:?}", redis.keys().await);
}

#[tokio::test]
async fn a_description_may_be_posted() {
    let (_origin, _redis, fleet) = start().await;
    let described = json!({ "host": "other.example", "path": "/x", "headers": { "X-Tenant-Id": "mallory" } });
    let answer = fleet.control().admin_post("/v1/limits/effective", &described).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(limit(&answer, "default")["blocked"], true);
    assert_eq!((&answer["verdict"]["allowed"], &answer["verdict"]["status"]), (&json!(false), &json!(429)));

    let missing = fleet.control().admin_json("/v1/limits/effective?path=/x").await;
    assert_eq!(
        (&missing["verdict"]["status"], &missing["verdict"]["error"]),
        (&json!(500), &json!("key_extraction_failed"))
    );
    let bad = fleet.control().admin_get("/v1/limits/effective?pth=/x").await;
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("pth") && bad.text().contains("path"), "{}", bad.text());
    for (query, words) in [
        ("path=/a&path=/b", "path"),
        ("host=a&host=b", "host"),
        ("method=GET&method=PUT", "method"),
        ("method=get", "upper case"),
    ] {
        let bad = fleet.control().admin_get(&format!("/v1/limits/effective?{query}")).await;
        assert_eq!(bad.status, 400, "{query}");
        assert!(bad.text().contains(words), "{query}: {}", bad.text());
    }
}

#[tokio::test]
async fn explain_prints_the_same_for_people() {
    let (_origin, _redis, fleet) = start().await;
    let dir = tempfile::tempdir().unwrap();
    let explain = |more: &[&str]| {
        let mut args = vec!["explain"];
        args.extend(more);
        let output = run(&args, dir.path(), &[]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let url = format!("http://{}", fleet.control().admin());
    let asked = [
        "--control-plane",
        &url,
        "--host",
        "api.example.com",
        "--path",
        "/v1/search/x",
        "--header",
        "X-Tenant-Id=acme",
    ];
    let text = explain(&asked);
    for word in ["search", "per-day", "acme", "overrides[0]", "8", "100"] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    let answer: Value = serde_json::from_str(&explain(&[&asked[..], &["--json"]].concat())).unwrap();
    assert_eq!(limit(&answer, "search")["remaining"], 8, "{answer}");

    let path = fleet.policy_path();
    let text = explain(&["--policy", path.to_str().unwrap(), "--header", "X-Tenant-Id=mallory"]);
    assert!(text.contains("default") && text.to_lowercase().contains("block"), "{text}");

    let output = run(&["explain", "--control-plane", "http://127.0.0.1:1"], dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("127.0.0.1:1"));
}

#[tokio::test]
async fn the_policy_its_history_and_the_data_planes_can_be_read() {
    let (origin, _redis, fleet) = start().await;
    let first = fleet.version().await;
    fleet.edit(&policy(&origin).replace("burst: 10", "burst: 11"));
    eventually("a new version", Duration::from_secs(10), || async { (fleet.version().await != first).then_some(()) })
        .await;
    fleet.in_step(Duration::from_secs(10)).await;
    let shown = fleet.control().admin_json("/v1/policy").await.to_string();
    assert!(shown.contains("\"burst\":11"), "{shown}");
    // Both are told after the policy is out: the difference is written on the side, an acknowledgement comes back.
    eventually("the history has both versions", Duration::from_secs(10), || async {
        let history = fleet.control().admin_json("/v1/policy/history").await.to_string();
        (history.contains(&first) && history.contains("\\\"burst\\\": 11")).then_some(())
    })
    .await;
    eventually("the data plane is listed with the new version", Duration::from_secs(10), || async {
        let listed = fleet.listed().await.to_string();
        (listed.contains("dp-0") && listed.contains(&fleet.version().await)).then_some(())
    })
    .await;
    let openapi = fleet.control().admin_json("/openapi.json").await;
    for path in ["/v1/limits/effective", "/v1/policy", "/v1/policy/history", "/v1/dataplanes", "/v1/policy/validate"] {
        assert!(openapi["paths"].get(path).is_some(), "{path} is not in the OpenAPI page");
    }
}

#[tokio::test]
async fn a_policy_can_be_validated_without_touching_the_one_in_force() {
    let (origin, _redis, fleet) = start().await;
    let before = fleet.version().await;
    let yaml = [("content-type", "application/yaml")];
    let addr = fleet.control().admin();
    let good = post(addr, "/v1/policy/validate", &yaml, policy(&origin)).await;
    assert_eq!(good.status, 200, "{}", good.text());
    let bad = post(addr, "/v1/policy/validate", &yaml, "backend: { url: http://b }\nrate_limt: {}\n").await;
    let text = bad.text();
    assert!(text.contains("rate_limt") && text.contains("rate_limit"), "{text}");
    assert!(bad.json()["valid"] == false || bad.status.is_client_error(), "{text}");
    assert_eq!(fleet.version().await, before);
}
