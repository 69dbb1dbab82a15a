//! Counters in Redis, in every topology.
//!
//! [`Redis`] is what the rest of the crate sees. Behind it stands one primary, which `locate` finds, or a cluster of them;
//! each [`primary`] has its connections and its breaker. All waiting is bounded by `redis.deadline`; what cannot be asked
//! now is answered at once with an error, which the failure policies turn into a decision.

mod budget;
mod cluster;
mod common;
mod connect;
mod dial;
mod endpoint;
mod failure;
mod locate;
mod primary;
mod probe;
mod request;
mod role;
mod slots;
mod target;
mod topology;

use std::{
    borrow::Borrow,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use edgequota_config::settings::{self, RedisMode};
use smallvec::SmallVec;
use tokio::{sync::watch, task::AbortHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    StoreError,
    plan::{Plan, Replies},
};
use crate::metrics::Counted;
pub(crate) use common::Seat;
use common::{Common, Crew};
pub(crate) use request::Credits;
use topology::Topology;

/// What the user of an ACL needs to count, all that is ever used but for `CLIENT SETNAME`, `CONFIG GET maxmemory-policy` and
/// `INFO memory`, whose refusal costs a name and a warning. The second pattern is for limits other than the default one.
pub const ACL_RULES: &str = "~rl:* ~{rl:* +evalsha +eval +time +hmget +exists +pttl +del +hset +pexpire +ping";
/// What it needs beside that to be found by `replication` and `sentinel`.
pub const ACL_FOUND: &str = "+role";
/// What it needs beside that in a cluster.
pub const ACL_CLUSTER: &str = "+cluster|slots +asking";
/// What the user at the Sentinels needs.
pub const ACL_SENTINEL: &str = "&+switch-master +sentinel|get-master-addr-by-name +subscribe +ping";
/// Plans that may be unanswered on one connection; above it the failure policy answers. More than a primary
/// answers within any sensible deadline.
pub const MAX_IN_FLIGHT: u64 = 4096;
/// Most connections to one server, whatever `redis.pool_size` says.
const MAX_CONNECTIONS: usize = 256;
/// Waits where a setting is off but some bound must be.
const LONG: Duration = Duration::from_secs(3);
/// Longest wait for the answer to a ping.
const PING: Duration = Duration::from_secs(2);

/// The store. Process-wide state.
pub struct Redis {
    settings: watch::Receiver<Arc<settings::Redis>>,
    counted: Arc<Counted>,
    node: String,
    crew: Arc<Crew>,
    topology: ArcSwap<Topology>,
    /// The task that follows settings and servers, and who started it.
    steward: Mutex<Option<(Seat, AbortHandle)>>,
    stop: CancellationToken,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("topology", &self.topology.load()).finish_non_exhaustive()
    }
}

impl Redis {
    /// Does no I/O yet. `node` names the connections.
    pub(crate) fn new(
        settings: watch::Receiver<Arc<settings::Redis>>,
        counted: Arc<Counted>,
        node: &str,
        stop: CancellationToken,
    ) -> Redis {
        let crew = Arc::new(Crew::default());
        let common = Common::new(&settings.borrow(), Arc::clone(&counted), node, Arc::clone(&crew));
        let topology = ArcSwap::from_pointee(Topology::new(&Arc::new(common)));
        Redis { settings, counted, node: node.to_owned(), crew, topology, steward: Mutex::default(), stop }
    }

    /// Whoever holds the seat lives on the current runtime: its connections are tended there.
    pub(crate) fn attach(self: &Arc<Self>, seat: Seat) {
        let Some(runtime) = self.crew.enlist(seat) else { return };
        self.topology.load().attach(seat, &runtime);
        let mut steward = self.steward.lock().unwrap_or_else(PoisonError::into_inner);
        // The spare seat's runtime outlives those of the workers, so it takes over from them.
        let stays =
            |(by, task): &(Seat, AbortHandle)| !task.is_finished() && (*by == Seat::Spare || seat != Seat::Spare);
        if steward.as_ref().is_some_and(stays) {
            return;
        }
        if let Some((_, before)) = steward.take() {
            before.abort();
        }
        *steward = Some((seat, runtime.spawn(Arc::clone(self).follow()).abort_handle()));
    }

    /// How long a request may wait for its answer.
    pub(crate) fn deadline(&self) -> Duration {
        self.topology.load().deadline()
    }

    /// Most counters that go in one call.
    pub(crate) fn counters_per_call(&self) -> usize {
        self.topology.load().counters_per_call()
    }

    /// Would a call for the plan be sent now? An error is the answer at once.
    pub(crate) fn usable(&self, seat: Seat, plan: &Plan) -> Result<(), StoreError> {
        self.topology.load().usable(seat, plan)
    }

    /// Asks for the plans, for which `waiting` requests wait; one answer per plan, in at most `redis.deadline`. A
    /// call that is dropped may still be executed: it may cost tokens, never adds any.
    pub(crate) async fn send<P: Borrow<Plan>>(
        &self,
        seat: Seat,
        plans: &[P],
        waiting: u64,
        credits: Credits,
    ) -> Result<SmallVec<[Replies; 1]>, StoreError> {
        let topology = self.topology.load_full();
        let end = Instant::now() + topology.deadline();
        topology.send(seat, plans, waiting, credits, end).await
    }

    /// The deadline of a request passed, whose call may still be under way.
    pub(crate) fn expired(&self, seat: Seat) {
        self.topology.load().expired(seat);
    }

    /// `PING` answered within two seconds, by every primary.
    pub(crate) async fn ping(self: &Arc<Self>) -> bool {
        self.attach(Seat::Spare);
        let topology = self.topology.load_full();
        topology.ping(Instant::now() + PING).await
    }

    /// Waits until every connection that is wanted so far was tried once.
    pub(crate) async fn tried(self: &Arc<Self>) {
        self.attach(Seat::Spare);
        let topology = self.topology.load_full();
        topology.tried().await;
    }

    /// Every primary answers and counts, as far as known.
    pub(crate) fn healthy(&self) -> bool {
        self.topology.load().healthy()
    }

    /// The `maxmemory-policy` of one may evict counters.
    pub(crate) fn evicts(&self) -> bool {
        self.topology.load().evicts()
    }

    /// What an operator must mend.
    pub(crate) fn problem(&self) -> Option<String> {
        self.topology.load().problem()
    }

    /// Follows the servers, and the settings from one topology to another (a cluster or none, another number of connections).
    async fn follow(self: Arc<Self>) {
        let mut changes = self.settings.clone();
        loop {
            let settings = changes.borrow_and_update().clone();
            let topology = self.topology.load_full();
            // Between the embedded store and Redis nothing leads without a restart.
            let (ours, stays) = (settings.mode != RedisMode::Embedded, topology.is_for(&settings));
            if ours && stays {
                topology.adopt(&settings);
            }
            tokio::select! {
                next = self.another(&settings), if ours && !stays => self.topology.store(next),
                () = topology.follow() => {}
                () = changed(&mut changes) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// A topology for these settings, when it counts. Until then, however long that takes, the old one does.
    async fn another(&self, settings: &Arc<settings::Redis>) -> Arc<Topology> {
        let common = Common::new(settings, Arc::clone(&self.counted), &self.node, Arc::clone(&self.crew));
        let next = Arc::new(Topology::new(&Arc::new(common)));
        tokio::select! {
            () = next.follow() => {}
            () = next.ready() => {}
        }
        // Whoever came in the meantime has no connection there yet.
        self.crew.all().iter().for_each(|(seat, runtime)| next.attach(*seat, runtime));
        next
    }
}

/// Never ready once nobody can change it any more.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
