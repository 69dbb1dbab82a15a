//! The promise: any number of data planes spend at most burst + average * T / period tokens in any interval T.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_tests::{Edgequota, Fleet, Origin, Redis, body, client::request, load::Load};

const BURST: f64 = 100.0;
const RATE: f64 = 150.0;

#[tokio::test]
async fn five_data_planes_and_one_hot_key() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let settings = format!(
        "{}server: {{ workers: 1 }}\nlogging: {{ access_log_enabled: false }}\n",
        redis.yaml(&["deadline: 5s"])
    );
    let policy = format!(
        "{}rate_limit: {{ average: {RATE}, burst: {BURST}, period: 1s, failure_policy: failClosed, failure_code: 503, \
         key_strategy: {{ type: header, header_name: X-T }} }}\n",
        origin.yaml(&[])
    );
    let fleet = Fleet::start(5, &settings, &policy).await;
    let targets: Vec<_> = fleet.planes.iter().map(Edgequota::proxy).collect();
    let make = |_| request("GET", "h", "/", &[("x-t", "hot")], body::empty());
    let start = Instant::now();
    let tally = Load::start(&targets, 15, make, |_| Ok(())).run_for(Duration::from_secs(3)).await;
    let took = start.elapsed().as_secs_f64();

    tally.expect_only(&[200, 429]);
    for plane in &fleet.planes {
        let metrics = plane.metrics().await;
        assert_eq!(metrics.sum("edgequota_fallback_used_total", &[]), 0.0, "a decision was a fallback");
        assert!(metrics.sum("edgequota_requests_allowed_total", &[]) > 0.0, "a data plane allowed nothing");
    }
    let allowed = tally.status(200) as f64;
    let most = BURST + RATE * took;
    println!("{allowed} of at most {most:.1} allowed, {} refused", tally.status(429));
    assert!(allowed <= most, "{allowed} allowed, promised at most {most:.1}");
    assert!(allowed >= 0.95 * (BURST + RATE * 3.0), "{allowed} allowed of {most:.1}: too few");
    assert!(tally.status(429) > 100, "the key was not hammered");
}
