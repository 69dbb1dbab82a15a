//! Environment, config file and command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::{process::Output, time::Duration};

use edgequota_tests::{Edgequota, Origin, Redis, edgequota::run, process::workspace_dir};
use serde_json::Value;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What Kubernetes puts into every pod of a namespace with Services called `edgequota*`.
const SERVICE_LINKS: &[(&str, &str)] = &[
    ("EDGEQUOTA_PORT", "tcp://10.96.10.1:8080"),
    ("EDGEQUOTA_SERVICE_HOST", "10.96.10.1"),
    ("EDGEQUOTA_SERVICE_PORT", "8080"),
    ("EDGEQUOTA_SERVICE_PORT_PROXY", "8080"),
    ("EDGEQUOTA_SERVICE_PORT_ADMIN", "9090"),
    ("EDGEQUOTA_PORT_8080_TCP", "tcp://10.96.10.1:8080"),
    ("EDGEQUOTA_PORT_8080_TCP_PROTO", "tcp"),
    ("EDGEQUOTA_PORT_8080_TCP_PORT", "8080"),
    ("EDGEQUOTA_PORT_8080_TCP_ADDR", "10.96.10.1"),
    ("EDGEQUOTA_PORT_8080_UDP", "udp://10.96.10.1:8080"),
    ("EDGEQUOTA_PORT_8080_UDP_PROTO", "udp"),
    ("EDGEQUOTA_CONTROLPLANE_SERVICE_HOST", "10.96.10.2"),
    ("EDGEQUOTA_CONTROLPLANE_SERVICE_PORT", "9091"),
    ("EDGEQUOTA_CONTROLPLANE_SERVICE_PORT_GRPC", "9091"),
    ("EDGEQUOTA_CONTROLPLANE_PORT", "tcp://10.96.10.2:9091"),
    ("EDGEQUOTA_CONTROLPLANE_PORT_9091_TCP", "tcp://10.96.10.2:9091"),
    ("EDGEQUOTA_CONTROLPLANE_PORT_9091_TCP_ADDR", "10.96.10.2"),
    ("EDGEQUOTA_REDIS_SERVICE_HOST", "10.96.10.3"),
    ("EDGEQUOTA_REDIS_PORT", "tcp://10.96.10.3:6379"),
    ("EDGEQUOTA_REDIS_PORT_6379_TCP_ADDR", "10.96.10.3"),
];

#[tokio::test]
async fn starts_in_silence_among_service_links() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let mut builder = Edgequota::standalone().config(redis.yaml(&[])).config(origin.yaml(&[]));
    for (name, value) in SERVICE_LINKS {
        builder = builder.env(name, *value);
    }
    let eq = builder.ready().await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
    let log = eq.log().text();
    for (name, _) in SERVICE_LINKS {
        assert!(
            !log.contains(&format!("{name} ")) && !log.contains(&format!("{name}\"")),
            "{name} is in the log: {log}"
        );
    }
}

#[tokio::test]
async fn the_environment_wins_over_the_file() {
    let origin = Origin::start().await;
    let eq = Edgequota::standalone()
        .config("redis: { mode: single, endpoints: [\"127.0.0.1:1\"] }\nbackend: { url: \"http://127.0.0.1:1\" }\n")
        .config("rate_limit: { average: 1, burst: 1, period: 1h, key_strategy: { type: clientIP } }\n")
        .env("EDGEQUOTA_REDIS_MODE", "EMBEDDED")
        .env("EDGEQUOTA_BACKEND_URL", origin.url())
        .env("EDGEQUOTA_RATE_LIMIT_BURST", "4")
        .env("EDGEQUOTA_RATE_LIMIT_PERIOD", "1h30m")
        .env("EDGEQUOTA_RATE_LIMIT_KEY_STRATEGY_TYPE", "global")
        .env("EDGEQUOTA_RATE_LIMIT_KEY_STRATEGY_TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.1")
        .env("EDGEQUOTA_LOGGING_ACCESS_LOG_ENABLED", "false")
        .env("EDGEQUOTA_LOGGING_LEVEL", "")
        .ready()
        .await;
    let answer = eq.get("/", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.number("x-ratelimit-limit")), (200, 4));
    let config = eq.admin_json("/v1/config").await;
    assert_eq!(config["rate_limit"]["period"], "1h30m0s", "{config}");
    assert_eq!(config["rate_limit"]["key_strategy"]["type"].as_str().unwrap().to_lowercase(), "global");
    assert_eq!(config["logging"]["access_log_enabled"], false);
    assert_eq!(config["logging"]["level"], "info", "an empty variable counts as unset");
}

#[tokio::test]
async fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
    let origin = Origin::start().await;
    let eq = Edgequota::standalone()
        .config("redis: { mode: embedded }\n")
        .config(origin.yaml(&[]))
        .env("EDGEQUOTA_RATE_LIMIT_BURTS", "4")
        .ready()
        .await;
    eq.log().until("EDGEQUOTA_RATE_LIMIT_BURTS", Duration::from_secs(5)).await;
    assert!(eq.log().contains("EDGEQUOTA_RATE_LIMIT_BURST"), "the nearest name is not told");
}

#[tokio::test]
async fn a_missing_file_is_no_error() {
    let origin = Origin::start().await;
    let eq = Edgequota::standalone()
        .config_file("/nonexistent/config.yaml")
        .env("EDGEQUOTA_REDIS_MODE", "embedded")
        .env("EDGEQUOTA_BACKEND_URL", origin.url())
        .ready()
        .await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
}

