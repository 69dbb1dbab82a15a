//! Proxying over HTTP/1.1: what passes, what is added, what is taken away, what failures look like.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_tests::{
    Edgequota, H1, Origin, Raw, body,
    client::{request, send},
    eventually,
    ports::free_port,
};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use serde_json::Value;

const EMBEDDED: &str = "redis: { mode: embedded }\n";

async fn proxy(origin: &Origin, more: &str) -> Edgequota {
    Edgequota::standalone().config(EMBEDDED).config(origin.yaml(&[])).config(more).ready().await
}

/// Values of a field in an echo, in order.
fn echoed<'a>(echo: &'a Value, name: &str) -> Vec<&'a str> {
    let fields = echo["headers"].as_array().unwrap();
    fields.iter().filter(|f| f[0] == name).map(|f| f[1].as_str().unwrap()).collect()
}

#[tokio::test]
async fn methods_paths_queries_and_bodies_arrive_as_sent() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let answer = send(eq.proxy(), method, "/a/b%20c?x=%2F&y=1;2", &[], body::full("some body")).await;
        let echo = answer.json();
        assert_eq!((echo["method"].as_str(), echo["body"].as_str()), (Some(method), Some("some body")), "{method}");
        assert_eq!(echo["target"], "/a/b%20c?x=%2F&y=1;2");
        assert_eq!(echo["version"], "HTTP/1.1");
    }
}

#[tokio::test]
async fn a_path_in_the_backend_url_is_a_prefix() {
    let origin = Origin::start().await;
    let yaml = format!("{EMBEDDED}backend: {{ url: \"{}/base/\" }}\n", origin.url());
    let eq = Edgequota::standalone().config(yaml).ready().await;
    assert_eq!(eq.get("/x?y=1", &[]).await.json()["target"], "/base/x?y=1");
}

#[tokio::test]
async fn the_answer_streams_as_it_comes() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut client = H1::connect(eq.proxy()).await;
    let start = Instant::now();
    let script = [("x-origin", "chunks=4; chunk-delay=300")];
    let mut response = client.begin(request("GET", "h", "/", &script, body::empty())).await.unwrap();
    let first = loop {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        if frame.data_ref().is_some_and(|d| !d.is_empty()) {
            break start.elapsed();
        }
    };
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    let all = start.elapsed();
    assert_eq!(rest.len(), 3 * 16);
    assert!(first < Duration::from_millis(800) && all >= Duration::from_millis(1200), "{first:?}, {all:?}");
}

#[tokio::test]
async fn the_request_streams_as_it_comes() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut client = H1::connect(eq.proxy()).await;
    let (feeder, out) = body::channel();
    let exchange = tokio::spawn(async move { client.send(request("POST", "h", "/", &[], out)).await });
    assert!(feeder.send("first").await);
    eventually("first piece at the origin", Duration::from_secs(5), || async {
        (origin.body_bytes() == 5).then_some(())
    })
    .await;
    assert!(feeder.send("second").await);
    drop(feeder);
    let echo = exchange.await.unwrap().unwrap().json();
    assert_eq!((echo["body"].as_str(), echo["body_length"].as_u64()), (Some("firstsecond"), Some(11)));
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("POST / HTTP/1.1\r\nhost: h\r\nx-origin: stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
    let mut text = String::new();
    while !text.contains("one") {
        text.push_str(&String::from_utf8(raw.some(Duration::from_secs(5)).await.expect("no echo")).unwrap());
    }
    raw.send("3\r\ntwo\r\n0\r\n\r\n").await;
    while !text.ends_with("0\r\n\r\n") {
        text.push_str(&String::from_utf8(raw.some(Duration::from_secs(5)).await.expect("no end")).unwrap());
    }
    assert!(text.contains("two"));
}

