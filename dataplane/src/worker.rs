//! One worker: everything that its requests share, owned by its thread.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    pin::pin,
    rc::Rc,
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};
use edgequota_counters::Spender;
use edgequota_ops::{access_log::AccessLog, probes::Probes};
use edgequota_policy::Backend;
use tokio::sync::Notify;

use crate::{
    admission::Admission,
    listen::stage::WorkerStage,
    live::Live,
    metrics::{Metrics, WorkerMetrics},
    policy_slot::{InForce, PolicySlot},
    upstream::{Pool, Pools, resolve::Resolver},
};

/// What all workers share. Read-mostly: nothing here is written per request.
pub(crate) struct Shared {
    pub(crate) settings: ArcSwap<Live>,
    pub(crate) slot: Arc<PolicySlot>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: AccessLog,
    pub(crate) probes: Probes,
    pub(crate) resolver: Resolver,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Shared {
    /// The settings of this moment.
    pub(crate) fn live(&self) -> Guard<Arc<Live>> {
        self.settings.load()
    }
}

/// State of one worker.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) spender: Spender,
    pub(crate) stage: WorkerStage,
    pub(crate) metrics: WorkerMetrics,
    pools: Pools,
    seen: Cell<u64>,
    current: RefCell<Option<Rc<Current>>>,
    connections: Cell<usize>,
    last_gone: Notify,
}

/// The policy in force, with this worker's pools for its backends. A request takes it once.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) in_force: Arc<InForce>,
    /// `policy_version` as the access log shows it.
    pub(crate) version: Rc<str>,
    pools: HashMap<*const Backend, Rc<Pool>>,
}

impl Current {
    /// This worker's pool for a backend of the policy.
    pub(crate) fn pool(&self, backend: &Arc<Backend>) -> Option<&Rc<Pool>> {
        self.pools.get(&Arc::as_ptr(backend))
    }
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, spender: Spender, pools: Pools) -> Rc<Worker> {
        Rc::new(Worker {
            index,
            shared,
            spender,
            stage: WorkerStage::new(),
            metrics: WorkerMetrics::default(),
            pools,
            seen: Cell::new(0),
            current: RefCell::new(None),
            connections: Cell::new(0),
            last_gone: Notify::new(),
        })
    }

    /// The policy for a request that begins now; `None`: there is none yet.
    pub(crate) fn policy(&self) -> Option<Rc<Current>> {
        let serial = self.shared.slot.serial();
        if serial != self.seen.get() {
            self.refresh(serial);
        }
        self.current.borrow().clone()
    }

    /// Takes the new policy over. Pools are keyed by a backend's definition: those that did not change go on with
    /// their connections, those that are gone end with their last request.
    fn refresh(&self, serial: u64) {
        let Some(in_force) = self.shared.slot.load() else { return };
        let pools = self.pools.rebuild(in_force.policy.backends());
        let version = Rc::from(in_force.snapshot.version.to_string());
        *self.current.borrow_mut() = Some(Rc::new(Current { in_force, version, pools }));
        self.seen.set(serial);
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.set(self.connections.get() - 1);
        if self.connections.get() == 0 {
            self.last_gone.notify_waiters();
        }
    }

    /// Waits until no connection is open.
    pub(crate) async fn drained(&self) {
        loop {
            let mut gone = pin!(self.last_gone.notified());
            gone.as_mut().enable();
            if self.connections.get() == 0 {
                return;
            }
            gone.await;
        }
    }

    /// Once a second: what is old leaves, and an idle worker does not hold on to a replaced policy.
    pub(crate) fn tick(&self) {
        let _ = self.policy();
        self.pools.sweep();
        self.spender.tick();
    }
}
