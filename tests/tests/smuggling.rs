//! Request smuggling: what two servers could read differently is refused, and the backend never sees a second
//! request. What goes on is always framed by us.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{Edgequota, Raw, RawOrigin, eventually};

/// Sent behind each bad request: must never arrive.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: h\r\n\r\n";

async fn proxy(origin: &RawOrigin) -> Edgequota {
    let yaml = format!("redis: {{ mode: embedded }}\n{}", origin.yaml());
    Edgequota::standalone().config(yaml).ready().await
}

/// Each must be refused with `status`, close the connection, and leave nothing at the backend.
async fn refused(cases: &[(&str, String)], status: u16) {
    let origin = RawOrigin::ok().await;
    let eq = proxy(&origin).await;
    let mut wrong = Vec::new();
    for (name, bytes) in cases {
        let mut raw = Raw::connect(eq.proxy()).await;
        let _ = raw.try_send(format!("{bytes}{HIDDEN}")).await;
        match raw.until_closed(Duration::from_secs(5)).await {
            None => wrong.push(format!("{name}: connection left open")),
            Some((answer, _)) => {
                let text = String::from_utf8_lossy(&answer).into_owned();
                let answers = text.matches("HTTP/1.1 ").count();
                if !text.starts_with(&format!("HTTP/1.1 {status} ")) || answers != 1 {
                    wrong.push(format!("{name}: answered {:?}", text.lines().next().unwrap_or("nothing")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!origin.text().contains("hidden"), "a hidden request arrived: {}", origin.text());
    assert_eq!(origin.heads(), 0, "something arrived: {}", origin.text());
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("GET /good HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
}

fn post(fields: &str, rest: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: h\r\n{fields}\r\n{rest}")
}

#[tokio::test]
async fn conflicting_and_malformed_lengths() {
    let mut cases = vec![
        ("CL and TE", post("content-length: 4\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n")),
        ("TE and CL", post("transfer-encoding: chunked\r\ncontent-length: 4\r\n", "0\r\n\r\n")),
        ("two CL that differ", post("content-length: 0\r\ncontent-length: 5\r\n", "")),
        ("a CL list that differs", post("content-length: 0, 5\r\n", "")),
        ("two CL that agree", post("content-length: 1\r\ncontent-length: 1\r\n", "a")),
        ("HTTP/1.0 with TE", "POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
    ];
    for value in ["+1", "-1", "0x1", "1 1", "1a", "", "18446744073709551616", "1;q=1", "1.0", "\u{661}"] {
        cases.push(("bad CL", post(&format!("content-length: {value}\r\n"), "a")));
    }
    cases.push(("space before the colon", post("content-length : 5\r\n", "")));
    cases.push(("tab before the colon", post("transfer-encoding\t: chunked\r\n", "0\r\n\r\n")));
    refused(&cases, 400).await;
}

#[tokio::test]
async fn transfer_encodings_other_than_chunked() {
    let mut cases = Vec::new();
    for value in [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "gzip, chunked",
        "gzip",
        "identity",
        "\"chunked\"",
        "chunked;q=1",
        "\u{b}chunked",
        "chunk ed",
        "",
    ] {
        cases.push(("bad TE", post(&format!("transfer-encoding: {value}\r\n"), "0\r\n\r\n")));
    }
    cases.push(("two TE", post("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", "0\r\n\r\n")));
    cases.push(("two chunked", post("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n")));
    let origin = RawOrigin::ok().await;
    let eq = proxy(&origin).await;
    let mut wrong = Vec::new();
    for (_, bytes) in &cases {
        let mut raw = Raw::connect(eq.proxy()).await;
        let _ = raw.try_send(format!("{bytes}{HIDDEN}")).await;
        let answer = raw.until_closed(Duration::from_secs(5)).await;
        let text = answer.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let refused = text.starts_with("HTTP/1.1 400 ") || text.starts_with("HTTP/1.1 501 ");
        if !refused || text.matches("HTTP/1.1 ").count() != 1 {
            wrong.push(format!("{:?}: {:?}", bytes.lines().nth(2), text.lines().next()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(origin.heads(), 0, "something arrived: {}", origin.text());
}

#[tokio::test]
async fn line_ends_and_folding() {
    let cases = [
        ("bare LF ends the request line", "GET / HTTP/1.1\nhost: h\r\n\r\n".to_owned()),
        ("bare LF ends a field", "GET / HTTP/1.1\r\nhost: h\nx: y\r\n\r\n".to_owned()),
        ("bare LF ends the head", "GET / HTTP/1.1\r\nhost: h\r\n\n".to_owned()),
        ("bare CR in a value", "GET / HTTP/1.1\r\nhost: h\r\nx: a\rb\r\n\r\n".to_owned()),
        ("bare CR before a field", "GET / HTTP/1.1\r\nhost: h\r\n\rx: a\r\n\r\n".to_owned()),
        ("obs-fold", "GET / HTTP/1.1\r\nhost: h\r\nx: a\r\n b\r\n\r\n".to_owned()),
        ("obs-fold by tab", "GET / HTTP/1.1\r\nhost: h\r\nx: a\r\n\tb\r\n\r\n".to_owned()),
        ("first field folded", "GET / HTTP/1.1\r\n host: h\r\n\r\n".to_owned()),
        ("NUL in a value", "GET / HTTP/1.1\r\nhost: h\r\nx: a\0b\r\n\r\n".to_owned()),
        ("NUL in a name", "GET / HTTP/1.1\r\nhost: h\r\nx\0: a\r\n\r\n".to_owned()),
        ("space in a name", "GET / HTTP/1.1\r\nhost: h\r\nx y: a\r\n\r\n".to_owned()),
        ("no name", "GET / HTTP/1.1\r\nhost: h\r\n: a\r\n\r\n".to_owned()),
        ("no colon", "GET / HTTP/1.1\r\nhost: h\r\nnonsense\r\n\r\n".to_owned()),
    ];
    refused(&cases, 400).await;
}

#[tokio::test]
async fn request_lines_targets_and_hosts() {
    let line = |line: &str| format!("{line}\r\nhost: h\r\n\r\n");
    let cases = [
        ("no version", line("GET /")),
        ("two spaces", line("GET  / HTTP/1.1")),
        ("space in the target", line("GET /a b HTTP/1.1")),
        ("tab for a space", line("GET\t/\tHTTP/1.1")),
        ("control byte in the target", line("GET /a\u{1}b HTTP/1.1")),
        ("target without a slash", line("GET a/b HTTP/1.1")),
        ("empty method", line(" / HTTP/1.1")),
        ("bad method", line("GE(T / HTTP/1.1")),
        ("asterisk with GET", line("GET * HTTP/1.1")),
        ("fragment", line("GET /a#b HTTP/1.1")),
        ("encoded slash", line("GET /a%2fb HTTP/1.1")),
        ("encoded NUL", line("GET /a%00b HTTP/1.1")),
        ("bad percent", line("GET /a%zz HTTP/1.1")),
        ("above the root", line("GET /../../etc HTTP/1.1")),
        ("no host", "GET / HTTP/1.1\r\nx: y\r\n\r\n".to_owned()),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned()),
        ("two hosts that agree", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n".to_owned()),
        ("bad host", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n".to_owned()),
        ("host with user", "GET / HTTP/1.1\r\nhost: u@h\r\n\r\n".to_owned()),
        ("absolute form against host", "GET http://evil.example/ HTTP/1.1\r\nhost: h\r\n\r\n".to_owned()),
        ("absolute form with user", "GET http://u@h/ HTTP/1.1\r\nhost: h\r\n\r\n".to_owned()),
        ("CONNECT", "CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\n\r\n".to_owned()),
    ];
    let origin = RawOrigin::ok().await;
    let eq = proxy(&origin).await;
    let mut wrong = Vec::new();
    for (name, bytes) in &cases {
        let mut raw = Raw::connect(eq.proxy()).await;
        let _ = raw.try_send(bytes).await;
        let status = raw.answer().await.map(|a| a.status);
        let allowed: &[u16] = match *name {
            "CONNECT" => &[400, 405, 501],
            "above the root" => &[400, 200],
            _ => &[400],
        };
        if !status.is_some_and(|s| allowed.contains(&s)) {
            wrong.push(format!("{name}: {status:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!origin.text().contains(".."), "{}", origin.text());
    assert!(origin.heads() <= 1, "something arrived: {}", origin.text());
}

#[tokio::test]
async fn other_versions_are_refused() {
    let origin = RawOrigin::ok().await;
    let eq = proxy(&origin).await;
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/11.1", "http/1.1", "HTTP/1.1x", "HTTP/1"] {
        let mut raw = Raw::connect(eq.proxy()).await;
        let _ = raw.try_send(format!("GET / {version}\r\nhost: h\r\n\r\n")).await;
        let status = raw.answer().await.map(|a| a.status);
        assert!(matches!(status, Some(400 | 505)), "{version}: {status:?}");
    }
    assert_eq!(origin.heads(), 0);
}

#[tokio::test]
async fn bad_chunks_never_complete_a_request() {
    let chunked = "transfer-encoding: chunked\r\n";
    let cases = [
        ("size is no number", post(chunked, "x\r\na\r\n0\r\n\r\n")),
        ("negative size", post(chunked, "-1\r\na\r\n0\r\n\r\n")),
        ("size with a prefix", post(chunked, "0x1\r\na\r\n0\r\n\r\n")),
        ("size with a plus", post(chunked, "+1\r\na\r\n0\r\n\r\n")),
        ("empty size", post(chunked, "\r\na\r\n0\r\n\r\n")),
        ("size that overflows", post(chunked, "10000000000000001\r\na\r\n0\r\n\r\n")),
        ("bare LF after the size", post(chunked, "1\na\r\n0\r\n\r\n")),
        ("bare LF in an extension", post(chunked, "1;a=b\nx\r\na\r\n0\r\n\r\n")),
        ("space before the size", post(chunked, " 1\r\na\r\n0\r\n\r\n")),
        ("data longer than its size", post(chunked, "1\r\nab\r\n0\r\n\r\n")),
        ("data without its line end", post(chunked, "1\r\na0\r\n\r\n")),
        ("bad trailer", post(chunked, "1\r\na\r\n0\r\nno colon\r\n\r\n")),
    ];
    let origin = RawOrigin::ok().await;
    let eq = proxy(&origin).await;
    let mut wrong = Vec::new();
    for (name, bytes) in &cases {
        let mut raw = Raw::connect(eq.proxy()).await;
        let _ = raw.try_send(format!("{bytes}{HIDDEN}")).await;
        let Some((answer, _)) = raw.until_closed(Duration::from_secs(5)).await else {
            wrong.push(format!("{name}: connection left open"));
            continue;
        };
        if String::from_utf8_lossy(&answer).matches("HTTP/1.1 2").count() > 1 {
            wrong.push(format!("{name}: two good answers"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for bytes in origin.received() {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("hidden"), "a hidden request arrived: {text}");
        assert!(!text.contains("\r\n0\r\n\r\n"), "a bad body was completed: {text}");
    }
}

#[tokio::test]
async fn what_goes_on_is_framed_by_us() {
    let origin = RawOrigin::ok().await;
    let eq = proxy(&origin).await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send(post("Transfer-Encoding: Chunked\r\n", "3;ext=\"x\"\r\nabc\r\n002\r\nde\r\n0\r\n\r\n")).await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    let text = arrived(&origin, "\r\n0\r\n\r\n").await;
    assert!(!text.contains("ext="), "chunk extensions pass: {text}");
    assert!(!text.contains("content-length"), "{text}");
    assert_eq!(text.matches("transfer-encoding: chunked").count(), 1, "{text}");

    raw.send(post("content-length: 005\r\n", "hello")).await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    let text = arrived(&origin, "hello").await;
    assert!(text.contains("content-length: 5\r\n"), "{text}");
}

/// What the backend has received, in lower case, once it ends like this.
async fn arrived(origin: &RawOrigin, end: &str) -> String {
    eventually(&format!("the backend has received {end:?}"), Duration::from_secs(5), || async {
        origin.received().iter().any(|b| b.ends_with(end.as_bytes())).then(|| origin.text().to_lowercase())
    })
    .await
}

#[tokio::test]
async fn a_length_named_by_connection_is_not_dropped() {
    let origin = RawOrigin::ok().await;
    let eq = proxy(&origin).await;
    let mut raw = Raw::connect(eq.proxy()).await;
    let body = "GET /hidden HTTP/1.1\r\n\r\n";
    raw.send(post(&format!("connection: content-length\r\ncontent-length: {}\r\n", body.len()), body)).await;
    let answer = raw.answer().await.unwrap();
    assert!(matches!(answer.status, 200 | 400));
    if answer.status == 200 {
        let text = origin.text().to_lowercase();
        assert!(text.contains(&format!("content-length: {}\r\n", body.len())), "{text}");
    }
    raw.send(post("connection: host\r\n", "")).await;
    let answer = raw.answer().await.unwrap();
    assert!(matches!(answer.status, 200 | 400));
    if answer.status == 200 {
        assert!(origin.text().to_lowercase().matches("host: h\r\n").count() >= 2, "{}", origin.text());
    }
}

#[tokio::test]
async fn absolute_form_that_agrees_becomes_origin_form() {
    let origin = RawOrigin::ok().await;
    let eq = proxy(&origin).await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("GET http://h/a?b HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    assert!(origin.text().starts_with("GET /a?b HTTP/1.1\r\n"), "{}", origin.text());
}

#[tokio::test]
async fn what_follows_a_refused_body_is_no_request() {
    let origin = RawOrigin::ok().await;
    let yaml =
        format!("redis: {{ mode: embedded }}\n{}rate_limit: {{ average: 1, burst: 1, period: 1h }}\n", origin.yaml());
    let eq = Edgequota::standalone().config(yaml).ready().await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    raw.send(post(&format!("content-length: {}\r\n", HIDDEN.len()), HIDDEN)).await;
    assert_eq!(raw.answer().await.unwrap().status, 429);
    assert!(!origin.text().contains("hidden"));
    if let Some(more) = raw.some(Duration::from_millis(500)).await {
        panic!("the body of a refused request was answered: {}", String::from_utf8_lossy(&more));
    }
}
