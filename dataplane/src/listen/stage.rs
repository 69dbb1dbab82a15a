//! The stage of the drain, as the connections of one worker see it.

use std::{cell::Cell, pin::pin};

use edgequota_ops::shutdown::{Shutdown, Stage};
use tokio::sync::Notify;

/// A worker's copy of the process's stage: thousands of idle connections wait here, and none of them on a lock that
/// another worker takes.
#[derive(Debug)]
pub(crate) struct WorkerStage {
    stage: Cell<Stage>,
    changed: Notify,
}

impl WorkerStage {
    pub(crate) fn new() -> WorkerStage {
        WorkerStage { stage: Cell::new(Stage::Running), changed: Notify::new() }
    }

    pub(crate) fn now(&self) -> Stage {
        self.stage.get()
    }

    /// Waits until at least `stage`. Cancel safe.
    pub(crate) async fn reached(&self, stage: Stage) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.now() >= stage {
                return;
            }
            changed.await;
        }
    }

    /// Follows the process's stage until its end.
    pub(crate) async fn follow(&self, process: &Shutdown) {
        for next in [Stage::Leaving, Stage::Draining, Stage::Ended] {
            process.reached(next).await;
            self.stage.set(process.stage());
            self.changed.notify_waiters();
        }
    }
}
