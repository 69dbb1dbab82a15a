//! The harness itself: a harness that lies makes every other test worthless.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_tests::{
    H1, H2, Origin, Raw, RawOrigin, Redis, body, client::request, eventually, get, load::Load, origin::Speaks, post,
};

#[tokio::test]
async fn redis_is_killed_frozen_and_started_again_on_its_port() {
    let mut redis = Redis::start().await;
    let _: () = redis::cmd("SET").arg("k").arg("v").query_async(&mut redis.connection().await).await.unwrap();
    assert_eq!(redis.keys().await, ["k"]);

    redis.freeze();
    let mut raw = Raw::connect(redis.address().parse().unwrap()).await;
    raw.send("PING\r\n").await;
    assert!(raw.some(Duration::from_millis(200)).await.is_none(), "a frozen Redis answered");
    redis.thaw();
    assert_eq!(raw.some(Duration::from_secs(5)).await.unwrap(), b"+PONG\r\n");

    redis.kill();
    assert!(tokio::net::TcpStream::connect(redis.address()).await.is_err());
    redis.restart().await;
    assert!(redis.keys().await.is_empty());
}

#[tokio::test]
async fn origin_echoes_over_both_protocols() {
    let origin = Origin::start().await;
    let answer = post(origin.addr(), "/a?b=c", &[("host", "h.example"), ("x-one", "1")], "hello").await;
    let echo = answer.json();
    assert_eq!(
        (echo["method"].as_str(), echo["target"].as_str(), echo["version"].as_str(), echo["body"].as_str()),
        (Some("POST"), Some("/a?b=c"), Some("HTTP/1.1"), Some("hello"))
    );
    assert_eq!(echo["host"], "h.example");

    let h2 = H2::connect(origin.addr()).await;
    let echo = h2.send(request("GET", "h.example", "/x?y", &[], body::empty())).await.unwrap().json();
    assert_eq!((echo["version"].as_str(), echo["target"].as_str()), (Some("HTTP/2.0"), Some("/x?y")));
    assert_eq!(echo["host"], "h.example");
    assert_eq!((origin.connections(), origin.requests()), (2, 2));
}

#[tokio::test]
async fn origin_follows_scripts() {
    let origin = Origin::start().await;
    let slow = Instant::now();
    let answer = get(origin.addr(), "/", &[("x-origin", "status=503; head-delay=150; header=x-a:b; body=no")]).await;
    assert!(slow.elapsed() >= Duration::from_millis(150));
    assert_eq!((answer.status.as_u16(), answer.header("x-a"), answer.text().as_str()), (503, "b", "no"));

    let answer = get(origin.addr(), "/", &[("x-origin", "chunks=3; chunk-size=5; trailers"), ("te", "trailers")]).await;
    assert_eq!(answer.body.len(), 15);
    assert_eq!(answer.trailers.unwrap()["x-trailer"], "end");

    let mut cut = H1::connect(origin.addr()).await;
    let script = [("x-origin", "chunks=2; drop=body")];
    assert!(cut.send(request("GET", "h", "/", &script, body::empty())).await.is_err());
    let mut none = H1::connect(origin.addr()).await;
    assert!(none.send(request("GET", "h", "/", &[("x-origin", "drop=head")], body::empty())).await.is_err());
}

#[tokio::test]
async fn origin_relays_streams_both_ways() {
    let origin = Origin::start().await;
    let h2 = H2::connect(origin.addr()).await;
    let (feeder, out) = body::channel();
    let mut response = h2.begin(request("POST", "h", "/", &[("x-origin", "stream")], out)).await.unwrap();
    for word in ["one", "two"] {
        assert!(feeder.send(word).await);
        let frame = http_body_util::BodyExt::frame(response.body_mut()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
    }
    drop(feeder);
    let rest = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert!(rest.is_empty());
    assert_eq!(origin.body_bytes(), 6);
}

#[tokio::test]
async fn an_http1_only_origin_refuses_a_preface() {
    let origin = Origin::speaking(Speaks::Http1).await;
    let h2 = H2::connect(origin.addr()).await;
    assert!(h2.send(request("GET", "h", "/", &[], body::empty())).await.is_err());
    assert_eq!(get(origin.addr(), "/", &[]).await.status, 200);
}

#[tokio::test]
async fn a_dropped_origin_closes_its_connections() {
    let origin = Origin::start().await;
    let mut kept = H1::connect(origin.addr()).await;
    assert_eq!(kept.send(request("GET", "h", "/", &[], body::empty())).await.unwrap().status, 200);
    let addr = origin.addr();
    drop(origin);
    kept.closed(Duration::from_secs(5)).await;
    eventually("port closed", Duration::from_secs(5), || async {
        tokio::net::TcpStream::connect(addr).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn raw_ends_record_and_read_bytes() {
    let origin = RawOrigin::ok().await;
    let mut raw = Raw::connect(origin.addr()).await;
    raw.send("GET / HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n").await;
    for _ in 0..2 {
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
    }
    assert_eq!(origin.heads(), 2);
    assert!(origin.text().contains("GET /2"));
    assert!(raw.until_closed(Duration::from_millis(50)).await.is_none());

    let chunked = RawOrigin::start(
        &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nt: 1\r\n\r\n"[..],
        true,
    )
    .await;
    let mut raw = Raw::connect(chunked.addr()).await;
    raw.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().body, b"abcde");
    assert!(raw.until_closed(Duration::from_secs(5)).await.is_some());
}

#[tokio::test]
async fn load_counts_answers_wrong_answers_and_failures() {
    let origin = Origin::start().await;
    let tally = Load::start(
        &[origin.addr()],
        4,
        |n| {
            request(
                "GET",
                "h",
                "/",
                &[("x-origin", if n % 2 == 0 { "status=429" } else { "status=200" })],
                body::empty(),
            )
        },
        |answer| {
            if answer.status == 429 { Err("limited".to_owned()) } else { Ok(()) }
        },
    )
    .run_for(Duration::from_millis(200))
    .await;
    assert_eq!(tally.total(), origin.requests());
    assert!(tally.status(200) > 0 && tally.status(429) > 0 && !tally.wrong.is_empty());
    assert!(tally.failures.is_empty());
    let addr = origin.addr();
    drop(origin);
    eventually("port closed", Duration::from_secs(5), || async {
        tokio::net::TcpStream::connect(addr).await.is_err().then_some(())
    })
    .await;
    let tally = Load::start(&[addr], 1, |_| request("GET", "h", "/", &[], body::empty()), |_| Ok(())).stop().await;
    assert!(tally.total() == 0);
}

#[tokio::test]
#[should_panic(expected = "not within")]
async fn eventually_gives_up() {
    eventually("never", Duration::from_millis(30), || async { None::<()> }).await;
}
