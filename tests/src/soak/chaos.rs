//! What happens around the data planes: edits, Redis restarts, an origin that comes and goes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, task::JoinSet};

use super::{
    policy::{BASE, Places},
    world::World,
};
use crate::{Fleet, Origin, Redis, eventually, eventually::scripted_delay};

/// A recovery has no deadline of its own here: only one that does not come at all fails.
const RECOVERY: Duration = Duration::from_secs(120);

/// Everything that is moved during a cycle.
pub(super) struct Turmoil {
    pub(super) world: Arc<World>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) redis: Arc<Mutex<Redis>>,
    pub(super) flaky: Arc<Mutex<Option<Origin>>>,
    pub(super) places: Places,
    pub(super) length: Duration,
}

impl Turmoil {
    /// Moves all of it for the length of a cycle, and leaves everything well.
    pub(super) async fn run(self) {
        let turmoil = Arc::new(self);
        let mut all = JoinSet::new();
        all.spawn(edits(Arc::clone(&turmoil)));
        all.spawn(outages(Arc::clone(&turmoil)));
        all.spawn(comings_and_goings(Arc::clone(&turmoil)));
        while let Some(ended) = all.join_next().await {
            ended.unwrap();
        }
    }
}

/// Good edits, and every fourth time a bad one, which must change nothing.
async fn edits(turmoil: Arc<Turmoil>) {
    let start = Instant::now();
    while start.elapsed() < turmoil.length {
        if fastrand::u8(0..4) == 0 {
            turmoil.fleet.edit("backend: { url: [ }\n");
            turmoil.world.event("bad edit");
            scripted_delay(Duration::from_millis(fastrand::u64(0..800))).await;
        }
        let version = turmoil.world.edit();
        turmoil.fleet.edit(&turmoil.places.written(version));
        eventually("the edit is served", RECOVERY, || async {
            let policy = turmoil.fleet.control().admin_json("/v1/policy").await;
            (policy["policy"]["rate_limit"]["burst"] == BASE + version).then_some(())
        })
        .await;
        turmoil.fleet.in_step(RECOVERY).await;
        turmoil.world.enforced(version);
        turmoil.world.event("edit");
        scripted_delay(Duration::from_millis(fastrand::u64(100..1_500))).await;
    }
}

/// Redis goes and comes back: with its data, without, with, ...; once each at least.
async fn outages(turmoil: Arc<Turmoil>) {
    let start = Instant::now();
    let mut redis = turmoil.redis.lock().await;
    let pause = (turmoil.length / 6).min(Duration::from_secs(15));
    for count in 0.. {
        if count >= 2 && start.elapsed() + pause > turmoil.length {
            break;
        }
        scripted_delay(pause).await;
        turmoil.world.redis.turn();
        let from = Instant::now();
        if count % 2 == 0 {
            redis.end_with_data().await;
        } else {
            redis.kill();
        }
        missed(&turmoil).await;
        if count % 2 == 0 {
            redis.restart_with_data().await;
        } else {
            redis.restart().await;
            turmoil.world.lost(from, Instant::now());
        }
        recovered(&turmoil).await;
        turmoil.world.redis.turn();
        turmoil.world.event(if count % 2 == 0 { "redis restarted" } else { "redis emptied" });
    }
    // What is still to come of this cycle has Redis.
    scripted_delay(turmoil.length.saturating_sub(start.elapsed())).await;
}

/// Every data plane has noticed.
async fn missed(turmoil: &Turmoil) {
    for plane in &turmoil.fleet.planes {
        eventually("Redis is missed", RECOVERY, || async {
            (plane.metrics().await.get("edgequota_redis_healthy") == Some(0.0)).then_some(())
        })
        .await;
    }
}

/// Every worker of every data plane counts in Redis again: no decision by failure policy while many requests pass.
async fn recovered(turmoil: &Turmoil) {
    for plane in &turmoil.fleet.planes {
        eventually("Redis is used again", RECOVERY, || async {
            let fallbacks = || async {
                let metrics = plane.metrics().await;
                let healthy = metrics.get("edgequota_redis_healthy") == Some(1.0);
                healthy.then(|| metrics.sum("edgequota_fallback_used_total", &[]))
            };
            let (before, answers) = (fallbacks().await?, turmoil.world.answers());
            eventually("requests pass", RECOVERY, || async { (turmoil.world.answers() > answers + 500).then_some(()) })
                .await;
            (fallbacks().await? - before == 0.0).then_some(())
        })
        .await;
    }
}

/// The flaky origin.
async fn comings_and_goings(turmoil: Arc<Turmoil>) {
    let start = Instant::now();
    let mut flaky = turmoil.flaky.lock().await;
    while start.elapsed() < turmoil.length {
        scripted_delay(Duration::from_millis(fastrand::u64(1_000..3_000))).await;
        turmoil.world.flaky.turn();
        *flaky = None;
        scripted_delay(Duration::from_millis(fastrand::u64(50..500))).await;
        *flaky = Some(Origin::at(turmoil.places.flaky.port()).await);
        // Connections from before its end are gone when a request of afterwards has come through on each data plane.
        for proxy in &turmoil.world.proxies {
            eventually("the origin is reached again", RECOVERY, || async {
                (crate::get(*proxy, "/flaky", &[]).await.status == 200).then_some(())
            })
            .await;
        }
        turmoil.world.flaky.turn();
        turmoil.world.event("origin restarted");
    }
}
