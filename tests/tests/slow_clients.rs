//! Clients that are slow: cut by their timers when they stall, never while they make progress.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_tests::{Edgequota, H1, H2, Origin, Raw, body, client::request, eventually, eventually::scripted_delay};

const TIMEOUTS: &str = "redis: { mode: embedded }\nserver:\n  workers: 1\n  read_header_timeout: 500ms\n  read_timeout: 500ms\n  \
                        write_timeout: 500ms\n  idle_timeout: 700ms\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

async fn proxy(origin: &Origin, backend: &[&str]) -> Edgequota {
    Edgequota::standalone().config(TIMEOUTS).config(origin.yaml(backend)).ready().await
}

/// Closed by the peer, not before `least` and within a few seconds.
async fn cut(raw: &mut Raw, start: Instant, least: Duration) -> Vec<u8> {
    cut_within(raw, start, least, Duration::from_secs(6)).await
}

async fn cut_within(raw: &mut Raw, start: Instant, least: Duration, patience: Duration) -> Vec<u8> {
    let (bytes, _) = raw.until_closed(patience).await.expect("the connection was not closed");
    assert!(start.elapsed() >= least, "closed after {:?} already", start.elapsed());
    bytes
}

#[tokio::test]
async fn silence_before_the_first_byte() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let start = Instant::now();
    let mut raw = Raw::connect(eq.proxy()).await;
    cut(&mut raw, start, Duration::from_millis(400)).await;
}

#[tokio::test]
async fn half_a_preface() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let start = Instant::now();
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send(&PREFACE[..10]).await;
    cut(&mut raw, start, Duration::from_millis(400)).await;
}

#[tokio::test]
async fn silence_after_the_h2_preface() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let start = Instant::now();
    let (mut one, mut two) = (Raw::connect(eq.proxy()).await, Raw::connect(eq.proxy()).await);
    one.send(PREFACE).await;
    two.send([PREFACE, EMPTY_SETTINGS].concat()).await;
    // A client that speaks h2 is told to go first (GOAWAY) and has 15 s to do so.
    let grace = Duration::from_secs(20);
    for raw in [&mut one, &mut two] {
        cut_within(raw, start, Duration::from_millis(400), grace).await;
    }
}

#[tokio::test]
async fn a_head_that_stalls_or_drips() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let start = Instant::now();
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("GET / HTTP/1.1\r\nhost: h\r\n").await;
    cut(&mut raw, start, Duration::from_millis(400)).await;

    let start = Instant::now();
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("GET / HTTP/1.1\r\nhost: h\r\n").await;
    while raw.try_send("x: y\r\n").await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5), "a dripping head is read for ever");
        scripted_delay(Duration::from_millis(100)).await;
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn a_second_head_that_stalls() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    let start = Instant::now();
    raw.send("GET / HT").await;
    cut(&mut raw, start, Duration::from_millis(300)).await;
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn a_body_that_stalls() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let start = Instant::now();
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nsome").await;
    cut(&mut raw, start, Duration::from_millis(400)).await;
    eventually("the origin sees that the body broke off", Duration::from_secs(5), || async {
        (origin.broken_bodies() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_h2_body_that_stalls() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let client = H2::connect(eq.proxy()).await;
    let (feeder, out) = body::channel();
    assert!(feeder.send("some").await);
    let start = Instant::now();
    let result = client.send(request("POST", "h", "/", &[], out)).await;
    assert!(start.elapsed() >= Duration::from_millis(400) && start.elapsed() < Duration::from_secs(6));
    assert!(result.is_err() || result.as_ref().is_ok_and(|a| a.status == 408 || a.status == 400), "{result:?}");
}

#[tokio::test]
async fn an_upload_that_flows_is_not_cut() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &["timeout: 600ms"]).await;
    let mut client = H1::connect(eq.proxy()).await;
    let (feeder, out) = body::channel();
    let exchange = tokio::spawn(async move { client.send(request("POST", "h", "/", &[], out)).await });
    let start = Instant::now();
    let mut pieces = 0;
    while start.elapsed() < Duration::from_secs(3) {
        assert!(feeder.send(vec![b'x'; 64 * 1024]).await, "cut after {:?}", start.elapsed());
        pieces += 1;
        scripted_delay(Duration::from_millis(100)).await;
    }
    drop(feeder);
    let answer = exchange.await.unwrap().expect("the answer comes at the end");
    assert_eq!(answer.json()["body_length"], pieces * 64 * 1024);
}

