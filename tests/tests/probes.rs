//! The admin port of both planes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{Edgequota, Origin, Redis, body, client::send, eventually, get, process::Process};

async fn planes(redis: &Redis, origin: &Origin) -> (Edgequota, Edgequota) {
    let policy = format!("{}rate_limit: {{ average: 5, burst: 5 }}\n", origin.yaml(&[]));
    let control = Edgequota::controlplane().config(redis.yaml(&[])).config(&policy).ready().await;
    let plane = Edgequota::dataplane()
        .config(redis.yaml(&[]))
        .config(format!("control_plane: {{ address: \"http://{}\" }}\n", control.grpc()))
        .ready()
        .await;
    (control, plane)
}

#[tokio::test]
async fn probes_answer_json() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let (control, plane) = planes(&redis, &origin).await;
    for eq in [&control, &plane] {
        for (path, status) in [("/startz", "started"), ("/healthz", "alive"), ("/readyz", "ready")] {
            let answer = eq.admin_get(path).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &status.into()), "{path}");
            assert!(answer.header("content-type").starts_with("application/json"), "{path}");
        }
        let deep = eq.admin_get("/readyz?deep=true").await;
        assert_eq!((deep.status.as_u16(), &deep.json()["redis"]), (200, &"ok".into()));
    }
}

#[tokio::test]
async fn deep_readiness_asks_the_store_and_plain_does_not() {
    let (origin, mut redis) = (Origin::start().await, Redis::start().await);
    let (control, plane) = planes(&redis, &origin).await;
    redis.kill();
    for eq in [&control, &plane] {
        let deep = eventually("deep readiness fails", Duration::from_secs(10), || async {
            let deep = eq.admin_get("/readyz?deep=true").await;
            (deep.status == 503).then_some(deep)
        })
        .await;
        let body = deep.json();
        assert_eq!((&body["status"], &body["redis"]), (&"not_ready".into(), &"unreachable".into()));
        assert_eq!(eq.admin_get("/readyz").await.status, 200);
    }
}

#[tokio::test]
async fn probes_are_never_limited() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let policy = format!("{}rate_limit: {{ average: 1, burst: 1, period: 1h }}\n", origin.yaml(&[]));
    let eq = Edgequota::standalone().config(redis.yaml(&[])).config(policy).ready().await;
    for _ in 0..50 {
        assert_eq!(eq.admin_get("/readyz").await.status, 200);
    }
    assert_eq!(eq.get("/", &[]).await.status, 200);
}

#[tokio::test]
async fn config_shows_what_is_in_force_without_secrets() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let policy = |burst: usize| {
        format!(
            "redis: {{ endpoints: [\"{}\"], sentinel_password: sentinel-secret }}\nadmin: {{ token: token-secret }}\n{}\
             rate_limit: {{ average: 5, burst: {burst} }}\n",
            redis.address(),
            origin.yaml(&[])
        )
    };
    let eq = Edgequota::standalone().config(policy(5)).ready().await;
    let config = eq.admin_json("/v1/config").await;
    let text = config.to_string();
    assert!(!text.contains("-secret"), "{text}");
    assert!(text.contains("[REDACTED]"), "{text}");
    assert_eq!(config["rate_limit"]["burst"], 5, "{config}");
    assert_eq!(config["server"]["read_header_timeout"], "10s", "{config}");
    eq.write_config(&policy(6));
    eventually("the edit is shown", Duration::from_secs(10), || async {
        (eq.admin_json("/v1/config").await["rate_limit"]["burst"] == 6).then_some(())
    })
    .await;
}

#[tokio::test]
async fn stats_have_the_contracts_fields() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let (control, plane) = planes(&redis, &origin).await;
    for _ in 0..8 {
        plane.get("/", &[]).await;
    }
    let fields = [
        "allowed",
        "limited",
        "redis_errors",
        "fallback_used",
        "readonly_retries",
        "key_extract_errors",
        "auth_errors",
        "auth_denied",
    ];
    for eq in [&control, &plane] {
        let stats = eq.admin_json("/v1/stats").await;
        for field in fields {
            assert!(stats[field].is_u64(), "{field} in {stats}");
        }
    }
    let stats = plane.admin_json("/v1/stats").await;
    assert_eq!(stats["allowed"].as_u64().unwrap() + stats["limited"].as_u64().unwrap(), 8, "{stats}");
}

#[tokio::test]
async fn other_methods_are_405_with_allow() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let (control, plane) = planes(&redis, &origin).await;
    for eq in [&control, &plane] {
        for path in ["/v1/config", "/v1/stats"] {
            for method in ["POST", "PUT", "DELETE"] {
                let answer = send(eq.admin(), method, path, &[], body::empty()).await;
                assert_eq!(answer.status, 405, "{method} {path}");
                assert!(answer.header("allow").contains("GET"), "{method} {path}");
            }
        }
        assert_eq!(get(eq.admin(), "/nothing/here", &[]).await.status, 404);
    }
}

#[tokio::test]
async fn metrics_are_open_metrics_when_asked_for() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let (_control, plane) = planes(&redis, &origin).await;
    let plain = plane.admin_get("/metrics").await;
    assert!(plain.header("content-type").starts_with("text/plain"));
    let open = get(plane.admin(), "/metrics", &[("accept", "application/openmetrics-text; version=1.0.0")]).await;
    assert!(open.header("content-type").starts_with("application/openmetrics-text"), "{:?}", open.headers);
    assert!(open.text().ends_with("# EOF\n"));
}

#[tokio::test]
async fn startup_is_not_finished_before_the_store_was_tried() {
    let origin = Origin::start().await;
    // Takes connections and says nothing: the first try is not over until the dial timeout.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let yaml = format!(
        "redis: {{ endpoints: [\"{}\"], dial_timeout: 1500ms, read_timeout: 1500ms }}\n{}rate_limit: {{ average: 1, burst: 1 }}\n",
        silent.local_addr().unwrap(),
        origin.yaml(&[])
    );
    let eq = Edgequota::standalone().config(yaml).start().await;
    let first = eq.admin_get("/startz").await;
    if first.status == 503 {
        assert_eq!(first.json()["status"], "not_started");
    }
    eventually("started", Duration::from_secs(15), || async {
        (eq.admin_get("/startz").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn memory_at_rest_and_descriptors_stay_small() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let (control, plane) = planes(&redis, &origin).await;
    for eq in [&control, &plane] {
        println!("at rest: {} KiB, {} descriptors", eq.memory() >> 10, eq.descriptors());
        assert!(eq.memory() < 64 << 20 && eq.descriptors() < 100);
    }
}

/// `curl` is what people type.
#[tokio::test]
async fn curl_reads_it() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let (_control, plane) = planes(&redis, &origin).await;
    let url = format!("http://{}/readyz", plane.admin());
    let mut command = std::process::Command::new(edgequota_tests::process::program("curl"));
    let mut curl = Process::spawn("curl", command.args(["-sS", "--fail", &url]));
    assert!(curl.exited(Duration::from_secs(10)).await.success());
    assert!(curl.log().contains("\"ready\""));
}
