//! HTTP/2 by prior knowledge, in front and behind, and gRPC through it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{
    Answer, Edgequota, H2, Origin, body, client::request, eventually, get, origin::Speaks, process::Process, python,
};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use serde_json::Value;

const EMBEDDED: &str = "redis: { mode: embedded }\n";

async fn proxy(origin: &Origin, backend: &[&str], more: &str) -> Edgequota {
    Edgequota::standalone().config(EMBEDDED).config(origin.yaml(backend)).config(more).ready().await
}

async fn h2_get(eq: &Edgequota, path: &str, headers: &[(&str, &str)]) -> Answer {
    H2::connect(eq.proxy()).await.send(request("GET", "h2.example", path, headers, body::empty())).await.unwrap()
}

#[tokio::test]
async fn auto_keeps_the_clients_protocol() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[], "").await;
    eventually("an h2 client arrives as h2", Duration::from_secs(10), || async {
        let answer = h2_get(&eq, "/a?b", &[]).await;
        assert_eq!(answer.status, 200);
        (answer.json()["version"] == "HTTP/2.0").then_some(())
    })
    .await;
    let echo = h2_get(&eq, "/a?b", &[("x-one", "1")]).await.json();
    assert_eq!((echo["target"].as_str(), echo["host"].as_str()), (Some("/a?b"), Some("h2.example")));
    assert_eq!(get(eq.proxy(), "/", &[]).await.json()["version"], "HTTP/1.1");
}

#[tokio::test]
async fn a_backend_without_h2_gets_http1_and_no_request_is_lost_to_finding_out() {
    let origin = Origin::speaking(Speaks::Http1).await;
    let eq = proxy(&origin, &[], "").await;
    for n in 1..=5 {
        let answer = h2_get(&eq, "/", &[]).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["version"]), (200, &Value::from("HTTP/1.1")));
        assert_eq!(origin.requests(), n);
    }
}

#[tokio::test]
async fn the_backend_protocol_can_be_set() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &["transport: { backend_protocol: h2 }"], "").await;
    assert_eq!(get(eq.proxy(), "/", &[]).await.json()["version"], "HTTP/2.0");
    assert_eq!(h2_get(&eq, "/", &[]).await.json()["version"], "HTTP/2.0");
    let eq = proxy(&origin, &["transport: { backend_protocol: h1 }"], "").await;
    assert_eq!(h2_get(&eq, "/", &[]).await.json()["version"], "HTTP/1.1");
}

#[tokio::test]
async fn trailers_are_translated() {
    for protocol in ["h1", "h2"] {
        let origin = Origin::start().await;
        let eq = proxy(&origin, &[&format!("transport: {{ backend_protocol: {protocol} }}")], "").await;
        let answer = h2_get(&eq, "/", &[("x-origin", "trailers"), ("te", "trailers")]).await;
        assert_eq!(answer.trailers.unwrap_or_else(|| panic!("{protocol}: no trailers"))["x-trailer"], "end");

        let client = H2::connect(eq.proxy()).await;
        let (feeder, out) = body::channel();
        let sent = request("POST", "h", "/", &[("trailer", "x-sum")], out);
        let exchange = tokio::spawn(async move { client.send(sent).await.unwrap() });
        assert!(feeder.send("data").await);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        feeder.trailers(trailers).await;
        assert_eq!(exchange.await.unwrap().json()["trailers"], serde_json::json!([["x-sum", "42"]]), "{protocol}");
    }
    let origin = Origin::start().await;
    let eq = proxy(&origin, &["transport: { backend_protocol: h2 }"], "").await;
    let answer = get(eq.proxy(), "/", &[("x-origin", "trailers"), ("te", "trailers")]).await;
    assert_eq!(answer.trailers.expect("h2 to h1: no trailers")["x-trailer"], "end");
}

