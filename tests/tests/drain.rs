//! SIGTERM under load fails no request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_tests::{
    Edgequota, Fleet, H1, H2, Haproxy, Origin, Raw, Redis, body,
    client::request,
    eventually, get,
    load::{Load, Tally},
};
use tokio_util::sync::CancellationToken;

const SETTINGS: &str = "server: { drain_delay: 2s, drain_timeout: 10s }\nlogging: { access_log_enabled: false }\n";

fn post_or_get(n: usize) -> http::Request<body::AnyBody> {
    if n.is_multiple_of(2) {
        request("POST", "h", "/", &[], body::full(vec![b'x'; 1 + n % 5000]))
    } else {
        request("GET", "h", "/", &[("x-origin", "head-delay=5")], body::empty())
    }
}

async fn h2_load(addr: std::net::SocketAddr, stop: CancellationToken) -> Tally {
    let mut tally = Tally::default();
    let mut client = H2::connect(addr).await;
    let mut n = 0;
    while !stop.is_cancelled() {
        if client.is_closed() {
            client = H2::connect(addr).await;
        }
        match client.send(post_or_get(n)).await {
            Ok(answer) => *tally.statuses.entry(answer.status.as_u16()).or_default() += 1,
            Err(e) => tally.failures.push(e),
        }
        n += 1;
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_load_balancer_that_follows_readiness() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let settings = format!("{}{SETTINGS}", redis.yaml(&["deadline: 5s"]));
    let policy = format!("{}rate_limit: {{ average: 1000000, burst: 1000000 }}\n", origin.yaml(&[]));
    let mut fleet = Fleet::start(2, &settings, &policy).await;
    let planes: Vec<_> = fleet.planes.iter().map(|p| (p.proxy(), p.admin())).collect();
    let haproxy = Haproxy::start(&planes).await;
    eventually("both data planes serve behind haproxy", Duration::from_secs(10), || async {
        get(haproxy.http1, "/", &[]).await;
        let mut both = true;
        for plane in &fleet.planes {
            both &= plane.metrics().await.sum("edgequota_requests_allowed_total", &[]) > 0.0;
        }
        both.then_some(())
    })
    .await;

    let http1 = Load::start(&[haproxy.http1], 200, post_or_get, |_| Ok(()));
    let stop = CancellationToken::new();
    let http2: Vec<_> = (0..10).map(|_| tokio::spawn(h2_load(haproxy.http2, stop.clone()))).collect();
    eventually("load flows", Duration::from_secs(20), || async { (origin.requests() > 2000).then_some(()) }).await;

    let leaving = &mut fleet.planes[0];
    leaving.terminate();
    let start = Instant::now();
    eventually("readyz is 503", Duration::from_secs(2), || async { (!leaving.is_ready().await).then_some(()) }).await;
    let status = leaving.exited(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
    assert!(start.elapsed() >= Duration::from_millis(1900), "it left after {:?}, before its delay", start.elapsed());
    let reached = origin.requests();
    eventually("the other one carries on", Duration::from_secs(10), || async {
        (origin.requests() > reached + 500).then_some(())
    })
    .await;

    stop.cancel();
    let mut h2_tally = Tally::default();
    for one in http2 {
        h2_tally.merge(one.await.unwrap());
    }
    let tally = http1.stop().await;
    println!("{} answers by HTTP/1.1, {} by h2; left after {:?}", tally.total(), h2_tally.total(), start.elapsed());
    // What haproxy says of those that failed, and of the servers it checked.
    let log = haproxy.log().lines();
    for line in log.iter().filter(|l| !l.contains(" 200 ")) {
        println!("{line}");
    }
    tally.expect_only(&[200]);
    h2_tally.expect_only(&[200]);
}

#[tokio::test]
async fn the_stages_of_a_drain() {
    let origin = Origin::start().await;
    let yaml =
        format!("redis: {{ mode: embedded }}\nserver: {{ drain_delay: 1s, drain_timeout: 5s }}\n{}", origin.yaml(&[]));
    let mut eq = Edgequota::standalone().config(yaml).ready().await;
    let mut kept = H1::connect(eq.proxy()).await;
    kept.send(request("GET", "h", "/", &[], body::empty())).await.unwrap();
    let h2 = H2::connect(eq.proxy()).await;
    h2.send(request("GET", "h", "/", &[], body::empty())).await.unwrap();
    let mut slow = H1::connect(eq.proxy()).await;
    let in_flight = tokio::spawn(async move {
        slow.send(request("GET", "h", "/", &[("x-origin", "chunks=10; chunk-delay=300")], body::empty())).await
    });
    eventually("the slow one is under way", Duration::from_secs(5), || async {
        (origin.requests() == 3).then_some(())
    })
    .await;

    eq.terminate();
    let start = Instant::now();
    eventually("readyz is 503 at once", Duration::from_millis(800), || async {
        (eq.admin_get("/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(eq.admin_get("/healthz").await.status, 200);
    let during = kept.send(request("GET", "h", "/", &[], body::empty())).await.expect("kept connections are served");
    assert_eq!((during.status.as_u16(), during.header("connection")), (200, "close"));
    assert_eq!(get(eq.proxy(), "/", &[]).await.status, 200, "new connections are served during the delay");
    let answer = in_flight.await.unwrap().expect("work in flight is finished");
    assert_eq!(answer.body.len(), 160);
    let status = eq.exited(Duration::from_secs(10)).await;
    assert!(status.success() && start.elapsed() < Duration::from_secs(7), "{status} after {:?}", start.elapsed());
}

#[tokio::test]
async fn what_does_not_end_is_ended() {
    let origin = Origin::start().await;
    let yaml = format!(
        "redis: {{ mode: embedded }}\nserver: {{ drain_delay: 200ms, drain_timeout: 1s }}\n{}",
        origin.yaml(&[])
    );
    let mut eq = Edgequota::standalone().config(yaml).ready().await;
    let mut raw = Raw::connect(eq.proxy()).await;
    raw.send("GET / HTTP/1.1\r\nhost: h\r\nx-origin: chunks=1000; chunk-delay=200\r\n\r\n").await;
    eventually("under way", Duration::from_secs(5), || async { (origin.requests() == 1).then_some(()) }).await;
    eq.terminate();
    let start = Instant::now();
    let status = eq.exited(Duration::from_secs(8)).await;
    assert!(status.success(), "{status}");
    assert!((1000..6000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_idle_process_leaves_quickly_and_an_interrupt_skips_the_delay() {
    let origin = Origin::start().await;
    let yaml = format!("redis: {{ mode: embedded }}\nserver: {{ drain_delay: 8s }}\n{}", origin.yaml(&[]));
    let mut eq = Edgequota::standalone().config(yaml).ready().await;
    let start = Instant::now();
    eq.signal(rustix::process::Signal::INT);
    assert!(eq.exited(Duration::from_secs(6)).await.success());
    assert!(start.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn the_control_plane_drains_too() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let mut fleet = Fleet::start(1, &format!("{}{SETTINGS}", redis.yaml(&[])), &origin.yaml(&[])).await;
    let mut control = fleet.control.take().unwrap();
    control.terminate();
    assert!(control.exited(Duration::from_secs(15)).await.success());
    assert_eq!(fleet.planes[0].get("/", &[]).await.status, 200);
}
