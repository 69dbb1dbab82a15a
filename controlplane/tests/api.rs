//! What the API answers.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use edgequota_controlplane::{effective::Described, explain};
use support::{Home, eventually, http, policy};

const POLICY: &str = r#"
backend: { url: "http://backend:8080" }
rate_limit: { average: 100, burst: 50, period: 1m, key_strategy: { type: header, header_name: X-Tenant-Id } }
backends:
  - { name: search, url: "http://search:8080" }
routes:
  - name: search-api
    match: { hosts: [api.example.com], path_prefix: /v1/search, methods: [GET, POST] }
    backend: search
    rate_limit: { average: 20, burst: 40, period: 1m }
    limits:
      - { name: per-day, average: 10000, burst: 10000, period: 24h }
  - name: login
    match: { path_exact: /login }
    rate_limit: { average: 5, burst: 5, period: 1m, key_strategy: { type: header, header_name: Authorization } }
overrides:
  - { keys: [acme, globex], limit: search-api, average: 1000, burst: 2000 }
  - { keys: [mallory], limit: default, block: true }
"#;

async fn with_policy() -> (Home, support::Running) {
    let home = Home::new();
    home.write("policy.yaml", POLICY);
    let running = home.start().await;
    running.average(100).await;
    (home, running)
}

#[tokio::test]
async fn a_described_request_meets_the_limits_that_are_enforced() {
    let (_home, running) = with_policy().await;
    let path = "/v1/limits/effective?host=API.example.com:443&path=/v1/./search/x?q=1&header=X-Tenant-Id:%20acme&client_ip=1.2.3.4";
    let (status, answer) = http::get(running.admin, path).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["route"]["name"], "search-api");
    assert_eq!((&answer["route"]["host"], &answer["route"]["path"]), (&"exact".into(), &"prefix".into()));
    assert_eq!(answer["backend"]["url"], "http://search:8080");
    assert_eq!(answer["request"]["path"], "/v1/search/x");
    assert_eq!(answer["request"]["client_ip"], "1.2.3.4");
    let own = &answer["limits"][0];
    assert_eq!((&own["name"], &own["subject"]), (&"search-api".into(), &"acme".into()));
    assert_eq!((own["average"].as_u64(), own["burst"].as_u64()), (Some(1000), Some(2000)));
    assert_eq!(own["counter_key"], "{rl:edgequota:acme}:search-api");
    let sources: Vec<&str> = own["sources"].as_array().unwrap().iter().map(|s| s["from"].as_str().unwrap()).collect();
    assert_eq!(sources, ["limit search-api", "overrides[0] (limit search-api, 2 keys)"]);
    assert_eq!((&own["remaining"], &own["passes"]), (&2000.into(), &true.into()));
    assert_eq!(answer["limits"][1]["name"], "search-api/per-day");
    assert_eq!(answer["limits"][1]["average"], 10000);
    assert_eq!(answer["verdict"]["allowed"], true);
    // Nothing is spent.
    let (_, again) = http::get(running.admin, path).await;
    assert_eq!(again["limits"][0]["remaining"], 2000);
    running.stop().await;
}

#[tokio::test]
async fn the_live_counter_is_what_the_data_plane_would_see() {
    let (_home, running) = with_policy().await;
    let body = r#"{"host":"api.example.com","path":"/v1/search","headers":{"X-Tenant-Id":"small"}}"#;
    let published = http::get(running.admin, "/v1/policy").await.1;
    assert_eq!(published["policy"]["routes"][0]["name"], "search-api");
    // Spends as a data plane would, with the same code and store.
    let compiled = explain_limit(POLICY);
    let (limit, subject) = compiled;
    let effective = limit.effective(&subject);
    let ask = edgequota_counters::Ask { limit, subject, effective };
    let counters = running.counters.clone();
    let data_plane = tokio::task::LocalSet::new();
    data_plane
        .run_until(async {
            let spender = counters.spender(0);
            for _ in 0..40 {
                let decision = spender.spend(std::slice::from_ref(&ask)).await;
                assert!(matches!(decision.verdict, edgequota_counters::Verdict::Allowed(_)));
            }
        })
        .await;
    let (status, answer) = http::post(running.admin, "/v1/limits/effective", body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["limits"][0]["remaining"], 0);
    assert_eq!((&answer["verdict"]["allowed"], &answer["verdict"]["status"]), (&false.into(), &429.into()));
    let retry = answer["verdict"]["retry_after_seconds"].as_f64().unwrap();
    assert!(retry > 1.0 && retry <= 3.0, "20 a minute is one in 3 s, not {retry}");
    running.stop().await;
}