#[tokio::test]
async fn configuration_errors_are_fatal_and_all_at_once() {
    let yaml = "server: { adress: \":1\" }\nbackend: { timeout: 5x }\nrate_limit:\n  average: -1\n  failure_policy: maybe\n  \
                failure_code: 200\nlogging: { level: loud }\n";
    let mut eq = Edgequota::standalone().config(yaml).spawn();
    let status = eq.exited(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(1));
    let log = eq.log().text();
    assert!(log.contains("fatal: configuration error: "), "{log}");
    for wanted in [
        "config.yaml:1:",
        "adress",
        "address",
        "config.yaml:2:",
        "timeout",
        "rate_limit.average must be >= 0",
        "invalid rate_limit.failure_policy",
        "invalid rate_limit.failure_code",
        "invalid logging.level",
        "backend.url is required",
    ] {
        assert!(log.contains(wanted), "no {wanted:?} in {log}");
    }
}

#[test]
fn errors_never_show_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    let yaml = "redis:\n  password: \"hunter-two-secret\"\n  pasword: \"other-secret\"\n  db: hunter-three-secret\n\
                backend: { url: \"http://user:url-secret@\" }\n";
    std::fs::write(&path, yaml).unwrap();
    let output = run(&["check", path.to_str().unwrap()], dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    for secret in ["hunter-two-secret", "other-secret", "url-secret"] {
        assert!(!text(&output).contains(secret), "{}", text(&output));
    }
}

#[test]
fn check_says_what_is_wrong_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    std::fs::write(&path, "backend:\n  url: http://b\n  tiemout: 5s\nrate_limit: { burst: many }\n").unwrap();
    let output = run(&["check", path.to_str().unwrap()], dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    for wanted in ["c.yaml:3:3", "tiemout", "timeout", "c.yaml:4:"] {
        assert!(said.contains(wanted), "no {wanted:?} in {said}");
    }
    std::fs::write(&path, "backend: { url: http://b }\n").unwrap();
    let output = run(&["check", path.to_str().unwrap()], dir.path(), &[]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn the_schema_is_json_schema() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["check", "--schema"], dir.path(), &[]);
    assert!(output.status.success());
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"));
    for block in ["server", "redis", "backend", "rate_limit", "routes", "overrides", "logging"] {
        assert!(schema["properties"].get(block).is_some(), "no {block}");
    }
}

#[test]
fn version_and_help() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["version"], dir.path(), &[]);
    assert!(output.status.success());
    let said = text(&output);
    assert!(said.starts_with("edgequota ") && said.split_whitespace().count() == 2, "{said}");
    let output = run(&["--help"], dir.path(), &[]);
    assert!(output.status.success());
    for word in ["standalone", "dataplane", "controlplane", "demo", "check", "explain", "version"] {
        assert!(text(&output).contains(word), "no {word} in --help");
    }
    let output = run(&["no-such-command"], dir.path(), &[]);
    assert!(!output.status.success());
}

#[test]
fn the_seeds_config_map_is_good_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = workspace_dir().join("tests/fixtures/seed-config.yaml");
    let output = run(&["check", fixture.to_str().unwrap()], dir.path(), &[]);
    assert!(output.status.success(), "{}", text(&output));
}

#[tokio::test]
async fn the_seeds_config_map_starts() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let seed = std::fs::read_to_string(workspace_dir().join("tests/fixtures/seed-config.yaml")).unwrap();
    let eq = Edgequota::standalone()
        .config(seed)
        .env("EDGEQUOTA_BACKEND_URL", origin.url())
        .env("EDGEQUOTA_REDIS_ENDPOINTS", redis.address())
        .env("EDGEQUOTA_REDIS_PASSWORD", "")
        .ready()
        .await;
    let answer = eq.get("/", &[("x-tenant-id", "acme")]).await;
    assert_eq!((answer.status.as_u16(), answer.number("x-ratelimit-limit")), (200, 50));
    assert_eq!(eq.get("/", &[]).await.status, 500, "no tenant: the key cannot be extracted");
    assert_eq!(redis.keys().await, ["rl:edgequota:acme"]);
}

#[tokio::test]
async fn features_that_are_not_built_refuse_to_start_when_enabled() {
    let origin = Origin::start().await;
    for (yaml, name) in [
        ("auth: { enabled: true, http: { url: http://a } }\n", "auth"),
        ("events: { enabled: true, http: { url: http://a } }\n", "events"),
        ("server: { tls: { enabled: true, cert_file: /c, key_file: /k } }\n", "tls"),
        ("rate_limit: { average: 1, external: { enabled: true, http: { url: http://a } } }\n", "external"),
        ("tracing: { enabled: true, endpoint: \"http://t:4318\" }\n", "tracing"),
    ] {
        let mut eq = Edgequota::standalone()
            .config(if yaml.starts_with("server") { "" } else { "server: {}\n" })
            .config("redis: { mode: embedded }\n")
            .config(origin.yaml(&[]))
            .config(yaml)
            .spawn();
        let status = eq.exited(Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(1), "{yaml}");
        assert!(eq.log().text().to_lowercase().contains(name), "{yaml}: {}", eq.log().text());
    }
}