#[tokio::test]
async fn a_client_stream_whose_server_answers_at_the_end_is_not_cut() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &["timeout: 600ms"]).await;
    let client = H2::connect(eq.proxy()).await;
    let (feeder, out) = body::channel();
    let exchange = tokio::spawn(async move { client.send(request("POST", "h", "/", &[], out)).await });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        assert!(feeder.send(vec![b'x'; 4096]).await, "cut after {:?}", start.elapsed());
        scripted_delay(Duration::from_millis(100)).await;
    }
    drop(feeder);
    assert_eq!(exchange.await.unwrap().expect("the answer comes at the end").status, 200);
}

#[tokio::test]
async fn an_answer_that_nobody_reads() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("GET / HTTP/1.1\r\nhost: h\r\nx-origin: chunks=4000; chunk-size=65536\r\n\r\n").await;
    eventually("the origin got the request", Duration::from_secs(5), || async { (origin.open() == 1).then_some(()) })
        .await;
    eventually("the stalled answer is given up", Duration::from_secs(8), || async {
        (origin.open() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_makes_progress_is_not_cut() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let script = [("x-origin", "chunks=12; chunk-delay=250")];
    let answer = eq.get("/", &script).await;
    assert_eq!(answer.body.len(), 12 * 16);
}

#[tokio::test]
async fn idle_connections_close() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let mut client = H1::connect(eq.proxy()).await;
    client.send(request("GET", "h", "/", &[], body::empty())).await.unwrap();
    let start = Instant::now();
    client.closed(Duration::from_secs(5)).await;
    assert!(start.elapsed() >= Duration::from_millis(400), "closed after {:?}", start.elapsed());

    let client = H2::connect(eq.proxy()).await;
    client.send(request("GET", "h", "/", &[], body::empty())).await.unwrap();
    let start = Instant::now();
    eventually("idle h2 connection closed", Duration::from_secs(5), || async { client.is_closed().then_some(()) })
        .await;
    assert!(start.elapsed() >= Duration::from_millis(400), "closed after {:?}", start.elapsed());
}

#[tokio::test]
async fn the_whole_request_has_a_timeout_when_one_is_set() {
    let origin = Origin::start().await;
    let yaml = format!("redis: {{ mode: embedded }}\nserver: {{ request_timeout: 500ms }}\n{}", origin.yaml(&[]));
    let eq = Edgequota::standalone().config(yaml).ready().await;
    let start = Instant::now();
    let answer = eq.get("/", &[("x-origin", "head-delay=5000")]).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (504, "backend_timeout"));
    assert!((400..3000).contains(&start.elapsed().as_millis()));
    let mut client = H1::connect(eq.proxy()).await;
    let script = [("x-origin", "chunks=20; chunk-delay=200")];
    let cut = client.send(request("GET", "h", "/", &script, body::empty())).await;
    assert!(cut.is_err(), "the answer outlived the timeout");
}

#[tokio::test]
async fn stalled_connections_do_not_hold_up_others() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, &[]).await;
    let mut stalled = Vec::new();
    for n in 0..200 {
        let mut raw = Raw::connect(eq.proxy()).await;
        raw.send(&b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nab"[..if n % 2 == 0 { 10 } else { 49 }])
            .await;
        stalled.push(raw);
    }
    let start = Instant::now();
    assert_eq!(eq.get("/", &[]).await.status, 200);
    assert!(start.elapsed() < Duration::from_secs(2));
}
