//! The data plane's side of the stream between the planes: the only writer of the policy slot.
//!
//! Whatever happens to the control plane, the policy in force stays in force. Before the first one arrives:
//! after `control_plane.initial_wait` the last good policy of `state_dir`, else the policy part of the own file, else
//! it waits, and says for what. As soon as the control plane answers, its answer wins.

mod apply;
mod backoff;
mod connect;
mod fallback;
pub mod file;
mod hints;
mod metrics;
mod session;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edgequota_config::{settings::ControlPlane, state::StateDir};
use edgequota_ops::{metrics::Metrics, probes::Probes};
use edgequota_policy::PolicySpec;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::policy_slot::PolicySlot;
use apply::Applier;
use backoff::Backoff;
use connect::Connector;
pub use connect::FollowError;
pub use hints::Hints;

/// Times of the stream. `Default` is the contract's.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between two heartbeats: 5 s.
    pub heartbeat: Duration,
    /// A silent control plane is dead after: 15 s.
    pub dead: Duration,
    /// Longest time to connect, and again to subscribe: 4 s. With `pause_most` it bounds how long a data plane stays
    /// away from a control plane that is back.
    pub connect: Duration,
    /// Bound of the first pause before a reconnect: 500 ms; it doubles.
    pub pause_first: Duration,
    /// Bound of the longest pause: 30 s.
    pub pause_most: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Times {
            heartbeat: Duration::from_secs(5),
            dead: Duration::from_secs(15),
            connect: Duration::from_secs(4),
            pause_first: Duration::from_millis(500),
            pause_most: Duration::from_secs(30),
        }
    }
}

/// What a data plane needs to know to follow a control plane.
#[derive(Clone, Debug)]
pub struct Config {
    /// `control_plane`; `address` must not be empty.
    pub settings: ControlPlane,
    /// Number of workers of this process.
    pub workers: u32,
    /// Version of the binary.
    pub binary: String,
    /// Shown in the fleet: at most 32, of at most 128 bytes each.
    pub labels: BTreeMap<String, String>,
    /// The policy part of the own file, resolved and checked: the last resort.
    pub own: Option<PolicySpec>,
    /// Times.
    pub times: Times,
}

/// Follows the control plane until `stop`. An error only when the settings cannot work (a certificate that cannot be
/// read, an address that is none); everything else is retried for ever.
///
/// `probes` gets a guard `policy` that opens with the first policy; it is there when this returns, before the future
/// is polled, so that no process is ready for a moment before it waits.
#[allow(clippy::too_many_arguments, reason = "the one door of the module, called once")]
pub fn follow(
    config: Config,
    slot: Arc<PolicySlot>,
    state: Option<StateDir>,
    hints: Hints,
    metrics: &Metrics,
    probes: &Probes,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, FollowError> {
    let connector = Connector::new(&config.settings)?;
    let measured = metrics::Measured::register(metrics, &slot);
    let applier = Applier::new(slot, state, measured, probes, &config.settings.address);
    let mut follower = Follower { connector, applier, hints, config, instance: instance() };
    Ok(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follower.run() => {}
        }
        follower.applier.finish_saving().await;
    })
}

/// Random, so that two processes on one node are told apart, and a restarted one from its predecessor.
fn instance() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

struct Follower {
    connector: Connector,
    applier: Applier,
    hints: Hints,
    config: Config,
    instance: String,
}

impl Follower {
    async fn run(&mut self) {
        let fall_back_at = Instant::now() + self.config.settings.initial_wait.get();
        self.applier.load_kept().await;
        let mut backoff = Backoff::new(self.config.times.pause_first, self.config.times.pause_most);
        let mut fallback = fallback::Fallback::new(fall_back_at, self.config.own.take());
        loop {
            let address = self.config.settings.address.clone();
            let connected = {
                let connecting = tokio::time::timeout(self.config.times.connect, self.connector.connect());
                tokio::pin!(connecting);
                loop {
                    tokio::select! {
                        connected = &mut connecting => break connected,
                        () = sleep_until(fallback.at), if fallback.armed(&self.applier) => {
                            fallback.fall_back(&mut self.applier).await;
                        }
                    }
                }
            };
            match connected {
                Ok(Ok(channel)) => {
                    let began = Instant::now();
                    let end = session::run(self, channel, &mut fallback).await;
                    warn!(address, reason = %end, "the control-plane stream ended");
                    self.applier.say_waiting(Some(&end.to_string()));
                    // A stream that breaks at once every time must not be retried at once every time.
                    if began.elapsed() >= self.config.times.dead {
                        backoff.reset();
                    }
                }
                Ok(Err(error)) => {
                    let error = chain(&error);
                    warn!(address, error, "cannot reach the control plane");
                    self.applier.say_waiting(Some(&error));
                }
                Err(_) => {
                    warn!(address, "the control plane did not answer in time");
                    self.applier.say_waiting(Some("no answer in time"));
                }
            }
            self.pause(backoff.next(), &mut fallback).await;
        }
    }

    async fn pause(&mut self, pause: Duration, fallback: &mut fallback::Fallback) {
        debug!(?pause, "reconnecting to the control plane later");
        let pause = sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                () = sleep_until(fallback.at), if fallback.armed(&self.applier) => {
                    fallback.fall_back(&mut self.applier).await;
                }
            }
        }
    }
}

/// An error with its causes: the outermost of a failed connection says only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
