//! Answers that come before their request has been read, uploads that fail after it, and backends that change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_tests::{Edgequota, H2, Origin, Raw, body, client::request, eventually, origin::Speaks};

const EMBEDDED: &str = "redis: { mode: embedded }\nserver: { workers: 1, read_timeout: 2s }\n";

async fn proxy(origin: &Origin, backend: &[&str]) -> Edgequota {
    Edgequota::standalone().config(EMBEDDED).config(origin.yaml(backend)).ready().await
}

/// A body that a backend's HTTP/2 connection still holds after its answer must not read on when the client's connection
/// has moved on to the next request.
#[tokio::test]
async fn a_body_that_was_given_up_never_reads_the_next_request() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &["transport: { backend_protocol: h2 }"]).await;
    for round in 0..60 {
        let mut raw = Raw::connect(eq.proxy()).await;
        // Long enough for the backend to grant more window later, which wakes whoever still holds the body.
        let (sent, rest) = (30_000 + 500 * round, 20_000);
        let head = format!("POST /a HTTP/1.1\r\nhost: h\r\nx-origin: early\r\ncontent-length: {}\r\n\r\n", sent + rest);
        raw.send(head).await;
        raw.send(vec![b'a'; sent]).await;
        let answer = raw.answer().await.expect("an early answer");
        assert_eq!(answer.status, 200);
        // What is left of the first body is thrown away, and the connection goes on, unless it was closed.
        if raw.try_send(vec![b'a'; rest]).await.is_err() {
            continue;
        }
        let secret = format!("secret-{round}");
        let next = format!("POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{secret}", secret.len());
        if raw.try_send(next).await.is_err() {
            continue;
        }
        if let Some(answer) = raw.answer().await {
            assert_eq!(answer.status, 200);
            let echo: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!((echo["target"].as_str(), echo["body"].as_str()), (Some("/b"), Some(&*secret)), "round {round}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_fails_after_the_answer_began_ends_both_sides() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &["max_request_body_size: 1000", "transport: { backend_protocol: h1 }"]).await;
    let head = "POST / HTTP/1.1\r\nhost: h\r\nx-origin: early; chunks=40; chunk-delay=500\r\ntransfer-encoding: chunked\r\n\r\n";
    for (name, broken) in
        [("malformed", "nonsense\r\n".to_owned()), ("too large", format!("7d0\r\n{}\r\n", "x".repeat(2000)))]
    {
        let mut raw = Raw::connect(eq.proxy()).await;
        raw.send(head).await;
        raw.send("5\r\nhello\r\n").await;
        assert!(raw.some(Duration::from_secs(5)).await.is_some(), "{name}: the answer begins");
        let start = Instant::now();
        raw.send(broken).await;
        let closed = raw.until_closed(Duration::from_secs(8)).await;
        assert!(closed.is_some(), "{name}: the connection was not closed");
        assert!(start.elapsed() < Duration::from_secs(7), "{name}");
    }
    // And a client that leaves in the middle of both.
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send(head).await;
    raw.send("5\r\nhello\r\n").await;
    assert!(raw.some(Duration::from_secs(5)).await.is_some());
    drop(raw);
    eventually("the backend is told", Duration::from_secs(5), || async { (origin.open() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn the_first_requests_share_one_connection() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &["transport: { backend_protocol: h2 }"]).await;
    let client = H2::connect(eq.proxy()).await;
    let all = (0..50).map(|_| client.send(request("GET", "h", "/", &[], body::empty())));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.unwrap().status, 200);
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_backend_that_no_longer_speaks_http2_is_found_out() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let client = H2::connect(eq.proxy()).await;
    let get = || client.send(request("GET", "h", "/", &[], body::empty()));
    assert_eq!(get().await.unwrap().json()["version"], "HTTP/2.0");
    let port = origin.addr().port();
    drop(origin);
    eventually("its port is free", Duration::from_secs(5), || async {
        std::net::TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(())
    })
    .await;
    let _successor = Origin::speaking_at(Speaks::Http1, port).await;
    let answer = get().await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json()["version"].as_str()), (200, Some("HTTP/1.1")));
}
