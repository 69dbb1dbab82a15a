//! A cluster: each hash slot has its primary, which `MOVED`, `ASK` and the nodes' own map tell.
//!
//! All counters of a subject share a slot, so a request about one subject is one call to one node. A request about several
//! subjects, or one that meets its keys apart while their slot moves, goes in [`parts`], which give back what a refusal
//! elsewhere makes void.

mod map;
mod parts;

use std::{
    borrow::Borrow,
    collections::HashMap,
    fmt, slice,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::{join_all, try_join_all};
use smallvec::SmallVec;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::{
    common::{Common, Seat},
    endpoint::Endpoint,
    failure::Redirect,
    locate::{BELIEVED, LOOKED, again_in},
    primary::{Call, CallError, Held, Primary},
    request::Credits,
    slots,
    target::{Place, Target},
};
use crate::store::{
    StoreError,
    plan::{Plan, Replies},
};
use map::{Layout, Map};

/// A call is sent on no more often: nodes that send it in a circle do not know better yet.
const MOST_REDIRECTS: usize = 8;
/// A node that has no slots and is not asked for so long is left.
const UNUSED_US: u64 = 60_000_000;
/// The longest that a new map waits for connections to the nodes that it names.
const CONNECT: Duration = Duration::from_secs(1);

/// Who has which slots, and the connections to them.
pub(super) struct Cluster {
    common: Arc<Common>,
    map: ArcSwap<Map>,
    nodes: Mutex<HashMap<Endpoint, Arc<Node>>>,
    doubts: Arc<Notify>,
    /// Somebody looked.
    looked: watch::Sender<bool>,
}

/// A primary of the cluster, or one that may become one.
pub(super) struct Node {
    endpoint: Endpoint,
    primary: Held,
    used_us: AtomicU64,
}

/// Why a whole plan came to nothing at one node.
enum Trouble {
    /// Its keys are apart. Whether its credits may still be given is said, too.
    Apart(Credits),
    Store(StoreError),
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.map.load().nodes().len()).finish_non_exhaustive()
    }
}

impl Cluster {
    pub(super) fn new(common: &Arc<Common>) -> Cluster {
        Cluster {
            common: Arc::clone(common),
            map: ArcSwap::from_pointee(Map::empty()),
            nodes: Mutex::default(),
            doubts: Arc::new(Notify::new()),
            looked: watch::Sender::new(false),
        }
    }

    pub(super) fn common(&self) -> &Common {
        &self.common
    }

    pub(super) fn attach(&self, seat: Seat, runtime: &Handle) {
        for node in self.all_nodes() {
            node.primary.ensure(seat, runtime);
        }
    }

    /// Keeps the map true, beginning with the nodes that the settings name: of other settings those that are known know
    /// nothing. Never ready.
    pub(super) async fn follow(&self) {
        let settings = self.common.settings().borrow().clone();
        let mut anew = true;
        loop {
            let begun = Instant::now();
            match self.look(&settings, anew).await {
                Some(layout) => {
                    anew = false;
                    self.adopt(&layout).await;
                }
                None => tracing::warn!("no node of the redis cluster tells who has which slots"),
            }
            self.looked.send_replace(true);
            let pause = if self.is_whole() { BELIEVED } else { Duration::from_secs(1) };
            tokio::select! {
                () = sleep_until(begun + again_in(pause)) => {}
                () = self.doubts.notified() => sleep_until(begun + LOOKED).await,
            }
        }
    }

    pub(super) fn usable(&self, seat: Seat, plan: &Plan) -> Result<(), StoreError> {
        let map = self.map.load();
        let mut last = None;
        for (key, _) in plan.iter() {
            let slot = slots::of(key);
            if last != Some(slot) {
                map.of(slot).ok_or(StoreError::NotConnected)?.primary.usable(seat)?;
                last = Some(slot);
            }
        }
        Ok(())
    }

    pub(super) async fn send<P: Borrow<Plan>>(
        self: &Arc<Self>,
        seat: Seat,
        plans: &[P],
        waiting: u64,
        credits: Credits,
        end: Instant,
    ) -> Result<SmallVec<[Replies; 1]>, StoreError> {
        let errand = |plan| parts::Errand { plan, seat, waiting, credits, end };
        if let [plan] = plans {
            return Ok(SmallVec::from_iter([self.one(&errand(plan.borrow())).await?]));
        }
        let all = try_join_all(plans.iter().map(|plan| {
            let errand = errand(plan.borrow());
            async move { self.one(&errand).await }
        }));
        Ok(all.await?.into())
    }

    async fn one(self: &Arc<Self>, errand: &parts::Errand<'_>) -> Result<Replies, StoreError> {
        let by_slot = parts::by_slot(errand.plan);
        if by_slot.len() > 1 {
            return parts::send(self, errand, by_slot).await;
        }
        match self.whole(errand).await {
            Ok(replies) => Ok(replies),
            // A slot that moves has some of its keys here and some there: one by one they are found.
            Err(Trouble::Apart(credits)) => {
                parts::send(self, &parts::Errand { credits, ..*errand }, parts::by_counter(errand.plan)).await
            }
            Err(Trouble::Store(error)) => Err(error),
        }
    }

