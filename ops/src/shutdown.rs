//! Signals, and the stages of a drain.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

/// Where a process stands; only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Running,
    /// SIGTERM came: not ready, still accepting for `drain_delay`, answers say close.
    Leaving,
    /// Listeners closed; what is in flight has until `drain_timeout`.
    Draining,
    /// Force.
    Ended,
}

/// Exit code after a second signal, as a shell reports an interrupted process.
const INTERRUPTED: i32 = 130;

/// The stage, to read, to wait for and to advance. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stage: Arc<watch::Sender<Stage>>,
}

impl Shutdown {
    /// Running.
    pub fn new() -> Shutdown {
        Shutdown { stage: Arc::new(watch::Sender::new(Stage::Running)) }
    }

    /// Now.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Waits until at least `stage`. Cancel safe.
    pub async fn reached(&self, stage: Stage) {
        // the sender lives in `self`, so this cannot end early
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    /// Never goes back.
    pub fn advance(&self, to: Stage) {
        let advanced = self.stage.send_if_modified(|now| {
            let grows = to > *now;
            if grows {
                *now = to;
            }
            grows
        });
        if advanced {
            tracing::info!(stage = ?to, "shutdown advances");
        }
    }

    /// SIGTERM: Leaving, after `delay` Draining. SIGINT: Draining at once. A second signal of either kind: exit
    /// now with 130. SIGHUP: looks at the watched files (certificates, tokens), then calls `hup`. When it returns, the
    /// signals are caught. Callable once per process (again: ignored).
    ///
    /// It has a thread of its own, so that a second Ctrl-C works even when every runtime hangs.
    pub fn listen_to_signals(&self, delay: Duration, hup: impl Fn() + Send + 'static) {
        static LISTENING: AtomicBool = AtomicBool::new(false);
        if LISTENING.swap(true, SeqCst) {
            tracing::error!("signals are listened to already, the second call is ignored");
            return;
        }
        let shutdown = self.clone();
        let hup = move || {
            crate::reload::now();
            hup();
        };
        let (ready, caught) = std::sync::mpsc::sync_channel(1);
        let exit = || {
            crate::logging::flush(Duration::from_millis(200));
            std::process::exit(INTERRUPTED)
        };
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Err(error) = listen(shutdown, ready, delay, hup, exit) {
                tracing::error!(%error, "signals cannot be caught, the process ends without a drain");
            }
        });
        match thread {
            // an error means that the thread gave up, and it has said why
            Ok(_) => drop(caught.recv()),
            Err(error) => {
                tracing::error!(%error, "signals cannot be caught, the process ends without a drain")
            }
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Caught {
    Terminate,
    Interrupt,
    Hangup,
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Until nobody takes them any more.
    async fn forward(mut self, to: mpsc::Sender<Caught>) {
        loop {
            let caught = tokio::select! {
                Some(()) = self.terminate.recv() => Caught::Terminate,
                Some(()) = self.interrupt.recv() => Caught::Interrupt,
                Some(()) = self.hangup.recv() => Caught::Hangup,
                else => return,
            };
            if to.send(caught).await.is_err() {
                return;
            }
        }
    }
}

/// The thread that listens; `ready` is told when the signals are caught.
fn listen(
    shutdown: Shutdown,
    ready: std::sync::mpsc::SyncSender<()>,
    delay: Duration,
    hup: impl Fn(),
    exit: impl Fn(),
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::catch()?;
        // the caller may have given up, which is no reason to
        let _ = ready.send(());
        let (to, from) = mpsc::channel(1);
        tokio::join!(signals.forward(to), drive(shutdown, from, delay, hup, exit));
        Ok(())
    })
}

/// Turns signals into stages until there are no more signals. `exit` is what a second one does.
async fn drive(
    shutdown: Shutdown,
    mut signals: mpsc::Receiver<Caught>,
    delay: Duration,
    hup: impl Fn(),
    exit: impl Fn(),
) {
    let mut leaving = false;
    // polled only while leaving; far away until then
    let drain_at = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(drain_at);
    let mut delay_runs = false;
    loop {
        let caught = tokio::select! {
            caught = signals.recv() => caught,
            () = &mut drain_at, if delay_runs => {
                delay_runs = false;
                shutdown.advance(Stage::Draining);
                continue;
            }
        };
        match caught {
            None => return,
            Some(Caught::Hangup) => {
                tracing::info!("SIGHUP: reload");
                hup();
            }
            Some(signal) if leaving => {
                tracing::warn!(?signal, "second signal: exit now");
                exit();
            }
            Some(Caught::Terminate) => {
                leaving = true;
                shutdown.advance(Stage::Leaving);
                drain_at.as_mut().reset(tokio::time::Instant::now() + delay);
                delay_runs = true;
            }
            Some(Caught::Interrupt) => {
                leaving = true;
                shutdown.advance(Stage::Draining);
            }
        }
    }
}

#[cfg(test)]
mod tests;
