//! What failures and refusals look like over HTTP/1.1, where requests go, and what is never forwarded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_tests::{
    Edgequota, H1, Origin, Raw, RawOrigin, body, client::request, eventually, get, ports::free_port, post,
};

const EMBEDDED: &str = "redis: { mode: embedded }\n";

async fn proxy(origin: &Origin, more: &str) -> Edgequota {
    Edgequota::standalone().config(EMBEDDED).config(origin.yaml(&[])).config(more).ready().await
}

fn is_json_error(answer: &edgequota_tests::Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (status, code), "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    let body = answer.json();
    assert!(body["message"].as_str().is_some_and(|m| !m.is_empty()), "{body}");
    assert_eq!(body["request_id"], answer.header("x-request-id"), "{body}");
}

#[tokio::test]
async fn a_backend_that_is_away_is_502_and_a_slow_one_504() {
    let closed = free_port();
    let yaml = format!("{EMBEDDED}backend: {{ url: \"http://127.0.0.1:{closed}\" }}\n");
    let eq = Edgequota::standalone().config(yaml).ready().await;
    is_json_error(&eq.get("/", &[]).await, 502, "backend_unavailable");

    let origin = Origin::start().await;
    let eq = Edgequota::standalone().config(EMBEDDED).config(origin.yaml(&["timeout: 300ms"])).ready().await;
    let start = Instant::now();
    is_json_error(&eq.get("/", &[("x-origin", "head-delay=5000")]).await, 504, "backend_timeout");
    assert!((300..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    is_json_error(&eq.get("/", &[("x-origin", "drop=head")]).await, 502, "backend_unavailable");
    assert_eq!(eq.get("/", &[("x-origin", "chunks=4; chunk-delay=200")]).await.status, 200, "the body may take longer");
}

#[tokio::test]
async fn garbage_from_the_backend_is_502() {
    for garbage in ["hello, this is no HTTP\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "\0\0\0\0\0\0\0\0\0\r\n\r\n"] {
        let origin = RawOrigin::start(garbage, true).await;
        let eq = Edgequota::standalone().config(EMBEDDED).config(origin.yaml()).ready().await;
        is_json_error(&eq.get("/", &[]).await, 502, "backend_unavailable");
    }
}

#[tokio::test]
async fn conflicting_framing_from_the_backend_is_502() {
    for bad in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokx",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    ] {
        let origin = RawOrigin::start(bad, true).await;
        let eq = Edgequota::standalone().config(EMBEDDED).config(origin.yaml()).ready().await;
        is_json_error(&eq.get("/", &[]).await, 502, "backend_unavailable");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_broken_off_for_the_client_too() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut client = H1::connect(eq.proxy()).await;
    let script = [("x-origin", "chunks=3; drop=body")];
    let result = client.send(request("GET", "h", "/", &script, body::empty())).await;
    assert!(result.is_err(), "a cut answer looked complete: {result:?}");
    let short = RawOrigin::start(&b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"[..], true).await;
    let eq = Edgequota::standalone().config(EMBEDDED).config(short.yaml()).ready().await;
    let mut client = H1::connect(eq.proxy()).await;
    assert!(client.send(request("GET", "h", "/", &[], body::empty())).await.is_err());
}

#[tokio::test]
async fn interim_answers_of_the_backend_do_not_confuse_the_exchange() {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                 HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let origin = RawOrigin::start(early, false).await;
    let eq = Edgequota::standalone().config(EMBEDDED).config(origin.yaml()).ready().await;
    let mut client = H1::connect(eq.proxy()).await;
    for _ in 0..2 {
        let answer = client.send(request("GET", "h", "/", &[], body::empty())).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "ok"));
    }
}

#[tokio::test]
async fn bodies_over_the_limit_are_413() {
    let origin = Origin::start().await;
    let eq =
        Edgequota::standalone().config(EMBEDDED).config(origin.yaml(&["max_request_body_size: 1000"])).ready().await;
    assert_eq!(post(eq.proxy(), "/", &[], vec![b'x'; 1000]).await.status, 200);
    let reached = origin.requests();
    is_json_error(&post(eq.proxy(), "/", &[], vec![b'x'; 1001]).await, 413, "request_too_large");
    assert_eq!(origin.requests(), reached, "a body that announces its size need not travel");

    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..3 {
        let _ = raw.try_send(format!("190\r\n{}\r\n", "x".repeat(400))).await;
    }
    let _ = raw.try_send("0\r\n\r\n").await;
    assert_eq!(raw.answer().await.expect("an answer").status, 413);
}

#[tokio::test]
async fn headers_over_the_limits_are_431() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "server: { max_header_bytes: 4096, max_headers: 20 }\n").await;
    let big = "x".repeat(5000);
    let answer = get(eq.proxy(), "/", &[("x-big", &big)]).await;
    is_json_error(&answer, 431, "headers_too_large");
    let names: Vec<String> = (0..25).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "1")).collect();
    is_json_error(&get(eq.proxy(), "/", &many).await, 431, "headers_too_large");
    assert_eq!(origin.requests(), 0);
    assert_eq!(get(eq.proxy(), "/", &[("x-fits", &"x".repeat(3000))]).await.status, 200);
}