#[tokio::test]
async fn a_reader_that_is_slow_slows_the_backend_and_not_our_memory() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    eq.get("/", &[]).await;
    let before = eq.memory();
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("GET / HTTP/1.1\r\nhost: h\r\nx-origin: chunks=4000; chunk-size=65536\r\n\r\n").await;
    edgequota_tests::holds_for("memory stays flat while nobody reads", Duration::from_secs(2), || async {
        eq.memory() < before + (48 << 20)
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_nobody_reads_is_not_swallowed() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    eq.get("/", &[]).await;
    let before = eq.memory();
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("POST / HTTP/1.1\r\nhost: h\r\nx-origin: unread; head-delay=3000\r\ncontent-length: 268435456\r\n\r\n")
        .await;
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 128
        && matches!(tokio::time::timeout(Duration::from_millis(500), raw.try_send(&piece)).await, Ok(Ok(())))
    {
        sent += 1;
    }
    assert!(sent < 128, "{sent} MiB were taken although the backend reads nothing");
    assert!(eq.memory() < before + (48 << 20), "grew from {before} to {}", eq.memory());
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let headers = [("x-origin", "trailers"), ("te", "trailers")];
    let answer = eq.get("/", &headers).await;
    assert_eq!(answer.trailers.expect("no trailers")["x-trailer"], "end");

    let mut client = H1::connect(eq.proxy()).await;
    let (feeder, out) = body::channel();
    let exchange =
        tokio::spawn(
            async move { client.send(request("POST", "h", "/", &[("trailer", "x-sum")], out)).await.unwrap() },
        );
    assert!(feeder.send("data").await);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    feeder.trailers(trailers).await;
    let echo = exchange.await.unwrap().json();
    assert_eq!(echo["trailers"], serde_json::json!([["x-sum", "42"]]));
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    assert_eq!(raw.answer().await.expect("no interim answer").status, 100);
    raw.send("body").await;
    let answer = raw.answer().await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(String::from_utf8(answer.body).unwrap().contains("\"body\":\"body\""));
}

#[tokio::test]
async fn a_refusal_answers_expect_100_continue_without_asking_for_the_body() {
    let origin = Origin::start().await;
    let limit = "rate_limit: { average: 1, burst: 1, period: 1h, key_strategy: { type: global } }\n";
    let eq = proxy(&origin, limit).await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 429);
}

#[tokio::test]
async fn server_sent_events_are_flushed_one_by_one() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut raw = Raw::connect(eq.proxy()).await;
    let start = Instant::now();
    raw.send("GET / HTTP/1.1\r\nhost: h\r\naccept: text/event-stream\r\nx-origin: sse=5; chunk-delay=200\r\n\r\n")
        .await;
    let mut text = String::new();
    for n in 0..5u32 {
        let event = format!("data: {n}\n\n");
        while !text.contains(&event) {
            text.push_str(&String::from_utf8(raw.some(Duration::from_secs(5)).await.expect("no event")).unwrap());
        }
        let late = start.elapsed().saturating_sub(Duration::from_millis(200) * (n + 1));
        assert!(late < Duration::from_millis(600), "event {n} came {late:?} late");
        assert!(n == 4 || !text.contains("data: 4"), "events came together");
    }
    assert!(text.to_lowercase().contains("content-type: text/event-stream"));
}

#[tokio::test]
async fn hop_by_hop_fields_do_not_pass() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send(
        "GET / HTTP/1.1\r\nhost: h\r\nconnection: keep-alive, X-Mine\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\n\
         proxy-connection: keep-alive\r\nproxy-authorization: secret\r\nupgrade: foo\r\nte: gzip\r\nx-kept: 1\r\n\
         x-origin: header=connection:x-theirs; header=x-theirs:1; header=keep-alive:timeout=9; header=x-ok:1; \
         header=proxy-authenticate:x\r\n\r\n",
    )
    .await;
    let answer = raw.answer().await.unwrap();
    let seen = origin.last();
    for name in ["x-mine", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade", "te"] {
        assert!(!seen.headers.contains_key(name), "{name} passed: {:?}", seen.headers);
    }
    assert_eq!(seen.headers["x-kept"], "1");
    assert_eq!(answer.header("x-ok"), "1");
    for name in ["x-theirs", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(name), "", "{name} passed");
    }
}

#[tokio::test]
async fn te_trailers_passes() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    eq.get("/", &[("te", "trailers"), ("connection", "te")]).await;
    assert_eq!(origin.last().headers["te"], "trailers");
}

#[tokio::test]
async fn host_is_kept_and_forwarding_headers_are_added() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let echo = eq.get("/", &[("host", "api.example.com:8443")]).await.json();
    assert_eq!(echo["host"], "api.example.com:8443");
    assert_eq!(echoed(&echo, "x-forwarded-host"), ["api.example.com:8443"]);
    assert_eq!(echoed(&echo, "x-forwarded-proto"), ["http"]);
    assert_eq!(echoed(&echo, "x-forwarded-for"), ["127.0.0.1"]);
}

#[tokio::test]
async fn without_trusted_proxies_the_clients_forwarding_headers_are_kept_and_appended_to() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let sent = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-host", "a.b"), ("x-forwarded-proto", "https")];
    let echo = eq.get("/", &sent).await.json();
    assert_eq!(echoed(&echo, "x-forwarded-for").join(", "), "9.9.9.9, 127.0.0.1");
    assert_eq!(echoed(&echo, "x-forwarded-host"), ["a.b"]);
    assert_eq!(echoed(&echo, "x-forwarded-proto"), ["https"]);
}

