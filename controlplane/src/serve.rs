//! The gRPC side: accepts data planes, checks who they are, and runs one task for each stream.

pub mod accept;
pub mod auth;
mod hello;
mod outbound;
mod retry;
mod service;
mod subscriber;

use std::sync::Arc;

use edgequota_ops::metrics::{Counter, CounterVec, Metrics};
use edgequota_policy::Version;
use edgequota_proto::{control::control_plane_server::ControlPlaneServer, envelope::Bounds};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{info, warn};

use crate::{
    fleet::{Fleet, size::Damped},
    publish::{BOUNDS, Publisher},
    serve::{accept::Listener, auth::StreamAuth, service::Service},
    times::Times,
};

/// Most data planes of one control plane.
pub const MOST_SUBSCRIBERS: usize = 10_000;
/// Snapshots that are being written at the same moment. More would only share the same link and hold more memory.
const SENDS_AT_ONCE: usize = 64;
/// A message of a data plane: a snapshot that is handed over, and a little around it.
const MOST_MESSAGE: usize = {
    let Bounds { compressed, .. } = BOUNDS;
    compressed + 64 * 1024
};

/// What all streams share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// What is served.
    pub publisher: Arc<Publisher>,
    /// Who is connected.
    pub fleet: Fleet,
    /// Who may connect, and who may see literal secrets.
    pub auth: Arc<StreamAuth>,
    /// Times.
    pub times: Times,
    /// Told when a data plane holds a newer policy of another control plane, and which.
    pub newer: mpsc::Sender<Version>,
    /// Cancelled as soon as this process is to leave: nothing is pushed from then on.
    pub leaving: CancellationToken,
    /// Cancelled when the streams are to end.
    pub ending: CancellationToken,
    /// What is counted.
    pub counts: Counts,
    sends: Arc<Semaphore>,
}

/// Counters of the stream.
#[derive(Clone)]
pub struct Counts {
    /// Snapshots handed to the transport.
    pub snapshots: Counter,
    /// By class.
    pub nacks: CounterVec,
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counts")
    }
}

impl Counts {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Counts {
        Counts {
            snapshots: metrics.counter("edgequota_policy_snapshots_sent", "Policies sent to data planes"),
            nacks: metrics.counter_vec(
                "edgequota_policy_nacks",
                "Policies that data planes refused, by class",
                &["class"],
                2,
            ),
        }
    }
}

impl Shared {
    /// Puts it together.
    #[allow(clippy::too_many_arguments, reason = "the one place where the parts meet")]
    pub fn new(
        publisher: Arc<Publisher>,
        fleet: Fleet,
        auth: Arc<StreamAuth>,
        times: Times,
        newer: mpsc::Sender<Version>,
        leaving: CancellationToken,
        ending: CancellationToken,
        counts: Counts,
    ) -> Shared {
        let sends = Arc::new(Semaphore::new(SENDS_AT_ONCE));
        Shared { publisher, fleet, auth, times, newer, leaving, ending, counts, sends }
    }

    fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(&self.sends)
    }
}

/// Serves until `shared.ending`; streams get a moment to end by themselves.
pub async fn serve(listener: Listener, shared: Shared) {
    let address = listener.local_addr();
    let (connections, incoming) = mpsc::channel(64);
    let accepting = tokio::spawn(listener.run(connections, shared.times.hello, shared.ending.clone()));
    let sizing = tokio::spawn(tell_sizes(shared.fleet.clone(), shared.times, shared.ending.clone()));
    let ending = shared.ending.clone();
    let service = ControlPlaneServer::new(Service::new(shared))
        .max_decoding_message_size(MOST_MESSAGE)
        .max_encoding_message_size(MOST_MESSAGE);
    info!(%address, "data planes may subscribe");
    let served = Server::builder()
        // One stream a data plane; a few more while it reconnects.
        .max_concurrent_streams(8)
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(std::time::Duration::from_secs(10)))
        .http2_max_header_list_size(16 * 1024)
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), ending.cancelled_owned())
        .await;
    if let Err(error) = served {
        warn!(%error, "the control-plane stream ended with an error");
    }
    accepting.abort();
    sizing.abort();
}

/// Watches how many are connected and tells it by the rule of [`Damped`].
async fn tell_sizes(fleet: Fleet, times: Times, stop: CancellationToken) {
    let mut damped = Damped::new(tokio::time::Instant::now(), times.fleet_quiet, times.fleet_shrink);
    let mut changes = fleet.changes();
    let mut tick = tokio::time::interval(times.heartbeat.min(std::time::Duration::from_secs(1)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if let Some(size) = damped.observe(tokio::time::Instant::now(), fleet.count())
            && size.planes > 0
        {
            fleet.tell_size(size);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                // Growth is told at once, but a burst of newcomers is counted once, not once each.
                tokio::time::sleep(times.heartbeat / 50).await;
            }
        }
    }
}