#[tokio::test]
async fn too_many_requests_at_once_are_503() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "server: { max_concurrent_requests: 2 }\n").await;
    let addr = eq.proxy();
    let slow: Vec<_> =
        (0..2).map(|_| tokio::spawn(async move { get(addr, "/", &[("x-origin", "head-delay=1500")]).await })).collect();
    eventually("both are at the origin", Duration::from_secs(5), || async { (origin.requests() == 2).then_some(()) })
        .await;
    is_json_error(&get(addr, "/", &[]).await, 503, "overloaded");
    for one in slow {
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert_eq!(get(addr, "/", &[]).await.status, 200);
    assert_eq!(eq.metrics().await.sum("edgequota_concurrent_requests_rejected_total", &[]), 1.0);
}

#[tokio::test]
async fn no_route_and_no_default_backend_is_404() {
    let origin = Origin::start().await;
    let yaml = format!(
        "{EMBEDDED}backends: [{{ name: one, url: \"{}\" }}]\nroutes: [{{ name: r, match: {{ path_prefix: /r }}, backend: one }}]\n",
        origin.url()
    );
    let eq = Edgequota::standalone().config(yaml).ready().await;
    assert_eq!(eq.get("/r/x", &[]).await.status, 200);
    is_json_error(&eq.get("/other", &[]).await, 404, "no_route");
    is_json_error(&eq.get("/rx", &[]).await, 404, "no_route");
}

#[tokio::test]
async fn routes_go_to_their_backends_by_host_path_method_and_header() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let yaml = format!(
        "{EMBEDDED}{}backends: [{{ name: two, url: \"{}\" }}]\nroutes:\n\
         - {{ name: host, match: {{ hosts: [\"*.two.example\"] }}, backend: two }}\n\
         - {{ name: path, match: {{ path_prefix: /two, methods: [POST], headers: [{{ name: X-Beta, exact: \"1\" }}] }}, backend: two }}\n",
        one.yaml(&[]),
        two.url()
    );
    let eq = Edgequota::standalone().config(yaml).ready().await;
    let at = |answer: edgequota_tests::Answer, origin: &Origin, n: usize| {
        assert_eq!(answer.status, 200);
        assert_eq!(origin.requests(), n, "{}", answer.text());
    };
    at(eq.get("/", &[("host", "a.b.TWO.example:81")]).await, &two, 1);
    at(eq.get("/", &[("host", "two.example")]).await, &one, 1);
    at(post(eq.proxy(), "/two/x", &[("x-beta", "1")], "").await, &two, 2);
    at(post(eq.proxy(), "/two/x", &[("x-beta", "2")], "").await, &one, 2);
    at(eq.get("/two/x", &[("x-beta", "1")]).await, &one, 3);
    at(post(eq.proxy(), "/x/../%74wo//x", &[("x-beta", "1")], "").await, &two, 3);
    assert_eq!(two.last().target, "/two/x", "what was matched is what is sent on");
}

#[tokio::test]
async fn a_websocket_upgrade_is_a_clear_501() {
    let origin = Origin::start().await;
    let eq = proxy(&origin, "").await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send(
        "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await;
    let answer = raw.answer().await.unwrap();
    assert_eq!(answer.status, 501);
    assert!(String::from_utf8(answer.body).unwrap().to_lowercase().contains("websocket"));
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn the_health_path_answers_readiness_and_is_never_forwarded_or_limited() {
    let origin = Origin::start().await;
    let more = "server: { health_path: /-/health }\nrate_limit: { average: 1, burst: 1, period: 1h }\n";
    let eq = proxy(&origin, more).await;
    for _ in 0..3 {
        assert_eq!(eq.get("/-/health", &[]).await.status, 200);
    }
    assert_eq!(origin.requests(), 0);
    assert_eq!(eq.get("/", &[]).await.status, 200);
}

#[tokio::test]
async fn dns_names_are_resolved_and_every_address_is_used() {
    let origin = Origin::start().await;
    let yaml = format!("{EMBEDDED}backend: {{ url: \"http://localhost:{}\" }}\n", origin.addr().port());
    let eq = Edgequota::standalone().config(yaml).ready().await;
    for _ in 0..4 {
        assert_eq!(eq.get("/", &[]).await.status, 200, "localhost may also be ::1, where nobody listens");
    }
}