/// The route's own limit as a data plane has it, and the subject `small`.
fn explain_limit(text: &str) -> (std::sync::Arc<edgequota_policy::Limit>, edgequota_policy::limit::Subject) {
    let spec = edgequota_config::Document::parse("p", text).unwrap().policy(None).unwrap().resolved();
    let policy = edgequota_policy::Policy::compile(&spec).unwrap();
    let limit = policy.limits().iter().find(|l| &*l.name == "search-api").unwrap();
    let subject = edgequota_policy::limit::Subject { raw: "small".into(), secret: false };
    (std::sync::Arc::clone(limit), subject)
}

#[tokio::test]
async fn refusals_before_counting_are_explained() {
    let (_home, running) = with_policy().await;
    let verdict = async |query: &str| {
        http::get(running.admin, &format!("/v1/limits/effective?{query}")).await.1["verdict"].clone()
    };
    let missing = verdict("path=/").await;
    assert_eq!((&missing["status"], &missing["error"]), (&500.into(), &"key_extraction_failed".into()));
    let twice = verdict("path=/&header=X-Tenant-Id:a&header=X-Tenant-Id:b").await;
    assert_eq!(twice["status"], 400);
    let hidden = verdict("path=/a%252Fb&header=X-Tenant-Id:a").await;
    assert_eq!((&hidden["status"], &hidden["error"]), (&400.into(), &"bad_request".into()));
    let blocked = verdict("path=/&header=X-Tenant-Id:mallory").await;
    assert_eq!((&blocked["allowed"], &blocked["status"]), (&false.into(), &429.into()));
    running.stop().await;
}

