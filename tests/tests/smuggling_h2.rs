//! What HTTP/2 allows on the wire and HTTP/1.1 would read differently never reaches an HTTP/1.1 backend.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{
    Edgequota, Origin, Raw, RawOrigin,
    client::frames::{self, Kind, data, frame, headers},
    eventually,
};

const GOOD: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/bad")];

async fn proxy(backend: &str) -> Edgequota {
    Edgequota::standalone().config("redis: { mode: embedded }\n").config(backend).ready().await
}

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    GOOD.into_iter().chain(more.iter().copied()).collect()
}

fn instead(name: &str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    GOOD.into_iter().map(|(n, v)| if n == name { (n, value) } else { (n, v) }).collect()
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    GOOD.into_iter().filter(|(n, _)| *n != name).collect()
}

/// How the proxy took a request: `answered`, `reset`, `closed`.
async fn outcome(eq: &Edgequota, fields: &[(&str, &str)], body: &[u8]) -> &'static str {
    let mut raw = Raw::connect(eq.proxy()).await;
    let mut bytes = frames::START.to_vec();
    bytes.extend(headers(1, fields, body.is_empty()));
    if !body.is_empty() {
        bytes.extend(data(1, body, true));
    }
    raw.send(bytes).await;
    let mut got = Vec::new();
    loop {
        match raw.some(Duration::from_secs(3)).await {
            Some(more) => got.extend(more),
            None => return "closed",
        }
        for frame in frames::split(&got) {
            match (frame.kind, frame.stream) {
                (1, 1) => return "answered",
                (3, 1) => return "reset",
                (7, _) => return "closed",
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn fields_that_would_frame_or_split_a_request() {
    let origin = RawOrigin::ok().await;
    let eq = proxy(&origin.yaml()).await;
    let hidden = b"0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: h\r\n\r\n";
    let cases = [
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("connection", with(&[("connection", "x")])),
        ("keep-alive", with(&[("keep-alive", "timeout=5")])),
        ("proxy-connection", with(&[("proxy-connection", "keep-alive")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te that is not trailers", with(&[("te", "gzip")])),
        ("content-length too short", with(&[("content-length", "5")])),
        ("content-length too long", with(&[("content-length", "5000")])),
        ("content-length is no number", with(&[("content-length", "abc")])),
        ("content-length with a sign", with(&[("content-length", "+38")])),
        ("two content-lengths", with(&[("content-length", "0"), ("content-length", "38")])),
        ("CRLF in a value", with(&[("x", "a\r\ntransfer-encoding: chunked")])),
        ("LF in a value", with(&[("x", "a\nb: c")])),
        ("CR in a value", with(&[("x", "a\rb")])),
        ("NUL in a value", with(&[("x", "a\0b")])),
        ("CRLF in a name", with(&[("x: y\r\nz", "a")])),
        ("colon in a name", with(&[("x:", "a")])),
        ("space in a name", with(&[("x y", "a")])),
        ("upper case in a name", with(&[("X-Upper", "a")])),
        ("empty name", with(&[("", "a")])),
        ("pseudo field after a field", with(&[("x", "a"), (":path", "/hidden")])),
        ("two paths", with(&[(":path", "/hidden")])),
        ("unknown pseudo field", with(&[(":evil", "a")])),
        ("a status", with(&[(":status", "200")])),
        ("no path", without(":path")),
        ("no method", without(":method")),
        ("empty path", instead(":path", "")),
        ("path without a slash", instead(":path", "hidden")),
        ("CRLF in the path", instead(":path", "/ HTTP/1.1\r\nhost: h\r\n\r\nGET /hidden")),
        ("space in the path", instead(":path", "/a b")),
        ("space in the method", instead(":method", "GET /hidden")),
        ("CRLF in the method", instead(":method", "GET / HTTP/1.1\r\n\r\nGET")),
        ("CRLF in the authority", instead(":authority", "h\r\nx: y")),
        ("user in the authority", instead(":authority", "u@h")),
        ("slash in the authority", instead(":authority", "h/hidden")),
        ("host that differs", with(&[("host", "evil.example")])),
        ("two hosts", with(&[("host", "h"), ("host", "h")])),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "h:1")]),
    ];
    let mut wrong = Vec::new();
    let mut seen = String::new();
    for (name, fields) in &cases {
        let how = outcome(&eq, fields, hidden).await;
        let now = origin.text();
        // A wrong length shows only when the body comes: its head may have gone out by then, never its body.
        let begun = name.starts_with("content-length too") && !now.contains("hidden");
        if now != seen && !begun {
            wrong.push(format!("{name} ({how}): {now:?}"));
        }
        seen = now;
    }
    assert!(wrong.is_empty(), "reached the backend:\n{}", wrong.join("\n"));
    assert_eq!(outcome(&eq, &GOOD, b"").await, "answered", "and a good request still passes");
}

#[tokio::test]
async fn a_body_that_ends_early_is_not_completed() {
    let origin = Origin::start().await;
    let eq = proxy(&origin.yaml(&["transport: { backend_protocol: h1 }"])).await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send([frames::START, &headers(1, &GOOD, false), &data(1, b"half", false)].concat()).await;
    eventually("half a body is at the backend", Duration::from_secs(5), || async {
        (origin.body_bytes() == 4).then_some(())
    })
    .await;
    raw.send(frame(Kind::Reset, 0, 1, &8u32.to_be_bytes())).await;
    eventually("it broke off there too", Duration::from_secs(5), || async {
        (origin.broken_bodies() == 1).then_some(())
    })
    .await;
    assert!(origin.last_body().is_empty(), "a reset body arrived as a whole one");
}

type Make<'f> = &'f dyn Fn(u32) -> Vec<u8>;

#[tokio::test]
async fn floods_of_frames_end_the_connection_and_nothing_else() {
    let origin = Origin::start().await;
    let eq = proxy(&origin.yaml(&[])).await;
    eq.get("/", &[]).await;
    let before = eq.memory();
    let open_and_reset =
        |n: u32| [headers(1 + 2 * n, &GOOD, false), frame(Kind::Reset, 0, 1 + 2 * n, &8u32.to_be_bytes())].concat();
    let endless = |n: u32| match n {
        0 => frame(Kind::Headers, 0, 1, &[0x10, 1, b'x', 1, b'y']),
        _ => frame(Kind::Continuation, 0, 1, &[0x10, 1, b'x', 1, b'y'].repeat(1000)),
    };
    let settings = |_: u32| frame(Kind::Settings, 0, 0, &[0, 4, 0, 1, 0, 0]);
    let pings = |_: u32| frame(Kind::Ping, 0, 0, &[0; 8]);
    let floods: [(&str, Make<'_>); 4] =
        [("rapid reset", &open_and_reset), ("continuation", &endless), ("settings", &settings), ("ping", &pings)];
    for (name, make) in floods {
        let mut raw = Raw::connect(eq.proxy()).await;
        raw.send(frames::START).await;
        for n in 0..5000 {
            let sent = tokio::time::timeout(Duration::from_secs(1), raw.try_send(make(n))).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
        assert_eq!(eq.get("/", &[]).await.status, 200, "after {name}");
        assert!(eq.memory() < before + (48 << 20), "{name}: grew from {before} to {}", eq.memory());
    }
}

#[tokio::test]
async fn garbage_harms_nobody() {
    let origin = Origin::start().await;
    let mut eq = proxy(&origin.yaml(&[])).await;
    let mut random = fastrand::Rng::with_seed(7);
    for n in 0..300 {
        let mut raw = Raw::connect(eq.proxy()).await;
        let mut bytes: Vec<u8> = match n % 3 {
            0 => Vec::new(),
            1 => frames::START.to_vec(),
            _ => b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        };
        let length = random.usize(1..3000);
        bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
        let _ = raw.try_send(bytes).await;
        raw.finish().await;
    }
    assert!(eq.is_running() && eq.is_ready().await);
    assert_eq!(eq.get("/", &[]).await.status, 200);
    assert!(!eq.log().contains("panicked"), "{}", eq.log().text());
}
