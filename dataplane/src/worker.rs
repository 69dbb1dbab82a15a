//! One worker: everything that its requests share, owned by its thread.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
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
    spare,
    upstream::{Pool, Pools, resolve::Resolver},
};

/// What all workers share. Read-mostly: nothing here is written per request.
pub(crate) struct Shared {
    pub(crate) settings: ArcSwap<Live>,
    /// Changes with every change of `settings`.
    pub(crate) settings_serial: AtomicU64,
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
    /// Puts other settings in force.
    pub(crate) fn set_live(&self, live: Live) {
        self.settings.store(Arc::new(live));
        self.settings_serial.fetch_add(1, Ordering::Release);
    }
}

/// State of one worker.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) spender: Spender,
    pub(crate) stage: WorkerStage,
    pub(crate) metrics: WorkerMetrics,
    live: RefCell<Rc<Live>>,
    live_seen: Cell<u64>,
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
        let live_seen = Cell::new(shared.settings_serial.load(Ordering::Acquire));
        let live = RefCell::new(Rc::new(Live::clone(&shared.settings.load())));
        Rc::new(Worker {
            index,
            shared,
            spender,
            stage: WorkerStage::new(),
            metrics: WorkerMetrics::default(),
            live,
            live_seen,
            pools,
            seen: Cell::new(0),
            current: RefCell::new(None),
            connections: Cell::new(0),
            last_gone: Notify::new(),
        })
    }

    /// The settings of this moment. The worker's own copy: asked for many times in a request.
    pub(crate) fn live(&self) -> Rc<Live> {
        let serial = self.shared.settings_serial.load(Ordering::Acquire);
        if serial != self.live_seen.get() {
            *self.live.borrow_mut() = Rc::new(Live::clone(&self.shared.settings.load()));
            self.live_seen.set(serial);
        }
        Rc::clone(&self.live.borrow())
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
        spare::trim();
    }
}