#[tokio::test]
async fn a_credential_shows_as_a_hash_everywhere() {
    let (_home, running) = with_policy().await;
    let body = r#"{"path":"/login","headers":{"Authorization":"Bearer hunter2"}}"#;
    let (status, answer) = http::post(running.admin, "/v1/limits/effective", body).await;
    assert_eq!(status, 200);
    assert_eq!(answer["limits"][0]["name"], "login");
    assert!(answer["limits"][0]["subject"].as_str().is_some());
    assert!(!answer.to_string().contains("hunter2"), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn wrong_methods_and_parameters_are_refused_as_json() {
    let (_home, running) = with_policy().await;
    for (method, path, allow) in [
        ("DELETE", "/v1/limits/effective", "GET"),
        ("POST", "/v1/policy", "GET"),
        ("PUT", "/v1/policy/history", "GET"),
        ("GET", "/v1/policy/validate", "POST"),
        ("PATCH", "/v1/dataplanes", "GET"),
    ] {
        let response = http::send(running.admin, method, path, "").await;
        assert_eq!(response.status(), 405, "{method} {path}");
        assert!(response.headers()["allow"].to_str().unwrap().contains(allow), "{method} {path}");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"], "method_not_allowed");
    }
    let (status, refusal) = http::get(running.admin, "/v1/limits/effective?hots=a").await;
    assert_eq!(status, 400);
    assert!(refusal["message"].as_str().unwrap().contains("hots"), "{refusal}");
    let (status, _) = http::post(running.admin, "/v1/limits/effective", r#"{"hots":"a"}"#).await;
    assert_eq!(status, 400);
    running.stop().await;
}

#[tokio::test]
async fn validate_finds_every_problem_and_publishes_nothing() {
    let (_home, running) = with_policy().await;
    let before = http::get(running.admin, "/v1/policy").await.1["version"].clone();
    let (status, answer) = http::post(running.admin, "/v1/policy/validate", POLICY).await;
    assert_eq!((status, &answer["valid"], &answer["unchanged"]), (200, &true.into(), &true.into()));
    let bad = "backend: { url: \"http://b:1\" }\nrate_limit:\n  average: -1\n  bursst: 3\nroutes:\n  - { name: x, backend: nobody }\n";
    let (status, answer) = http::post(running.admin, "/v1/policy/validate", bad).await;
    assert_eq!((status, &answer["valid"], &answer["error"]), (422, &false.into(), &"invalid_policy".into()));
    let places: Vec<(u64, &str)> = answer["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["line"].as_u64().unwrap(), p["path"].as_str().unwrap()))
        .collect();
    assert!(places.contains(&(3, "rate_limit.average")), "{answer}");
    assert!(places.contains(&(4, "rate_limit.bursst")), "{answer}");
    assert!(places.contains(&(6, "routes[0].backend")), "{answer}");
    let (status, answer) = http::post(
        running.admin,
        "/v1/policy/validate",
        r#"{"backend":{"url":"http://b:1"},"rate_limit":{"average":7}}"#,
    )
    .await;
    assert_eq!((status, &answer["valid"], &answer["unchanged"]), (200, &true.into(), &false.into()));
    assert_eq!(answer["hash"].as_str().unwrap().len(), 64);
    assert_eq!(http::get(running.admin, "/v1/policy").await.1["version"], before);
    running.stop().await;
}

#[tokio::test]
async fn history_shows_what_changed() {
    let home = Home::with(10);
    let running = home.start().await;
    running.average(10).await;
    home.write("policy.yaml", &policy(20));
    running.average(20).await;
    let history = eventually("both are in the history", async || {
        let (_, history) = http::get(running.admin, "/v1/policy/history").await;
        (history["versions"].as_array().unwrap().len() == 2).then_some(history)
    })
    .await;
    let newest = &history["versions"][0];
    assert_eq!((&newest["added"], &newest["removed"]), (&1.into(), &1.into()));
    let diff = newest["diff"].as_str().unwrap();
    assert!(diff.contains("-    \"average\": 10") && diff.contains("+    \"average\": 20"), "{diff}");
    assert_eq!(history["versions"][1]["diff"], "");
    running.stop().await;
}

#[tokio::test]
async fn every_endpoint_stands_in_the_openapi_document() {
    let (_home, running) = with_policy().await;
    let (status, document) = http::get(running.admin, "/openapi.json").await;
    assert_eq!(status, 200);
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        ["/v1/dataplanes", "/v1/limits/effective", "/v1/policy", "/v1/policy/history", "/v1/policy/validate"]
    );
    let answer = &document["components"]["schemas"]["Answer"]["properties"];
    assert!(answer["limits"].is_object() && answer["verdict"].is_object(), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn explain_says_the_same_from_a_control_plane_and_from_a_file() {
    let (home, running) = with_policy().await;
    let pairs = [
        ("host", "api.example.com"),
        ("path", "/v1/search"),
        ("header", "X-Tenant-Id: acme"),
        ("client_ip", "1.2.3.4"),
    ];
    let described = Described::from_pairs(pairs).unwrap();
    let asked = explain::ask(&format!("http://{}", running.admin), &described).await.unwrap();
    let local = explain::local(&home.path("policy.yaml"), &Default::default(), &described).await.unwrap();
    assert_eq!(asked.policy.hash, local.policy.hash);
    assert_eq!(asked.limits[0].sources.len(), local.limits[0].sources.len());
    assert_eq!(local.limits[0].remaining, None);
    let text = explain::render(&asked);
    assert!(text.contains("left      2000 of 2000"), "{text}");
    assert!(text.contains("verdict   allowed"), "{text}");
    assert!(explain::render(&local).contains("verdict   unknown"), "{}", explain::render(&local));
    let directory = explain::local(&home.dir.path().join("policy"), &Default::default(), &described).await.unwrap();
    assert_eq!(directory.policy.hash, local.policy.hash);
    let wrong = explain::ask(&format!("http://{}", running.grpc), &described).await;
    assert!(wrong.is_err());
    running.stop().await;
}
