//! Redis killed, frozen, absent: exactly what the failure policy says, and back again by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_tests::{Edgequota, Origin, Redis, body, client::request, eventually, load::Load};

async fn setup(limit: &str) -> (Origin, Redis, Edgequota) {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let eq = Edgequota::standalone()
        .config(redis.yaml(&["deadline: 200ms"]))
        .config(origin.yaml(&[]))
        .config(format!("rate_limit: {{ {limit} }}\n"))
        .ready()
        .await;
    (origin, redis, eq)
}

async fn healthy(eq: &Edgequota, wanted: f64, limit: Duration) {
    eventually(&format!("edgequota_redis_healthy is {wanted}"), limit, || async {
        (eq.metrics().await.get("edgequota_redis_healthy") == Some(wanted)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn pass_through_allows_and_enforces_again_after() {
    let (_origin, mut redis, eq) = setup("average: 1, period: 1h, burst: 1, failure_policy: passThrough").await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
    assert_eq!(eq.get("/", &[]).await.status, 429);
    redis.kill();
    healthy(&eq, 0.0, Duration::from_secs(5)).await;
    for _ in 0..20 {
        let answer = eq.get("/", &[]).await;
        assert_eq!(answer.status, 200);
    }
    assert!(eq.is_ready().await, "Redis down does not make it unready");
    assert_eq!(eq.admin_get("/readyz?deep=true").await.status, 503);
    let metrics = eq.metrics().await;
    assert_eq!(metrics.sum("edgequota_fallback_used_total", &[]), 20.0);
    assert!(metrics.sum("edgequota_redis_errors_total", &[]) >= 1.0);
    redis.restart().await;
    healthy(&eq, 1.0, Duration::from_secs(20)).await;
    assert_eq!(eq.get("/", &[]).await.status, 200, "the store is empty, the bucket full");
    assert_eq!(eq.get("/", &[]).await.status, 429);
}

#[tokio::test]
async fn fail_closed_refuses_with_its_code() {
    let (origin, mut redis, eq) =
        setup("average: 1, period: 1h, burst: 100, failure_policy: failClosed, failure_code: 503").await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
    redis.kill();
    healthy(&eq, 0.0, Duration::from_secs(5)).await;
    let reached = origin.requests();
    for _ in 0..20 {
        let answer = eq.get("/", &[]).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "service_unavailable"));
        assert_eq!(answer.number("retry-after"), 1);
    }
    assert_eq!(origin.requests(), reached);
    redis.restart().await;
    healthy(&eq, 1.0, Duration::from_secs(20)).await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
}

#[tokio::test]
async fn in_memory_fallback_counts_in_the_process() {
    let (_origin, mut redis, eq) = setup("average: 1, period: 1h, burst: 5, failure_policy: inMemoryFallback").await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
    redis.kill();
    healthy(&eq, 0.0, Duration::from_secs(5)).await;
    let mut allowed = 0;
    for _ in 0..20 {
        let answer = eq.get("/", &[]).await;
        assert!(matches!(answer.status.as_u16(), 200 | 429), "{}", answer.status);
        allowed += usize::from(answer.status == 200);
    }
    assert!((1..=5).contains(&allowed), "{allowed} of a burst of 5 were allowed");
}

#[tokio::test]
async fn pass_through_has_a_cap() {
    let (_origin, mut redis, eq) =
        setup("average: 1, period: 1h, burst: 100, failure_policy: passThrough, global_passthrough_rps: 10").await;
    redis.kill();
    healthy(&eq, 0.0, Duration::from_secs(10)).await;
    let start = Instant::now();
    let tally = Load::start(&[eq.proxy()], 4, |_| request("GET", "h", "/", &[], body::empty()), |_| Ok(()))
        .run_for(Duration::from_secs(2))
        .await;
    tally.expect_only(&[200, 429]);
    let most = 10 * (usize::try_from(start.elapsed().as_secs()).unwrap() + 2);
    assert!(tally.status(200) >= 10 && tally.status(200) <= most, "{} allowed", tally.status(200));
    assert!(tally.status(429) > 0);
}

#[tokio::test]
async fn a_frozen_redis_costs_each_request_at_most_its_deadline() {
    let (_origin, redis, eq) = setup("average: 1, period: 1h, burst: 100, failure_policy: failClosed").await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
    redis.freeze();
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(eq.get("/", &[]).await.status, 429);
        assert!(start.elapsed() < Duration::from_millis(1000), "{:?}", start.elapsed());
    }
    redis.thaw();
    let start = Instant::now();
    eventually("enforced again after the pause", Duration::from_secs(5), || async {
        (eq.get("/", &[]).await.status == 200).then_some(())
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(2), "a pause opened the breaker for {:?}", start.elapsed());
}

#[tokio::test]
async fn a_short_pause_is_waited_for() {
    let (_origin, redis, eq) = {
        let (origin, redis) = (Origin::start().await, Redis::start().await);
        let eq = Edgequota::standalone()
            .config(redis.yaml(&["deadline: 3s"]))
            .config(origin.yaml(&[]))
            .config("rate_limit: { average: 1, period: 1h, burst: 5, failure_policy: failClosed, failure_code: 503 }\n")
            .ready()
            .await;
        (origin, redis, eq)
    };
    assert_eq!(eq.get("/", &[]).await.status, 200);
    redis.freeze();
    let addr = eq.proxy();
    let waiting = tokio::spawn(async move { edgequota_tests::get(addr, "/", &[]).await });
    edgequota_tests::holds_for("the request waits", Duration::from_millis(300), || async { !waiting.is_finished() })
        .await;
    redis.thaw();
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("x-ratelimit-remaining")), (200, "3"));
}

