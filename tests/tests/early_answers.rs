//! Answers that come before their request has been read, uploads that fail after it, and backends that change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use edgequota_tests::{
    Edgequota, H2, Origin, Raw, body,
    client::{
        frames::{END_HEADERS, END_STREAM, Kind, frame},
        request,
    },
    eventually,
    eventually::scripted_delay,
    origin::Speaks,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};

const EMBEDDED: &str = "redis: { mode: embedded }\nserver: { workers: 1, read_timeout: 2s }\n";

async fn proxy(origin: &Origin, backend: &[&str]) -> Edgequota {
    Edgequota::standalone().config(EMBEDDED).config(origin.yaml(backend)).ready().await
}

/// What an HTTP/2 origin made of raw frames has seen, stream by stream.
#[derive(Default)]
struct Streams {
    bodies: BTreeMap<u32, Vec<u8>>,
    reset: Vec<u32>,
}

/// Answers the first stream at once, without having read its body, which a window of 10 bytes holds up; opens that
/// window when it is told to; answers later streams when their body is whole.
async fn impatient_origin(listener: TcpListener, streams: Arc<Mutex<Streams>>, open_window: Arc<Notify>) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE (4) = 10.
    socket.write_all(&frame(Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 10])).await.unwrap();
    let answer = |stream| frame(Kind::Headers, END_HEADERS | END_STREAM, stream, &[0x88]);
    let mut first = None;
    let (mut reader, mut writer) = socket.split();
    let mut head = [0; 9];
    loop {
        tokio::select! {
            read = reader.read_exact(&mut head) => if read.is_err() { return },
            () = open_window.notified() => {
                let stream = first.expect("the first request came before");
                writer.write_all(&frame(Kind::WindowUpdate, 0, stream, &1000u32.to_be_bytes())).await.unwrap();
                continue;
            }
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload).await.unwrap();
        let ended = head[4] & END_STREAM != 0;
        match head[3] {
            kind if kind == Kind::Settings as u8 && !ended => {
                writer.write_all(&frame(Kind::Settings, 1, 0, &[])).await.unwrap();
            }
            kind if kind == Kind::Headers as u8 => {
                streams.lock().unwrap().bodies.insert(stream, Vec::new());
                if *first.get_or_insert(stream) == stream {
                    writer.write_all(&answer(stream)).await.unwrap();
                } else {
                    writer.write_all(&frame(Kind::WindowUpdate, 0, stream, &1000u32.to_be_bytes())).await.unwrap();
                }
            }
            kind if kind == Kind::Data as u8 => {
                streams.lock().unwrap().bodies.entry(stream).or_default().extend(payload);
                if ended && first != Some(stream) {
                    writer.write_all(&answer(stream)).await.unwrap();
                }
            }
            kind if kind == Kind::Reset as u8 => streams.lock().unwrap().reset.push(stream),
            _ => {}
        }
    }
}

/// A body that a backend's HTTP/2 connection still holds after its answer must not read on when the client's connection
/// has moved on to the next request: behind a load balancer that is another user's.
#[tokio::test]
async fn a_body_that_was_given_up_never_reads_the_next_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = format!(
        "backend: {{ url: 'http://{}', transport: {{ backend_protocol: h2 }} }}\n",
        listener.local_addr().unwrap()
    );
    let (streams, open_window) = (Arc::new(Mutex::new(Streams::default())), Arc::new(Notify::new()));
    let origin = tokio::spawn(impatient_origin(listener, Arc::clone(&streams), Arc::clone(&open_window)));
    let eq = Edgequota::standalone().config(EMBEDDED).config(yaml).ready().await;

    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n14\r\naaaaaaaaaaaaaaaaaaaa\r\n").await;
    assert_eq!(raw.answer().await.expect("an early answer").status, 200);
    raw.send("5\r\naaaaa\r\n0\r\n\r\nPOST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 16\r\n\r\n").await;
    eventually("both requests are at the origin, or the first was given up", Duration::from_secs(5), || async {
        let streams = streams.lock().unwrap();
        (streams.bodies.len() == 2 || !streams.reset.is_empty()).then_some(())
    })
    .await;
    open_window.notify_one();
    scripted_delay(Duration::from_millis(300)).await;
    raw.send("password=secret!").await;
    assert_eq!(raw.answer().await.expect("the second answer").status, 200);
    let bodies: Vec<Vec<u8>> = streams.lock().unwrap().bodies.values().cloned().collect();
    assert_eq!(bodies.len(), 2);
    assert!(bodies[0].iter().all(|byte| *byte == b'a'), "{:?}", String::from_utf8_lossy(&bodies[0]));
    assert_eq!(bodies[1], b"password=secret!");
    origin.abort();
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
