//! Settings that change while the process runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{Edgequota, Origin, Redis, eventually, eventually::scripted_delay, get};

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
    let yaml = |level: &str, n: usize| {
        format!(
            "redis: {{ mode: embedded }}\nlogging: {{ level: {level}, access_log_enabled: false }}\n\
             backend: {{ url: \"{}/v{n}\" }}\n",
            origin.url()
        )
    };
    let eq = Edgequota::standalone().config(yaml("info", 0)).ready().await;
    let told = || eq.log().with_msg("policy in force").len();
    let enforced = async |n: usize| {
        let what = format!("edit {n} is enforced");
        eq.until_answer(&what, "/", &[], SOON, |a| a.json()["target"] == format!("/v{n}/")).await;
    };
    eq.log().until("policy in force", SOON).await;
    eq.write_config(&yaml("error", 1));
    enforced(1).await;
    let before = told();
    eq.write_config(&yaml("error", 2));
    enforced(2).await;
    eq.write_config(&yaml("info", 3));
    enforced(3).await;
    eq.write_config(&yaml("info", 4));
    enforced(4).await;
    eventually("a line about edit 4", SOON, || async { (told() > before).then_some(()) }).await;
    assert!(told() <= before + 2, "edit 2 was told at level error: {}", eq.log().text());
}

/// Whenever in its start the file is replaced, what the file says last is in force: settings and policy.
#[tokio::test]
async fn an_edit_during_start_is_not_lost() {
    let origin = Origin::start().await;
    let yaml = |n: usize, requests: usize| {
        format!(
            "server: {{ address: '127.0.0.1:0', max_concurrent_requests: {requests} }}\nadmin: {{ address: '127.0.0.1:0' }}\n\
             redis: {{ mode: embedded }}\nbackend: {{ url: \"{}/v{n}\" }}\n",
            origin.url()
        )
    };
    for wait in 0..12 {
        let mut eq = Edgequota::standalone().config(yaml(0, 100)).spawn();
        scripted_delay(Duration::from_millis(3 * wait)).await;
        let next = eq.dir().join("next.yaml");
        std::fs::write(&next, yaml(1, 200)).unwrap();
        std::fs::rename(&next, eq.config_path()).unwrap();
        eq.learn_addresses().await;
        eventually("settings and policy of the edit", SOON, || async {
            let config = eq.admin_json("/v1/config").await;
            let url = format!("{}/v1", origin.url());
            let policy = config["backend"]["url"].as_str().is_some_and(|u| u.starts_with(&url));
            (policy && config["server"]["max_concurrent_requests"] == 200).then_some(())
        })
        .await;
    }
}