#[tokio::test]
async fn killing_redis_under_load_never_gives_another_answer_than_the_policys() {
    let (_origin, mut redis, eq) =
        setup("average: 1000000, burst: 1000000, failure_policy: failClosed, failure_code: 503").await;
    let load = Load::start(
        &[eq.proxy()],
        8,
        |_| request("GET", "h", "/", &[], body::empty()),
        |a| match (a.status.as_u16(), a.header("x-ratelimit-limit")) {
            (200, "1000000") | (503, _) => Ok(()),
            (status, limit) => Err(format!("{status} with limit {limit:?}")),
        },
    );
    for _ in 0..3 {
        eventually("allowed", Duration::from_secs(20), || async {
            (eq.get("/", &[]).await.status == 200).then_some(())
        })
        .await;
        redis.kill();
        eventually("refused", Duration::from_secs(5), || async {
            (eq.get("/", &[]).await.status == 503).then_some(())
        })
        .await;
        redis.restart().await;
    }
    let tally = load.stop().await;
    tally.expect_only(&[200, 503]);
    assert!(tally.status(200) > 0 && tally.status(503) > 0);
}

#[tokio::test]
async fn starting_without_redis_recovers_when_it_comes() {
    let origin = Origin::start().await;
    let mut redis = Redis::absent();
    let eq = Edgequota::standalone()
        .config(redis.yaml(&[]))
        .config(origin.yaml(&[]))
        .config("rate_limit: { average: 1, period: 1h, burst: 1, failure_policy: passThrough }\n")
        .ready()
        .await;
    assert_eq!(eq.admin_get("/startz").await.status, 200);
    for _ in 0..3 {
        assert_eq!(eq.get("/", &[]).await.status, 200);
    }
    redis.restart().await;
    healthy(&eq, 1.0, Duration::from_secs(35)).await;
    assert_eq!(eq.get("/", &[]).await.status, 200);
    assert_eq!(eq.get("/", &[]).await.status, 429);
}

#[tokio::test]
async fn standalone_that_must_refuse_without_redis_gives_up_after_25_seconds() {
    let origin = Origin::start().await;
    let redis = Redis::absent();
    let start = Instant::now();
    let mut eq = Edgequota::standalone()
        .config(redis.yaml(&[]))
        .config(origin.yaml(&[]))
        .config("rate_limit: { average: 1, period: 1h, burst: 1, failure_policy: failClosed }\n")
        .spawn();
    // Probes are answered all the while: Kubernetes must see a start, not a hang.
    eq.learn_admin_address().await;
    assert_eq!(eq.admin_get("/healthz").await.status, 200);
    assert_eq!(eq.admin_get("/startz").await.status, 503);
    assert_eq!(eq.admin_get("/readyz").await.status, 503);
    let status = eq.exited(Duration::from_secs(40)).await;
    assert_eq!(status.code(), Some(1));
    assert!((20..35).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(eq.log().text().to_lowercase().contains("redis"));
}
