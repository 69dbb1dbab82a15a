//! A data plane's counting beside a real server.

use std::{sync::Arc, time::Duration};

use edgequota_config::settings::Redis;
use edgequota_counters::{AllowedBy, Ask, Counters, Decider, FleetSize, Verdict};
use edgequota_ops::metrics::Metrics;
use edgequota_policy::GoDuration;
use tokio::sync::watch;

use super::{eventually, server::RedisServer, worker::Worker};

/// Counting of one process.
pub struct World {
    pub counters: Counters,
    /// Before the counting it counts with, so that it ends first.
    pub worker: Arc<Worker>,
    pub decider: Decider,
    pub metrics: Metrics,
    pub fleet: FleetSize,
    pub settings: watch::Sender<Arc<Redis>>,
}

/// Settings for a server, with a deadline that a loaded machine keeps.
pub fn settings(server: &RedisServer) -> Redis {
    Redis {
        endpoints: vec![server.address()],
        pool_size: 3,
        deadline: GoDuration::new(Duration::from_millis(1000)),
        ..Redis::default()
    }
}

impl World {
    /// Tried once; not necessarily connected.
    pub async fn new(settings: Redis) -> World {
        let metrics = Metrics::new(2);
        let fleet = FleetSize::default();
        let (settings, watched) = watch::channel(Arc::new(settings));
        let counters = Counters::new(watched, &metrics, fleet.clone(), "test node");
        let (worker, decider) = (Arc::new(Worker::start(&counters, 0)), counters.decider());
        counters.tried().await;
        World { worker, decider, counters, metrics, fleet, settings }
    }

    /// Connected.
    pub async fn with(server: &RedisServer) -> World {
        let world = World::new(settings(server)).await;
        assert!(world.counters.ping().await, "redis answers");
        world
    }

    pub fn edit(&self, edit: impl FnOnce(&mut Redis)) {
        self.settings.send_modify(|settings| edit(Arc::make_mut(settings)));
    }

    pub async fn verdict(&self, asks: &[Ask]) -> Verdict {
        self.worker.verdict(asks).await
    }

    /// Waits until the store decides again, without spending.
    pub async fn recovered(&self, ask: &Ask) {
        eventually("the store decides again", || async {
            let looked = self.decider.look(std::slice::from_ref(ask)).await;
            looked.limits[0].remaining.is_some() && self.counters.healthy() && by_store(&looked.verdict)
        })
        .await;
    }

    /// The value of a metric on `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.render(false);
        let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |v| v.parse().expect("a number"))
    }
}

pub fn by_store(verdict: &Verdict) -> bool {
    *verdict == Verdict::Allowed(AllowedBy::Store)
}
