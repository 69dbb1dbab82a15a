#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Bytes, routing::post};
use edgequota_config::settings::Admin;
use edgequota_policy::GoDuration;
use http::{HeaderMap, header::AUTHORIZATION};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::*;

fn settings() -> Admin {
    Admin {
        address: "127.0.0.1:0".to_owned(),
        read_timeout: GoDuration::new(Duration::from_secs(5)),
        write_timeout: GoDuration::new(Duration::from_secs(10)),
        idle_timeout: GoDuration::new(Duration::from_secs(30)),
        token: String::new().into(),
        token_file: String::new(),
    }
}

/// The store answers after so long.
fn shared(ping_after: Option<Duration>) -> Shared {
    let probes = Probes::new();
    let metrics = Metrics::new(1);
    metrics.counter("edgequota_requests_allowed", "Requests that were let through.").add(3);
    let ping_store = ping_after.map(|after| -> PingStore {
        Arc::new(move || {
            Box::pin(async move {
                tokio::time::sleep(after).await;
                true
            })
        })
    });
    Shared {
        probes,
        metrics,
        ping_store,
        config: Arc::new(|| json!({"redis": {"password": "[REDACTED]"}})),
        stats: Arc::new(|| json!({"allowed": 3})),
    }
}

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(settings: &Admin, router: Router) -> Server {
        let bound = Bound::bind(settings).unwrap();
        let (address, stop) = (bound.local_addr(), CancellationToken::new());
        let task = tokio::spawn(bound.serve(router, stop.clone()));
        Server { address, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

struct Said {
    status: u16,
    head: String,
    body: String,
}

impl Said {
    fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json\r\n"), "{}", self.head);
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }
}

/// Sends `text` and reads until the end of the connection.
async fn say(stream: &mut TcpStream, text: &str) -> Said {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Said { status, head: format!("{head}\r\n"), body: body.to_owned() }
}

async fn ask(server: &Server, method: &str, path: &str, headers: &str) -> Said {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    say(&mut server.connect().await, &request).await
}

#[tokio::test]
async fn probes_answer_as_the_contract_says() {
    let shared = shared(None);
    let server = Server::start(&settings(), router(shared.clone())).await;
    let answer = async |path: &str| {
        let said = ask(&server, "GET", path, "").await;
        (said.status, said.json())
    };
    assert_eq!(answer("/startz").await, (503, json!({"status": "not_started"})));
    assert_eq!(answer("/healthz").await, (200, json!({"status": "alive"})));
    assert_eq!(answer("/readyz").await, (503, json!({"status": "not_ready", "detail": "starting"})));
    shared.probes.started();
    assert_eq!(answer("/startz").await, (200, json!({"status": "started"})));
    assert_eq!(answer("/readyz").await, (200, json!({"status": "ready"})));
    assert_eq!(answer("/readyz?deep=true").await, (200, json!({"status": "ready"})), "there is no store");
    shared.probes.drain();
    assert_eq!(answer("/readyz").await, (503, json!({"status": "not_ready", "detail": "draining"})));
    assert_eq!(answer("/v1/config").await, (200, json!({"redis": {"password": "[REDACTED]"}})));
    assert_eq!(answer("/v1/stats").await, (200, json!({"allowed": 3})));
    server.end().await;
}

async fn deep(shared: Shared) -> (u16, Value) {
    use tower::ServiceExt as _;
    let request = http::Request::get("/readyz?deep=true").body(axum::body::Body::empty()).unwrap();
    let response = router(shared).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_deep_check_pings_the_store_for_two_seconds() {
    let quick = shared(Some(Duration::from_millis(1900)));
    assert_eq!(deep(quick.clone()).await.1, json!({"status": "not_ready", "detail": "starting", "redis": "ok"}));
    quick.probes.started();
    assert_eq!(deep(quick).await, (200, json!({"status": "ready", "redis": "ok"})));
    let slow = shared(Some(Duration::from_millis(2100)));
    slow.probes.started();
    assert_eq!(deep(slow.clone()).await, (503, json!({"status": "not_ready", "redis": "unreachable"})));
    assert!(slow.probes.ready(), "a store that is away does not make the process unready");
}

#[tokio::test]
async fn metrics_are_text_or_openmetrics() {
    let server = Server::start(&settings(), router(shared(None))).await;
    let text = ask(&server, "GET", "/metrics", "").await;
    assert!(text.head.contains("content-type: text/plain; version=0.0.4"), "{}", text.head);
    assert!(text.body.contains("\nedgequota_requests_allowed_total 3\n") || text.body.starts_with("# HELP edgequota"));
    let accept = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let open = ask(&server, "GET", "/metrics", accept).await;
    assert!(open.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert!(open.body.ends_with("# EOF\n"));
    server.end().await;
}

#[tokio::test]
async fn errors_are_json_also_on_merged_routes() {
    let api = Router::new().route("/v1/policy", post(async |body: Bytes| body.len().to_string()));
    let server = Server::start(&settings(), router(shared(None)).merge(api)).await;
    let missing = ask(&server, "GET", "/nothing", "").await;
    assert_eq!((missing.status, &missing.json()["error"]), (404, &json!("not_found")));
    for (method, path, allowed) in
        [("POST", "/v1/config", "GET,HEAD"), ("GET", "/v1/policy", "POST"), ("PUT", "/readyz", "GET,HEAD")]
    {
        let said = ask(&server, method, path, "content-length: 0\r\n").await;
        assert_eq!(said.status, 405, "{method} {path}");
        assert!(said.head.to_lowercase().contains(&format!("allow: {}\r\n", allowed.to_lowercase())), "{}", said.head);
        assert_eq!(said.json()["error"], "method_not_allowed");
    }
    let head = ask(&server, "HEAD", "/healthz", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    server.end().await;
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_and_one_below_passes() {
    let api = Router::new().route("/v1/policy", post(async |body: Bytes| body.len().to_string()));
    let server = Server::start(&settings(), router(shared(None)).merge(api)).await;
    let sent = 3 * 1024 * 1024;
    let request = format!(
        "POST /v1/policy HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {sent}\r\n\r\n{}",
        "x".repeat(sent)
    );
    let said = say(&mut server.connect().await, &request).await;
    assert_eq!((said.status, said.body), (200, sent.to_string()));
    let said = ask(&server, "POST", "/v1/policy", "content-length: 18000000\r\n").await;
    assert_eq!((said.status, &said.json()["error"]), (413, &json!("request_too_large")));
    server.end().await;
}

#[tokio::test]
async fn slow_heads_and_idle_connections_end_and_kept_alive_ones_do_not_end_early() {
    let mut settings = settings();
    settings.read_timeout = GoDuration::new(Duration::from_millis(100));
    settings.idle_timeout = GoDuration::new(Duration::from_millis(700));
    let server = Server::start(&settings, router(shared(None))).await;
    let mut rest = Vec::new();

    let mut silent = server.connect().await;
    assert_eq!(silent.read_to_end(&mut rest).await.unwrap(), 0, "nothing was asked, so nothing is answered");

    let mut slow = server.connect().await;
    slow.write_all(b"GET /healthz HTT").await.unwrap();
    let ended = slow.read_to_end(&mut rest).await;
    assert!(ended.is_err() || !String::from_utf8_lossy(&rest).contains("alive"));

    let begin = std::time::Instant::now();
    let said = say(&mut server.connect().await, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(said.status, 200);
    assert!(begin.elapsed() >= Duration::from_millis(700), "idle is longer than the limit of a head");
    server.end().await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_ends_the_request() {
    let mut settings = settings();
    settings.read_timeout = GoDuration::new(Duration::from_millis(100));
    let api = Router::new().route("/v1/policy", post(async |body: Bytes| body.len().to_string()));
    let server = Server::start(&settings, router(shared(None)).merge(api)).await;
    let said = ask(&server, "POST", "/v1/policy", "content-length: 5\r\n").await;
    assert_eq!((said.status, &said.json()["error"]), (400, &json!("bad_request")));
    server.end().await;
}

#[tokio::test]
async fn more_connections_than_the_bound_push_out_idle_ones() {
    let server = Server::start(&settings(), router(shared(None))).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(server.connect().await);
    }
    let said = ask(&server, "GET", "/healthz", "").await;
    assert_eq!(said.status, 200, "a probe still gets its answer");
    let mut rest = Vec::new();
    assert_eq!(idle[0].read_to_end(&mut rest).await.unwrap_or(0), 0, "the oldest is closed");
    drop(idle);
    server.end().await;
}

#[tokio::test]
async fn requests_in_flight_are_answered_after_stop() {
    let (begun, mut begins) = tokio::sync::mpsc::channel(1);
    let go_on = CancellationToken::new();
    let waits = go_on.clone();
    let api = Router::new().route(
        "/slow",
        axum::routing::get(async move || {
            begun.send(()).await.unwrap();
            waits.cancelled().await;
            "done"
        }),
    );
    let server = Server::start(&settings(), router(shared(None)).merge(api)).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    begins.recv().await.unwrap();
    server.stop.cancel();
    go_on.cancel();
    let said = say(&mut stream, "").await;
    assert_eq!((said.status, said.body.as_str()), (200, "done"));
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

fn with_authorization(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
}

#[test]
fn without_a_token_changing_calls_are_forbidden() {
    let token = AdminToken::new(&settings());
    assert_eq!(token.check(&with_authorization("Bearer ")).unwrap_err().status(), 403);
    assert_eq!(token.check(&HeaderMap::new()).unwrap_err().status(), 403);
}

#[test]
fn only_the_right_token_passes_and_it_is_never_shown() {
    let token = AdminToken::new(&Admin { token: "s3cret".to_owned().into(), ..settings() });
    assert!(token.check(&with_authorization("Bearer s3cret")).is_ok());
    assert!(token.check(&with_authorization("bearer s3cret")).is_ok());
    for wrong in ["Bearer s3cre", "Bearer s3crets", "Basic s3cret", "s3cret", "Bearer"] {
        let refused = token.check(&with_authorization(wrong)).unwrap_err();
        assert_eq!(refused.status(), 401, "{wrong}");
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    }
    assert_eq!(token.check(&HeaderMap::new()).unwrap_err().status(), 401);
    assert!(!format!("{token:?}").contains("s3cret"));
}

#[test]
fn a_token_file_is_followed_and_a_vanished_one_leaves_the_last_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let token = AdminToken::new(&Admin { token_file: file.display().to_string(), ..settings() });
    assert!(token.check(&with_authorization("Bearer first")).is_ok());
    std::fs::write(&file, "second\n").unwrap();
    crate::reload::now();
    assert!(token.check(&with_authorization("Bearer second")).is_ok());
    assert!(token.check(&with_authorization("Bearer first")).is_err());
    std::fs::remove_file(&file).unwrap();
    crate::reload::now();
    assert!(token.check(&with_authorization("Bearer second")).is_ok());
}
