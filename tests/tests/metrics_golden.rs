//! The names and labels of `/metrics` are a contract: dashboards and the autoscaler read them.
//!
//! After a wanted change: `UPDATE_GOLDEN=1 cargo test -p edgequota-tests --test metrics_golden`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::{fs, path::PathBuf};

use edgequota_tests::{Edgequota, Fleet, Metrics, Origin, Redis, process::workspace_dir};

fn golden(name: &str) -> PathBuf {
    workspace_dir().join("tests/golden").join(name)
}

fn compare(name: &str, metrics: &Metrics) {
    let shape = metrics.shape().join("\n") + "\n";
    let path = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &shape).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    let (old, new): (Vec<_>, Vec<_>) = (wanted.lines().collect(), shape.lines().collect());
    let gone: Vec<_> = old.iter().filter(|l| !new.contains(l)).collect();
    let came: Vec<_> = new.iter().filter(|l| !old.contains(l)).collect();
    assert!(gone.is_empty() && came.is_empty(), "{name} changed\n- {gone:#?}\n+ {came:#?}");
}

/// Traffic that touches every label: allowed, limited, refused for want of a key, a backend that fails.
async fn traffic(plane: &Edgequota) {
    for headers in [
        &[("x-tenant-id", "a")][..],
        &[("x-tenant-id", "a")],
        &[],
        &[("x-tenant-id", "b"), ("x-origin", "drop=head")],
        &[("x-tenant-id", "c"), ("x-origin", "status=404")],
    ] {
        plane.get("/", headers).await;
    }
}

async fn fleet() -> (Origin, Redis, Fleet) {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let policy = format!(
        "{}rate_limit: {{ average: 1, burst: 1, period: 1h, key_strategy: {{ type: header, header_name: X-Tenant-Id }} }}\n",
        origin.yaml(&[])
    );
    let fleet = Fleet::start(1, &redis.yaml(&["deadline: 2s"]), &policy).await;
    traffic(&fleet.planes[0]).await;
    // A request is counted when it is over, which may be just after its client has the answer.
    fleet.planes[0].until_metric("edgequota_request_duration_seconds_count", &[], 5.0).await;
    (origin, redis, fleet)
}

#[tokio::test]
async fn names_and_labels_of_both_planes() {
    let (_origin, _redis, fleet) = fleet().await;
    let plane = fleet.planes[0].metrics().await;
    let control = fleet.control().metrics().await;
    compare("metrics_dataplane.txt", &plane);
    compare("metrics_controlplane.txt", &control);
}

#[tokio::test]
async fn the_contracts_names_are_all_there() {
    let (_origin, _redis, fleet) = fleet().await;
    let metrics = fleet.planes[0].metrics().await;
    let families = metrics.families();
    for name in [
        "edgequota_requests_allowed_total",
        "edgequota_requests_limited_total",
        "edgequota_redis_errors_total",
        "edgequota_fallback_used_total",
        "edgequota_auth_errors_total",
        "edgequota_auth_denied_total",
        "edgequota_key_extract_errors_total",
        "edgequota_tenant_requests_allowed_total",
        "edgequota_tenant_requests_limited_total",
        "edgequota_tenant_label_overflow_total",
        "edgequota_tenant_key_rejected_total",
        "edgequota_events_dropped_total",
        "edgequota_events_send_failures_total",
        "edgequota_concurrent_requests_rejected_total",
        "edgequota_external_rl_semaphore_rejected_total",
        "edgequota_external_rl_singleflight_shared_total",
        "edgequota_redis_healthy",
        "edgequota_request_duration_seconds",
        "edgequota_auth_duration_seconds",
        "edgequota_external_rl_duration_seconds",
        "edgequota_backend_duration_seconds",
        "edgequota_ratelimit_remaining_tokens",
        "edgequota_limit_decisions_total",
        "edgequota_refusals_total",
        "edgequota_policy_age_seconds",
        "edgequota_policy_version_info",
        "edgequota_policy_rejected_total",
        "edgequota_config_reload_success",
        "edgequota_access_log_dropped_total",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(families.contains(name), "{name} is missing");
    }
    let control = fleet.control().metrics().await.families();
    for name in ["edgequota_policy_rejected_total", "edgequota_config_reload_success", "process_open_fds"] {
        assert!(control.contains(name), "{name} is missing on the control plane");
    }
    assert_eq!(
        metrics.buckets("edgequota_request_duration_seconds"),
        [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0]
    );
    assert_eq!(
        metrics.buckets("edgequota_ratelimit_remaining_tokens"),
        [0.0, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0]
    );
    let backend = metrics.buckets("edgequota_backend_duration_seconds");
    assert_eq!((backend.first(), backend.last()), (Some(&0.001), Some(&30.0)));
}

#[tokio::test]
async fn counts_are_right() {
    let (_origin, _redis, fleet) = fleet().await;
    let m = fleet.planes[0].metrics().await;
    assert_eq!(m.sum("edgequota_requests_allowed_total", &[]), 3.0);
    assert_eq!(m.sum("edgequota_requests_limited_total", &[]), 1.0);
    assert_eq!(m.sum("edgequota_key_extract_errors_total", &[]), 1.0);
    assert_eq!(m.sum("edgequota_tenant_requests_allowed_total", &["tenant=\"a\""]), 1.0);
    assert_eq!(m.sum("edgequota_tenant_requests_limited_total", &["tenant=\"a\""]), 1.0);
    assert_eq!(m.sum("edgequota_refusals_total", &["reason=\"rate_limited\""]), 1.0);
    assert_eq!(m.sum("edgequota_request_duration_seconds_count", &[]), 5.0);
    assert_eq!(m.sum("edgequota_request_duration_seconds_count", &["status_code=\"429\"", "method=\"GET\""]), 1.0);
    assert_eq!(m.sum("edgequota_request_duration_seconds_count", &["status_code=\"404\""]), 1.0);
    let limit = ["limit=\"default\"", "mode=\"enforce\""];
    assert_eq!(m.sum("edgequota_limit_decisions_total", &[limit[0], limit[1], "decision=\"allowed\""]), 3.0);
    assert_eq!(m.sum("edgequota_limit_decisions_total", &[limit[0], limit[1], "decision=\"refused\""]), 1.0);
}

#[tokio::test]
async fn labels_are_bounded() {
    let origin = Origin::start().await;
    let yaml = format!(
        "redis: {{ mode: embedded }}\n{}rate_limit: {{ average: 9, burst: 9, max_tenant_labels: 5, key_strategy: {{ type: header, \
         header_name: X-Tenant-Id }} }}\n",
        origin.yaml(&[])
    );
    let eq = Edgequota::standalone().config(yaml).ready().await;
    for n in 0..20 {
        eq.get("/", &[("x-tenant-id", &format!("t{n}"))]).await;
        edgequota_tests::client::send(
            eq.proxy(),
            &format!("X{n}"),
            "/",
            &[("x-tenant-id", "t0")],
            edgequota_tests::body::empty(),
        )
        .await;
    }
    let m = eq.metrics().await;
    let over = m.sum("edgequota_tenant_requests_allowed_total", &["tenant=\"__overflow__\""]);
    assert_eq!(over, 15.0);
    assert!(m.sum("edgequota_tenant_label_overflow_total", &[]) >= 1.0);
    assert_eq!(m.sum("edgequota_tenant_requests_allowed_total", &["tenant=\"t19\""]), 0.0);
    assert!(m.sum("edgequota_request_duration_seconds_count", &["method=\"other\""]) >= 20.0);
}