    /// A plan whose keys are of one slot, to whoever has it.
    async fn whole(&self, errand: &parts::Errand<'_>) -> Result<Replies, Trouble> {
        let parts::Errand { plan, seat, waiting, mut credits, end } = *errand;
        let Some(slot) = plan.iter().next().map(|(key, _)| slots::of(key)) else { return Ok(Replies::default()) };
        let mut node = self.map.load().of(slot).cloned().ok_or(Trouble::Store(StoreError::NotConnected))?;
        let mut asking = false;
        for _ in 0..MOST_REDIRECTS {
            let plans = slice::from_ref(plan);
            let sent = node.primary.send(seat, &Call { plans, waiting, credits, asking, end }).await;
            let (redirect, withhold) = match sent {
                Ok(mut replies) => return replies.pop().ok_or(Trouble::Store(StoreError::BadReply)),
                Err(CallError::Store(error)) => return Err(Trouble::Store(error)),
                Err(CallError::Redirect(redirect, credits)) => (redirect, credits),
            };
            credits = withhold;
            node = match redirect {
                Redirect::Moved { slot, to } => {
                    asking = false;
                    let node = self.reach(&to, slot, end).await.map_err(Trouble::Store)?;
                    self.learn(slot, &node);
                    node
                }
                Redirect::Ask { to } => {
                    asking = true;
                    self.reach(&to, slot, end).await.map_err(Trouble::Store)?
                }
                Redirect::Apart => return Err(Trouble::Apart(credits)),
            };
        }
        Err(Trouble::Store(StoreError::Server("the nodes of the cluster send the call in a circle".to_owned())))
    }

    /// A node and, when it can be had until then, a connection to it.
    async fn reach(&self, endpoint: &Endpoint, slot: u16, end: Instant) -> Result<Arc<Node>, StoreError> {
        let node = self.node(endpoint, slot);
        match node.primary.connected(end).await {
            true => Ok(node),
            false => Err(StoreError::NotConnected),
        }
    }

    /// The node there; a new one gets connections for the whole crew.
    fn node(&self, endpoint: &Endpoint, slot: u16) -> Arc<Node> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = nodes.entry(endpoint.clone()).or_insert_with(|| {
            let place = Place { endpoint: endpoint.clone(), slot: Some(slot) };
            let (_, target) = watch::channel(Target::At(place));
            Arc::new(Node {
                endpoint: endpoint.clone(),
                primary: Primary::start(&self.common, target, Arc::clone(&self.doubts)),
                used_us: AtomicU64::new(0),
            })
        });
        node.used_us.store(self.common.now_us(), Ordering::Relaxed);
        Arc::clone(node)
    }

    /// `MOVED`: the rest of the map may be old, too.
    fn learn(&self, slot: u16, node: &Arc<Node>) {
        self.map.rcu(|map| map.with(slot, node));
        self.doubts.notify_one();
    }

    /// Takes over who has which slots, when there are connections to those who are new.
    async fn adopt(&self, layout: &Layout) {
        let map = Map::new(layout, |endpoint, slot| self.node(endpoint, slot));
        let end = Instant::now() + CONNECT;
        join_all(map.nodes().iter().map(|node| node.primary.connected(end))).await;
        let news = self.map.load().differs_from(&map);
        self.map.store(Arc::new(map));
        if news {
            let nodes: Vec<String> = self.map.load().nodes().iter().map(|node| node.endpoint.to_string()).collect();
            tracing::info!(?nodes, "the primaries of the cluster");
        }
        let map = self.map.load();
        let now_us = self.common.now_us();
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|_, node| map.has(node) || node.used_us.load(Ordering::Relaxed) + UNUSED_US > now_us);
    }

    fn known(&self, endpoint: &Endpoint) -> Option<Arc<Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(endpoint).cloned()
    }

    fn all_nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn is_whole(&self) -> bool {
        let map = self.map.load();
        map.is_complete() && map.nodes().iter().all(|node| node.primary.is_connected())
    }

    /// Whoever is silent is meant.
    pub(super) fn expired(&self, seat: Seat) {
        for node in self.map.load().nodes() {
            node.primary.expired(seat);
        }
    }

    pub(super) async fn ping(&self, end: Instant) -> bool {
        let mut looked = self.looked.subscribe();
        let _ = tokio::time::timeout_at(end, looked.wait_for(|looked| *looked)).await;
        let map = self.map.load_full();
        map.is_complete()
            && join_all(map.nodes().iter().map(|node| node.primary.ping(end))).await.into_iter().all(|ok| ok)
    }

    pub(super) async fn tried(&self) {
        let mut looked = self.looked.subscribe();
        let _ = looked.wait_for(|looked| *looked).await;
        let map = self.map.load_full();
        join_all(map.nodes().iter().map(|node| node.primary.tried())).await;
    }

    /// Waits until somebody counts, and whoever else should was tried.
    pub(super) async fn ready(&self) {
        let mut looked = self.looked.subscribe();
        loop {
            looked.mark_unchanged();
            let map = self.map.load_full();
            join_all(map.nodes().iter().map(|node| node.primary.tried())).await;
            if map.nodes().iter().any(|node| node.primary.is_connected()) {
                return;
            }
            if looked.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn healthy(&self) -> bool {
        let map = self.map.load();
        map.is_complete() && map.nodes().iter().all(|node| node.primary.healthy())
    }

    pub(super) fn any(&self, is: impl Fn(&Primary) -> bool) -> bool {
        self.map.load().nodes().iter().any(|node| is(&node.primary))
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.map.load().nodes().iter().find_map(|node| node.primary.problem())
    }
}
