//! Settings that change while the process runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{Edgequota, Origin, Redis, eventually, get};

const SOON: Duration = Duration::from_secs(10);
const LIMIT: &str = "rate_limit: { average: 1, burst: 5, period: 1h }\n";

#[tokio::test]
async fn counting_moves_to_another_redis() {
    let (origin, one, two) = (Origin::start().await, Redis::start().await, Redis::start().await);
    let yaml = |redis: &Redis| format!("{}{}{LIMIT}", redis.yaml(&["deadline: 2s"]), origin.yaml(&[]));
    let eq = Edgequota::standalone().config(yaml(&one)).ready().await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
    assert_eq!(one.keys().await.len(), 1);
    eq.write_config(&yaml(&two));
    eventually("the other Redis counts", SOON, || async {
        eq.get("/", &[]).await;
        (two.keys().await.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_password_file_is_followed() {
    let (origin, redis) = (Origin::start().await, Redis::with(&["--requirepass", "first-secret"]).await);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "wrong-secret\n").unwrap();
    let yaml = format!(
        "{}{}rate_limit: {{ average: 1, burst: 5, period: 1h, failure_policy: failClosed, failure_code: 503 }}\n",
        redis.yaml(&[&format!("password_file: \"{}\"", path.display())]),
        origin.yaml(&[])
    );
    // A data plane with its own file stays up while it cannot count.
    let eq = Edgequota::dataplane()
        .config(yaml)
        .config("control_plane: { address: \"http://127.0.0.1:1\", initial_wait: 100ms }\n")
        .ready()
        .await;
    assert_eq!(eq.get("/", &[]).await.status, 503);
    edgequota_tests::configmap::replace(&path, "first-secret\n");
    eventually("the new password is used", Duration::from_secs(45), || async {
        (eq.get("/", &[]).await.status == 200).then_some(())
    })
    .await;
    assert!(!eq.log().text().contains("-secret"), "a password is in the log");
}

#[tokio::test]
async fn trusted_proxies_timeouts_and_bounds_change_live() {
    let origin = Origin::start().await;
    let yaml = |server: &str| format!("redis: {{ mode: embedded }}\nserver: {{ {server} }}\n{}", origin.yaml(&[]));
    let eq = Edgequota::standalone().config(yaml("trusted_proxies: [10.0.0.0/8]")).ready().await;
    let forwarded = |eq: &Edgequota| {
        let addr = eq.proxy();
        async move {
            let echo = get(addr, "/", &[("x-forwarded-for", "9.9.9.9")]).await;
            assert_eq!(echo.status, 200);
            echo.text()
        }
    };
    assert!(!forwarded(&eq).await.contains("9.9.9.9"));
    eq.write_config(&yaml("trusted_proxies: [127.0.0.0/8], request_timeout: 700ms"));
    eventually("the peer is believed", SOON, || async { forwarded(&eq).await.contains("9.9.9.9").then_some(()) }).await;
    assert_eq!(eq.get("/", &[("x-origin", "head-delay=4000")]).await.status, 504);
}

#[tokio::test]
async fn the_log_level_changes_live() {
    let origin = Origin::start().await;
    let yaml = |level: &str| {
        format!(
            "redis: {{ mode: embedded }}\nlogging: {{ level: {level}, access_log_enabled: false }}\n{}",
            origin.yaml(&[])
        )
    };
    let eq = Edgequota::standalone().config(yaml("info")).ready().await;
    assert!(!eq.log().contains("\"level\":\"debug\""));
    eq.write_config(&yaml("debug"));
    eventually("debug lines", SOON, || async {
        eq.get("/", &[]).await;
        eq.log().contains("\"level\":\"debug\"").then_some(())
    })
    .await;
}