#[tokio::test]
async fn streams_flow_both_ways_side_by_side() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &["transport: { backend_protocol: h2 }"], "").await;
    let client = H2::connect(eq.proxy()).await;
    let (feeder, out) = body::channel();
    let mut response = client.begin(request("POST", "h", "/", &[("x-origin", "stream")], out)).await.unwrap();
    for n in 0..10 {
        assert!(feeder.send(format!("piece {n}")).await);
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), format!("piece {n}"));
        let other = client.send(request("GET", "h", "/", &[], body::empty())).await.unwrap();
        assert_eq!(other.status, 200);
    }
}

#[tokio::test]
async fn many_streams_on_one_connection() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[], "").await;
    let client = std::sync::Arc::new(H2::connect(eq.proxy()).await);
    let mut all = tokio::task::JoinSet::new();
    for n in 0..100usize {
        let client = std::sync::Arc::clone(&client);
        all.spawn(async move {
            let size = n * 3000;
            let sent = request("POST", "h", &format!("/{n}"), &[], body::full(vec![b'x'; size]));
            let answer = client.send(sent).await.unwrap();
            assert_eq!(answer.json()["body_length"], size);
        });
    }
    while let Some(one) = all.join_next().await {
        one.unwrap();
    }
}

#[tokio::test]
async fn answers_arrive_whole_however_they_are_cut() {
    for protocol in ["h1", "h2"] {
        let origin = Origin::start().await;
        let eq = proxy(&origin, &[&format!("transport: {{ backend_protocol: {protocol} }}")], "").await;
        let client = H2::connect(eq.proxy()).await;
        for (script, size) in [
            ("length=0", 0),
            ("length=1", 1),
            ("length=200000", 200_000),
            ("chunks=0", 0),
            ("chunks=1", 16),
            ("chunks=3", 48),
            ("chunks=3; chunk-delay=30", 48),
            ("chunks=40; chunk-size=20000", 800_000),
            ("chunks=2; trailers", 32),
            ("status=204", 0),
            ("status=404; body=no", 2),
        ] {
            let sent = request("GET", "h", "/", &[("x-origin", script), ("te", "trailers")], body::empty());
            let answer = client.send(sent).await.unwrap_or_else(|e| panic!("{protocol}, {script}: {e}"));
            assert_eq!(answer.body.len(), size, "{protocol}, {script}");
        }
        let sent = request("HEAD", "h", "/", &[("x-origin", "length=50")], body::empty());
        let head = client.send(sent).await.unwrap_or_else(|e| panic!("{protocol}, HEAD: {e}"));
        assert_eq!((head.header("content-length"), head.body.len()), ("50", 0), "{protocol}");
    }
}

#[tokio::test]
async fn a_stream_whose_client_goes_away_ends_at_the_backend() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &["transport: { backend_protocol: h1 }"], "").await;
    let client = H2::connect(eq.proxy()).await;
    let response = client
        .begin(request("GET", "h", "/", &[("x-origin", "chunks=1000; chunk-delay=50")], body::empty()))
        .await
        .unwrap();
    assert_eq!(origin.open(), 1);
    drop(response);
    eventually("the backend connection ends", Duration::from_secs(5), || async { (origin.open() == 0).then_some(()) })
        .await;
    assert_eq!(client.send(request("GET", "h", "/", &[], body::empty())).await.unwrap().status, 200);
}

#[tokio::test]
async fn limits_of_bodies_and_headers_hold_in_h2() {
    let origin = Origin::start().await;
    let more = "server: { max_header_bytes: 4096, max_headers: 20 }\n";
    let eq = proxy(&origin, &["max_request_body_size: 1000"], more).await;
    let client = H2::connect(eq.proxy()).await;
    let answer = client.send(request("POST", "h", "/", &[], body::full(vec![b'x'; 1001]))).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (413, "request_too_large"));
    let names: Vec<String> = (0..25).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "1")).collect();
    assert_eq!(client.send(request("GET", "h", "/", &many, body::empty())).await.unwrap().status, 431);
    let big = "x".repeat(5000);
    let answer = client.send(request("GET", "h", "/", &[("x-big", &big)], body::empty())).await;
    assert!(answer.as_ref().is_ok_and(|a| a.status == 431), "{answer:?}");
    assert_eq!(client.send(request("GET", "h", "/", &[], body::empty())).await.unwrap().status, 200);
}

