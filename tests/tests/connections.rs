//! Connections in front and behind: age, bounds, sharing between workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_tests::{
    Edgequota, H1, H2, Origin, Raw, body, client::request, eventually, eventually::scripted_delay, get, load::Load,
};

const EMBEDDED: &str = "redis: { mode: embedded }\n";

fn plain() -> http::Request<body::AnyBody> {
    request("GET", "h", "/", &[], body::empty())
}

#[tokio::test]
async fn old_client_connections_are_closed_gracefully() {
    let origin = Origin::start().await;
    let yaml = format!("{EMBEDDED}server: {{ max_connection_age: 1s, drain_timeout: 5s }}\n{}", origin.yaml(&[]));
    let eq = Edgequota::standalone().config(yaml).ready().await;
    let mut one = H1::connect(eq.proxy()).await;
    assert_eq!(one.send(plain()).await.unwrap().header("connection"), "");
    scripted_delay(Duration::from_millis(1300)).await;
    let answer = one.send(plain()).await;
    assert!(answer.is_err() || answer.as_ref().is_ok_and(|a| a.header("connection") == "close"), "{answer:?}");

    let two = H2::connect(eq.proxy()).await;
    let script = [("x-origin", "chunks=8; chunk-delay=400")];
    let long = two.send(request("GET", "h", "/", &script, body::empty())).await.expect("a stream outlives the age");
    assert_eq!(long.body.len(), 8 * 16);
    eventually("GOAWAY", Duration::from_secs(5), || async { two.is_closed().then_some(()) }).await;
}

#[tokio::test]
async fn traffic_does_not_notice_connection_ages() {
    let origin = Origin::start().await;
    let yaml = format!(
        "{EMBEDDED}server: {{ max_connection_age: 300ms }}\n{}",
        origin.yaml(&["transport: { max_connection_age: 300ms }"])
    );
    let eq = Edgequota::standalone().config(yaml).ready().await;
    let tally = Load::start(&[eq.proxy()], 8, |_| plain(), |_| Ok(())).run_for(Duration::from_secs(3)).await;
    tally.expect_only(&[200]);
    assert!(origin.connections() > 8, "backend connections did not age: {}", origin.connections());
}

#[tokio::test]
async fn idle_backend_connections_are_dropped() {
    let origin = Origin::start().await;
    let yaml = format!("{EMBEDDED}{}", origin.yaml(&["idle_conn_timeout: 500ms"]));
    let eq = Edgequota::standalone().config(yaml).ready().await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
    eventually("no backend connection is left", Duration::from_secs(5), || async {
        (origin.open() == 0).then_some(())
    })
    .await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
}

#[tokio::test]
async fn connections_are_bounded() {
    let origin = Origin::start().await;
    let yaml = format!("{EMBEDDED}server: {{ max_connections: 10 }}\n{}", origin.yaml(&[]));
    let eq = Edgequota::standalone().config(yaml).ready().await;
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut client = H1::connect(eq.proxy()).await;
        assert_eq!(client.send(plain()).await.unwrap().status, 200);
        held.push(client);
    }
    let mut more = Raw::connect(eq.proxy()).await;
    let _ = more.try_send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let got = more.until_closed(Duration::from_secs(5)).await.expect("the eleventh is turned away");
    assert!(!String::from_utf8_lossy(&got.0).contains("200 OK"));
    held.pop();
    eventually("there is room again", Duration::from_secs(5), || async {
        let answer = edgequota_tests::client::try_send(eq.proxy(), "GET", "/", &[], body::empty()).await;
        answer.is_ok_and(|a| a.status == 200).then_some(())
    })
    .await;
    for client in &mut held {
        assert_eq!(client.send(plain()).await.unwrap().status, 200, "those that are in stay in");
    }
}

#[tokio::test]
async fn backend_connections_are_bounded() {
    let origin = Origin::start().await;
    let yaml = format!("{EMBEDDED}{}", origin.yaml(&["max_conns: 3", "timeout: 10s"]));
    let eq = Edgequota::standalone().config(yaml).ready().await;
    let addr = eq.proxy();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..12 {
        all.spawn(async move { get(addr, "/", &[("x-origin", "head-delay=200")]).await.status.as_u16() });
    }
    let mut most = 0;
    while let Some(status) = all.join_next().await {
        most = most.max(origin.open());
        assert!(matches!(status.unwrap(), 200 | 503), "neither served nor turned away");
    }
    assert!(origin.connections() >= 1 && most <= 3, "{most} connections at once");
}

#[tokio::test]
async fn a_few_busy_h2_connections_use_every_worker() {
    let origin = Origin::start().await;
    let yaml = format!("{EMBEDDED}server: {{ workers: 2 }}\n{}", origin.yaml(&["transport: { backend_protocol: h1 }"]));
    let eq = Edgequota::standalone().config(yaml).ready().await;
    let mut tasks = tokio::task::JoinSet::new();
    let start = Instant::now();
    for _ in 0..3 {
        let client = H2::connect(eq.proxy()).await;
        tasks.spawn(async move {
            while start.elapsed() < Duration::from_secs(2) {
                assert_eq!(client.send(plain()).await.unwrap().status, 200);
            }
        });
    }
    while let Some(one) = tasks.join_next().await {
        one.unwrap();
    }
    let busy = worker_seconds(&eq);
    assert!(busy.len() == 2 && busy.iter().all(|s| *s > 0.05), "CPU seconds by worker: {busy:?}");
}

/// CPU seconds of each thread whose name says that it is a worker.
fn worker_seconds(eq: &Edgequota) -> Vec<f64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", eq.pid())).unwrap();
    tasks
        .filter_map(|task| {
            let path = task.unwrap().path();
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            let stat = std::fs::read_to_string(path.join("stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let ticks: f64 = fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?;
            name.starts_with("worker").then_some(ticks / 100.0)
        })
        .collect()
}
