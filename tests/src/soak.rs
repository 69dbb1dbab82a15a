//! Full load for minutes while everything around it moves: edits of the policy, Redis restarts, faults of the origin,
//! clients that come and go and break off. All the while every answer must be one that the policy and the state of
//! Redis allow; in quiet moments memory, descriptors and connections must be where they were.
//!
//! The run is a number of cycles. The first is the warm-up that the quiet moment after the last is compared with.

mod chaos;
mod churn;
mod kinds;
mod load;
mod policy;
mod quiet;
mod world;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Edgequota, Fleet, Origin, Redis};
use quiet::Quiet;
use world::World;

/// How long a soak lasts, and how hard it is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// All cycles together; recoveries may make it longer.
    pub length: Duration,
    /// Cycles, at least 2.
    pub cycles: u32,
    /// Data planes.
    pub planes: usize,
    /// Kept-alive HTTP/1.1 connections, and HTTP/2 connections of eight requests each.
    pub connections: (usize, usize),
    /// Clients that churn connections.
    pub churners: usize,
}

impl Plan {
    /// `EDGEQUOTA_SOAK_SECONDS` of it; 20 s when not set, as in the test suite.
    ///
    /// # Panics
    /// When the variable is no number.
    pub fn from_environment() -> Plan {
        let seconds = std::env::var("EDGEQUOTA_SOAK_SECONDS").map_or(20, |s| s.parse().expect("whole seconds"));
        let long = seconds >= 120;
        Plan {
            length: Duration::from_secs(seconds),
            cycles: if long { 5 } else { 2 },
            planes: 2,
            connections: if long { (48, 4) } else { (12, 2) },
            churners: if long { 16 } else { 6 },
        }
    }
}

/// Runs it.
///
/// # Panics
/// At the end, with everything that was wrong; earlier when a recovery does not come.
#[allow(clippy::print_stdout)]
pub async fn run(plan: Plan) {
    let seed = fastrand::u64(..);
    println!("soak: {:?} in {} cycles, seed {seed}", plan.length, plan.cycles);
    fastrand::seed(seed);
    let (origin, flaky, redis) = (Origin::start().await, Origin::start().await, Redis::start().await);
    let places = policy::Places { origin: origin.addr(), flaky: flaky.addr() };
    let settings = format!(
        "{}server: {{ workers: 2 }}\nlogging: {{ access_log_enabled: false }}\n",
        redis.yaml(&["deadline: 10s", "read_timeout: 15s"])
    );
    let fleet = Arc::new(Fleet::start(plan.planes, &settings, &places.written(0)).await);
    let world = Arc::new(World::new(fleet.planes.iter().map(Edgequota::proxy).collect()));
    let redis = Arc::new(Mutex::new(redis));
    let flaky = Arc::new(Mutex::new(Some(flaky)));
    let mut moments = vec![quiet::moment(&fleet, &origin, None).await];
    println!("soak: at rest: {}", moments[0]);
    for cycle in 1..=plan.cycles {
        let turmoil = chaos::Turmoil {
            world: Arc::clone(&world),
            fleet: Arc::clone(&fleet),
            redis: Arc::clone(&redis),
            flaky: Arc::clone(&flaky),
            places,
            length: plan.length / plan.cycles,
        };
        one_cycle(plan, &world, turmoil).await;
        let moment = quiet::moment(&fleet, &origin, Some(&moments)).await;
        println!("soak: quiet after cycle {cycle}: {moment}");
        moments.push(moment);
    }
    println!("soak: {}", world.summary());
    world.verdict();
    Quiet::compare(&moments);
}

async fn one_cycle(plan: Plan, world: &Arc<World>, turmoil: chaos::Turmoil) {
    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    for n in 0..plan.connections.0 {
        clients.spawn(load::http1(Arc::clone(world), n, stop.clone()));
    }
    for n in 0..plan.connections.1 {
        clients.spawn(load::http2(Arc::clone(world), n, stop.clone()));
    }
    for n in 0..plan.churners {
        clients.spawn(churn::client(Arc::clone(world), n, stop.clone()));
    }
    clients.spawn(progress(Arc::clone(world), stop.clone()));
    turmoil.run().await;
    stop.cancel();
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
}

#[allow(clippy::print_stdout)]
async fn progress(world: Arc<World>, stop: CancellationToken) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    ticks.tick().await;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        println!("soak: {:3} s of this cycle: {}", start.elapsed().as_secs(), world.summary());
    }
}