#[tokio::test]
async fn an_untrusted_peer_cannot_write_forwarding_headers() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "server: { trusted_proxies: [10.0.0.0/8] }\n").await;
    let sent = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-host", "a.b"), ("x-forwarded-proto", "https")];
    let echo = eq.get("/", &sent).await.json();
    assert_eq!(echoed(&echo, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(echoed(&echo, "x-forwarded-host"), ["test.example"]);
    assert_eq!(echoed(&echo, "x-forwarded-proto"), ["http"]);

    let eq = proxy(&origin, "server: { trusted_proxies: [127.0.0.1] }\n").await;
    let echo = eq.get("/", &sent).await.json();
    assert_eq!(echoed(&echo, "x-forwarded-for").join(", "), "9.9.9.9, 127.0.0.1");
    assert_eq!(echoed(&echo, "x-forwarded-host"), ["a.b"]);
    assert_eq!(echoed(&echo, "x-forwarded-proto"), ["https"]);
}

#[tokio::test]
async fn request_ids_are_kept_when_good_and_made_when_not() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let answer = eq.get("/", &[("x-request-id", "abc-DEF_1.2:3")]).await;
    assert_eq!(answer.header("x-request-id"), "abc-DEF_1.2:3");
    assert_eq!(echoed(&answer.json(), "x-request-id"), ["abc-DEF_1.2:3"]);
    let long = "a".repeat(129);
    for bad in ["with space", "quote\"", long.as_str(), ""] {
        let answer = eq.get("/", &[("x-request-id", bad)]).await;
        let made = answer.header("x-request-id");
        assert!(made.len() == 32 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{bad:?} became {made:?}");
        assert_eq!(echoed(&answer.json(), "x-request-id"), [made]);
    }
    let (one, two) = (eq.get("/", &[]).await, eq.get("/", &[]).await);
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_usable() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("HEAD / HTTP/1.1\r\nhost: h\r\nx-origin: length=5000\r\n\r\n").await;
    let head = String::from_utf8(raw.some(Duration::from_secs(5)).await.unwrap()).unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-length: 5000"), "{head}");
    for status in ["204", "304"] {
        raw.send(format!("GET / HTTP/1.1\r\nhost: h\r\nx-origin: status={status}\r\n\r\n")).await;
        let answer = raw.answer().await.unwrap();
        assert_eq!(answer.status.to_string(), status);
        assert!(!answer.head.to_lowercase().contains("transfer-encoding"), "{}", answer.head);
    }
    raw.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    assert_eq!(origin.requests(), 4);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut raw = Raw::connect(eq.proxy()).await;
    let mut all = String::new();
    for (n, delay) in [(1, 200), (2, 0), (3, 50)] {
        all.push_str(&format!("GET /{n} HTTP/1.1\r\nhost: h\r\nx-origin: head-delay={delay}\r\n\r\n"));
    }
    all.push_str("POST /4 HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabcGET /5 HTTP/1.1\r\nhost: h\r\n\r\n");
    raw.send(all).await;
    for n in 1..=5 {
        let answer = raw.answer().await.expect("an answer for each request");
        let echo: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(echo["target"], format!("/{n}"));
    }
}

#[tokio::test]
async fn connections_to_the_backend_are_used_again() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "server: { workers: 1 }\n").await;
    for _ in 0..20 {
        assert_eq!(eq.get("/", &[]).await.status, 200);
    }
    assert_eq!((origin.requests(), origin.connections()), (20, 1));
}

#[tokio::test]
async fn a_kept_backend_connection_that_died_costs_no_request() {
    let port = free_port();
    let origin = Origin::at(port).await;
    let eq = proxy(&origin, "server: { workers: 1 }\n").await;
    for _ in 0..3 {
        assert_eq!(eq.get("/", &[]).await.status, 200);
    }
    drop(origin);
    let origin = eventually("port free again", Duration::from_secs(5), || async {
        let free = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err();
        if free { Some(Origin::at(port).await) } else { None }
    })
    .await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn http_1_0_clients_get_an_answer_they_can_read() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("GET / HTTP/1.0\r\nhost: h\r\nx-origin: chunks=2\r\n\r\n").await;
    let (bytes, _) = raw.until_closed(Duration::from_secs(10)).await.expect("closed after the answer");
    let text = String::from_utf8(bytes).unwrap();
    assert!(!text.to_lowercase().contains("transfer-encoding"), "{text}");
    assert!(text.ends_with(&format!("\r\n\r\n{}", "a".repeat(32))), "{text}");
}
