//! One client connection, as its requests see it.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use edgequota_ops::{resources::canonical_ip, shutdown::Stage};
use tokio::time::Instant;

use crate::{admission::ConnectionSlot, worker::Worker};

/// Who is at the other end, and how long they may stay.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    /// IPv4-mapped addresses already turned into IPv4.
    pub(crate) peer: SocketAddr,
    /// Its address as forwarding headers show it.
    pub(crate) peer_ip: Box<str>,
    ages_at: Option<Instant>,
    _slot: ConnectionSlot,
}

impl Client {
    pub(crate) fn new(worker: Rc<Worker>, peer: SocketAddr, slot: ConnectionSlot) -> Client {
        let ages_at = worker.live().max_connection_age.and_then(|age| Instant::now().checked_add(jittered(age)));
        let peer = SocketAddr::new(canonical_ip(peer.ip()), peer.port());
        worker.connection_opened();
        Client { worker, peer, peer_ip: peer.ip().to_string().into(), ages_at, _slot: slot }
    }

    /// When the connection is asked to end, gracefully.
    pub(crate) fn ages_at(&self) -> Option<Instant> {
        self.ages_at
    }

    /// Whether the next answer is the connection's last: the process is leaving, or the connection is old.
    pub(crate) fn is_leaving(&self) -> bool {
        self.worker.stage.now() >= Stage::Leaving || self.ages_at.is_some_and(|at| Instant::now() >= at)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.worker.connection_closed();
    }
}

/// +-10 %, so that connections that came together do not leave together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * fastrand::f64())
}
