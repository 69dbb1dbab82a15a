//! One thread per worker, each with a single-threaded runtime, its own listener and its own state.

use std::{io, net::TcpListener, rc::Rc, sync::Arc, thread, time::Duration};

use edgequota_counters::Counters;
use edgequota_ops::{
    metrics::enter_worker,
    shutdown::{Shutdown, Stage},
    watchdog::{Pulse, Watchdog},
};
use tokio::{sync::mpsc, task::LocalSet};

use crate::{
    listen::accept::{self, Handed},
    upstream::{Pools, pool::Caps},
    worker::{Shared, Worker},
};

/// How often a worker looks after its pools and shows that it lives.
const TICK: Duration = Duration::from_secs(1);

/// How long the end of a worker may take for giving back its leases.
const GIVE_BACK: Duration = Duration::from_secs(3);

/// What a worker is started with.
pub(crate) struct Start {
    pub(crate) listener: TcpListener,
    pub(crate) handed: mpsc::Receiver<Handed>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) caps: Arc<Caps>,
    pub(crate) counters: Counters,
    pub(crate) shutdown: Shutdown,
    pub(crate) watchdog: Watchdog,
    pub(crate) workers: usize,
}

/// Starts worker `index` on a thread of its own. The thread ends when the drain is over.
pub(crate) fn start(index: usize, start: Start) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        enter_worker(index + 1);
        // Held over everything: a panic anywhere in this worker drops it while panicking, which ends the process.
        let pulse = start.watchdog.pulse(format!("worker-{index}"));
        let local = LocalSet::new();
        local.block_on(&runtime, run(index, start, &pulse));
    })
}

async fn run(index: usize, start: Start, pulse: &Pulse) {
    let Start { listener, handed, shared, caps, counters, shutdown, workers, .. } = start;
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, worker = index, "the listener cannot be used");
            return shutdown.advance(Stage::Ended);
        }
    };
    let pools = Pools::new(shared.resolver.clone(), caps, workers);
    let worker = Worker::new(index, shared, counters.spender(index), pools);
    let follow = {
        let (worker, shutdown) = (Rc::clone(&worker), shutdown.clone());
        tokio::task::spawn_local(async move { worker.stage.follow(&shutdown).await })
    };
    let serve = async {
        accept::accept(&worker, listener, handed).await;
        // What is in flight has until the end of the drain; when nothing is left there is nothing to wait for.
        worker.drained().await;
    };
    let tick = async {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            pulse.touch();
            worker.tick();
        }
    };
    tokio::select! {
        () = serve => {}
        () = worker.stage.reached(Stage::Ended) => {}
        () = tick => {}
    }
    // What nobody will spend any more is other data planes' to spend.
    let _ = tokio::time::timeout(GIVE_BACK, worker.spender.close()).await;
    follow.abort();
}
