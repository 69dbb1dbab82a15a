//! The promise under random numbers, loads, edits, deaths and arrivals, judged from the clients' side.
//!
//! `EDGEQUOTA_SEED` repeats a run, `EDGEQUOTA_ROUNDS` makes it longer.
#![allow(
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::large_futures
)]

use std::{
    env,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use edgequota_tests::{Fleet, Origin, Redis, body, client};
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long each round loads the fleet.
const ROUND: Duration = Duration::from_secs(5);
const KEYS: usize = 3;

/// What one policy says.
#[derive(Clone, Copy, Debug)]
struct Rule {
    average: u64,
    burst: u64,
    period_ms: u64,
    cost: u64,
    leased: bool,
}

impl Rule {
    fn random(rng: &mut Rng, leased: bool) -> Rule {
        let burst = rng.u64(5..400);
        Rule {
            average: rng.u64(1..400),
            burst,
            period_ms: [250, 1_000, 3_000][rng.usize(0..3)],
            cost: rng.u64(1..=burst.min(4)),
            leased,
        }
    }

    fn yaml(&self, origin: &Origin) -> String {
        format!(
            "{}rate_limit: {{ average: {}, burst: {}, period: {}ms, cost: {}, accuracy: {}, failure_policy: failClosed, \
             failure_code: 503, key_strategy: {{ type: header, header_name: X-T }} }}\n",
            origin.yaml(&[]),
            self.average,
            self.burst,
            self.period_ms,
            self.cost,
            if self.leased { "leased" } else { "exact" },
        )
    }

    /// Tokens a microsecond.
    fn rate(&self) -> f64 {
        self.average as f64 / (self.period_ms as f64 * 1000.0)
    }
}

/// A request that was allowed: it was decided between these two moments.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    key: usize,
    sent_us: u64,
    answered_us: u64,
}

/// Where to send, while data planes come and go.
type Targets = Arc<Mutex<Vec<SocketAddr>>>;

async fn clients(targets: &Targets, start: Instant, seed: u64, stop: &CancellationToken) -> Vec<Allowed> {
    let mut tasks = JoinSet::new();
    for n in 0..12 {
        let (targets, stop) = (Arc::clone(targets), stop.clone());
        let mut rng = Rng::with_seed(seed ^ (n + 1));
        tasks.spawn(async move {
            let mut allowed = Vec::new();
            while !stop.is_cancelled() {
                if rng.f64() < 0.02 {
                    edgequota_tests::eventually::scripted_delay(Duration::from_millis(rng.u64(1..300))).await;
                }
                let key = rng.usize(0..KEYS).min(rng.usize(0..KEYS));
                let target = {
                    let targets = targets.lock().unwrap();
                    targets[rng.usize(0..targets.len())]
                };
                let name = format!("key{key}");
                let sent_us = micros(start);
                // A data plane that dies takes its connections with it: nothing is known of those requests.
                let Ok(answer) = client::try_send(target, "GET", "/", &[("x-t", &name)], body::empty()).await else {
                    continue;
                };
                let status = answer.status.as_u16();
                assert!(status == 200 || status == 429, "status {status}: {}", answer.text());
                if status == 200 {
                    allowed.push(Allowed { key, sent_us, answered_us: micros(start) });
                }
            }
            allowed
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap()
}

/// Of the requests that lie wholly inside any interval, no more may be allowed than the promise says.
fn judge(allowed: &[Allowed], rules: &[Rule]) {
    let burst = rules.iter().map(|rule| rule.burst).max().unwrap() as f64;
    let rate = rules.iter().map(Rule::rate).fold(0.0, f64::max);
    // An edit changes the cost too: each request took at least the smaller one.
    let cost = rules.iter().map(|rule| rule.cost).min().unwrap() as f64;
    for key in 0..KEYS {
        let mut of_key: Vec<_> = allowed.iter().filter(|one| one.key == key).collect();
        of_key.sort_by_key(|one| one.answered_us);
        for first in &of_key {
            let inside = of_key.iter().filter(|one| one.sent_us >= first.sent_us);
            for (n, last) in inside.enumerate() {
                let time = last.answered_us.saturating_sub(first.sent_us) as f64;
                let (spent, most) = ((n + 1) as f64 * cost, burst + rate * time);
                assert!(spent <= most + 1e-6, "key {key}: {spent} tokens within {time} us, promised {most:.2}");
            }
        }
        println!("key {key}: {} requests were allowed", of_key.len());
    }
}

async fn round(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let leased = rng.bool();
    let edits = rng.bool();
    let mut rules = vec![Rule::random(&mut rng, leased)];
    if edits {
        let accuracy = rng.bool();
        rules.push(Rule::random(&mut rng, accuracy));
    }
    println!("seed {seed}: {rules:?}");
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let settings = format!(
        "{}server: {{ workers: 2 }}\nlogging: {{ access_log_enabled: false }}\n",
        redis.yaml(&["deadline: 5s"])
    );
    let mut fleet = Fleet::start(3, &settings, &rules[0].yaml(&origin)).await;
    let targets: Targets = Arc::new(Mutex::new(fleet.planes.iter().map(|plane| plane.proxy()).collect()));
    let (start, stop) = (Instant::now(), CancellationToken::new());
    let load = clients(&targets, start, seed, &stop);
    let story = async {
        let step = ROUND / 4;
        edgequota_tests::eventually::scripted_delay(step).await;
        if let Some(edited) = rules.get(1) {
            fleet.edit(&edited.yaml(&origin));
        }
        edgequota_tests::eventually::scripted_delay(step).await;
        targets.lock().unwrap().remove(0);
        if rng.bool() {
            fleet.planes[0].kill();
        } else {
            fleet.planes[0].terminate();
        }
        fleet.add(3, "").await;
        fleet.planes[3].until_ready(Duration::from_secs(35)).await;
        targets.lock().unwrap().push(fleet.planes[3].proxy());
        edgequota_tests::eventually::scripted_delay(2 * step).await;
        stop.cancel();
    };
    let (allowed, ()) = tokio::join!(load, story);
    for plane in &fleet.planes[1..] {
        let metrics = plane.metrics().await;
        assert_eq!(metrics.sum("edgequota_fallback_used_total", &[]), 0.0, "a decision was a fallback");
    }
    assert!(allowed.len() >= KEYS, "hardly anything was allowed");
    judge(&allowed, &rules);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_no_interval_spends_more_than_promised() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let rounds = number("EDGEQUOTA_ROUNDS").unwrap_or(3);
    let first = number("EDGEQUOTA_SEED").unwrap_or_else(|| fastrand::u64(..));
    for n in 0..rounds {
        round(first.wrapping_add(n)).await;
    }
}