#[tokio::test]
async fn cookies_that_h2_split_arrive_as_one_line() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &["transport: { backend_protocol: h1 }"], "").await;
    h2_get(&eq, "/", &[("cookie", "a=1"), ("cookie", "b=2")]).await;
    let seen = origin.last();
    let lines: Vec<_> = seen.headers.get_all("cookie").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(lines, ["a=1; b=2"]);
}

#[tokio::test]
async fn an_upgrade_to_h2c_is_ignored() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[], "").await;
    let headers =
        [("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQAAP__")];
    let answer = get(eq.proxy(), "/", &headers).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["version"]), (200, &Value::from("HTTP/1.1")));
}

async fn grpc_server() -> (Process, String) {
    let server = python::spawn("grpc_server.py", &[]);
    let port = eventually("the gRPC server prints its port", Duration::from_secs(20), || async {
        server.log().lines().iter().find_map(|l| l.strip_prefix("port ").map(str::to_owned))
    })
    .await;
    (server, format!("backend: {{ url: \"http://127.0.0.1:{port}\" }}\n"))
}

#[tokio::test]
async fn grpc_calls_of_every_kind_pass() {
    let (_server, backend) = grpc_server().await;
    let eq = Edgequota::standalone().config(EMBEDDED).config(&backend).ready().await;
    let output = python::run("grpc_client.py", &[eq.proxy().to_string()]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().filter(|l| l.starts_with("ok ")).count(), 11, "{text}");
}

async fn refused(eq: &Edgequota) -> Value {
    let output = python::run("grpc_refused.py", &[eq.proxy().to_string()]).await;
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test]
async fn grpc_refusals_are_statuses_that_grpc_clients_know() {
    let (server, backend) = grpc_server().await;
    let limit = "rate_limit: { average: 1, burst: 1, period: 1h, key_strategy: { type: global } }\n";
    let eq = Edgequota::standalone().config(EMBEDDED).config(&backend).config(limit).ready().await;
    assert_eq!(refused(&eq).await["code"], "OK");
    let answer = refused(&eq).await;
    assert_eq!(answer["code"], "RESOURCE_EXHAUSTED");
    assert!(answer["message"].as_str().is_some_and(|m| !m.is_empty()));
    assert_eq!(answer["metadata"]["x-ratelimit-limit"], "1");
    assert_eq!(answer["metadata"]["x-ratelimit-remaining"], "0");
    let wait: u64 = answer["metadata"]["retry-after"].as_str().unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait));
    drop(server);

    let eq = Edgequota::standalone().config(EMBEDDED).config(&backend).ready().await;
    assert_eq!(refused(&eq).await["code"], "UNAVAILABLE");
}

#[tokio::test]
async fn a_refused_grpc_request_is_http_200_with_trailers_only() {
    let origin = Origin::start().await;
    let limit = "rate_limit: { average: 1, burst: 1, period: 1h, key_strategy: { type: global } }\n";
    let eq = proxy(&origin, &[], limit).await;
    get(eq.proxy(), "/", &[]).await;
    let client = H2::connect(eq.proxy()).await;
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let answer = client.send(request("POST", "h", "/p.S/M", &headers, body::full(vec![0; 5]))).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, "8"));
    assert!(answer.body.is_empty() && answer.header("content-type").starts_with("application/grpc"));
    assert_eq!(answer.header("x-ratelimit-limit"), "1");
    assert!(answer.number("retry-after") > 3000);
}
