//! One primary or many.

use std::{borrow::Borrow, fmt, sync::Arc, time::Duration};

use edgequota_config::settings::{Redis, RedisMode};
use smallvec::SmallVec;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    cluster::Cluster,
    common::{Common, Seat, slots},
    locate::locate,
    primary::{Call, CallError, Held, Primary},
    request::Credits,
    target::Target,
};
use crate::store::{
    StoreError,
    plan::{Plan, Replies},
};

/// Counters in one call, where they may be on one server: more make others wait behind it and save nothing any more.
const MOST_COUNTERS: usize = 32;

/// Who counts.
pub(super) enum Topology {
    /// `single`, `replication`, `sentinel`: all counters are on one primary, wherever it is.
    One(One),
    /// `cluster`: each hash slot has its primary.
    Cluster(Arc<Cluster>),
}

pub(super) struct One {
    common: Arc<Common>,
    primary: Held,
    target: watch::Sender<Target>,
    doubts: Arc<Notify>,
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topology::One(one) => f.debug_tuple("One").field(&*one.primary).finish(),
            Topology::Cluster(cluster) => f.debug_tuple("Cluster").field(cluster).finish(),
        }
    }
}

impl Topology {
    pub(super) fn new(common: &Arc<Common>) -> Topology {
        if common.settings().borrow().mode == RedisMode::Cluster {
            return Topology::Cluster(Arc::new(Cluster::new(common)));
        }
        let (target, watched) = watch::channel(Target::Unknown);
        let doubts = Arc::new(Notify::new());
        let primary = Primary::start(common, watched, Arc::clone(&doubts));
        Topology::One(One { common: Arc::clone(common), primary, target, doubts })
    }

    fn common(&self) -> &Common {
        match self {
            Topology::One(one) => &one.common,
            Topology::Cluster(cluster) => cluster.common(),
        }
    }

    /// Other settings need another topology.
    pub(super) fn is_for(&self, settings: &Redis) -> bool {
        matches!(self, Topology::Cluster(_)) == (settings.mode == RedisMode::Cluster)
            && self.common().slots() == slots(settings)
    }

    /// Other settings that it is for.
    pub(super) fn adopt(&self, settings: &Arc<Redis>) {
        self.common().adopt(settings);
    }

    pub(super) fn deadline(&self) -> Duration {
        self.common().deadline()
    }

    pub(super) fn attach(&self, seat: Seat, runtime: &Handle) {
        match self {
            Topology::One(one) => one.primary.ensure(seat, runtime),
            Topology::Cluster(cluster) => cluster.attach(seat, runtime),
        }
    }

    /// Follows the servers, as the settings say at the beginning. Never ready.
    pub(super) async fn follow(&self) {
        match self {
            Topology::One(one) => locate(&one.common, &one.primary, &one.target, &one.doubts).await,
            Topology::Cluster(cluster) => cluster.follow().await,
        }
    }

    pub(super) fn counters_per_call(&self) -> usize {
        match self {
            Topology::One(_) => MOST_COUNTERS,
            Topology::Cluster(_) => 1,
        }
    }

    pub(super) fn usable(&self, seat: Seat, plan: &Plan) -> Result<(), StoreError> {
        match self {
            Topology::One(one) => one.primary.usable(seat),
            Topology::Cluster(cluster) => cluster.usable(seat, plan),
        }
    }

    pub(super) async fn send<P: Borrow<Plan>>(
        &self,
        seat: Seat,
        plans: &[P],
        waiting: u64,
        credits: Credits,
        end: Instant,
    ) -> Result<SmallVec<[Replies; 1]>, StoreError> {
        match self {
            Topology::One(one) => {
                let call = Call { plans, waiting, credits, asking: false, end };
                one.primary.send(seat, &call).await.map_err(|error| match error {
                    CallError::Store(error) => error,
                    CallError::Redirect(..) => {
                        StoreError::NotWritable("it is a node of a cluster: set redis.mode to cluster".to_owned())
                    }
                })
            }
            Topology::Cluster(cluster) => cluster.send(seat, plans, waiting, credits, end).await,
        }
    }

    pub(super) fn expired(&self, seat: Seat) {
        match self {
            Topology::One(one) => one.primary.expired(seat),
            Topology::Cluster(cluster) => cluster.expired(seat),
        }
    }

    pub(super) async fn ping(&self, end: Instant) -> bool {
        match self {
            Topology::One(one) => one.primary.ping(end).await,
            Topology::Cluster(cluster) => cluster.ping(end).await,
        }
    }

    pub(super) async fn tried(&self) {
        match self {
            Topology::One(one) => one.primary.tried().await,
            Topology::Cluster(cluster) => cluster.tried().await,
        }
    }

    /// Waits until it counts.
    pub(super) async fn ready(&self) {
        match self {
            Topology::One(one) => one.primary.ready().await,
            Topology::Cluster(cluster) => cluster.ready().await,
        }
    }

    pub(super) fn healthy(&self) -> bool {
        let all = match self {
            Topology::One(one) => one.primary.healthy(),
            Topology::Cluster(cluster) => cluster.healthy(),
        };
        all && self.common().obstacle().is_none()
    }

    pub(super) fn evicts(&self) -> bool {
        match self {
            Topology::One(one) => one.primary.evicts(),
            Topology::Cluster(cluster) => cluster.any(Primary::evicts),
        }
    }

    pub(super) fn problem(&self) -> Option<String> {
        let of_counting = || match self {
            Topology::One(one) => one.primary.problem(),
            Topology::Cluster(cluster) => cluster.problem(),
        };
        self.common().obstacle().or_else(of_counting)
    }
}
