//! One multiplexed connection and what is known about its calls.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;

use crate::store::redis::{budget::Permit, endpoint::Endpoint};

/// A connection. Answers come in the order of the calls, so the newest answered call tells how many are not.
pub(super) struct Connection {
    endpoint: Endpoint,
    /// It goes back when this is dropped.
    _permit: Permit,
    handle: MultiplexedConnection,
    fate: Arc<Fate>,
    sent: AtomicU64,
    answered: AtomicU64,
    answered_us: AtomicU64,
    busy_us: AtomicU64,
    waiting: AtomicU64,
    attention: Notify,
}

/// Whether the connection is still good; known to the reader of the socket too.
#[derive(Debug, Default)]
pub(in super::super) struct Fate {
    condemned: AtomicBool,
    told: Notify,
}

impl Fate {
    pub(in super::super) fn condemn(&self) {
        self.condemned.store(true, Ordering::Release);
        self.told.notify_one();
    }
}

/// What one call carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Requests that wait for it.
    pub(super) requests: u64,
    /// Plans in it.
    pub(super) plans: u64,
}

/// Requests that wait for the answer to one call, until this is dropped.
pub(super) struct Waiting<'a> {
    connection: &'a Connection,
    number: u64,
    requests: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.connection.waiting.fetch_sub(self.requests, Ordering::Relaxed);
    }
}

impl Connection {
    pub(super) fn new(
        endpoint: Endpoint,
        permit: Permit,
        handle: MultiplexedConnection,
        fate: Arc<Fate>,
    ) -> Connection {
        Connection {
            endpoint,
            _permit: permit,
            handle,
            fate,
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            answered_us: AtomicU64::new(0),
            busy_us: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            attention: Notify::new(),
        }
    }

    pub(super) fn handle(&self) -> MultiplexedConnection {
        self.handle.clone()
    }

    /// Where it leads to.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn is_live(&self) -> bool {
        !self.fate.condemned.load(Ordering::Acquire)
    }

    pub(super) fn condemn(&self) {
        self.fate.condemn();
    }

    pub(super) async fn condemned(&self) {
        while self.is_live() {
            self.fate.told.notified().await;
        }
    }

    /// Counts a call that is about to be sent.
    pub(super) fn send(&self, load: Load, now_us: impl FnOnce() -> u64) -> Waiting<'_> {
        if self.unanswered() == 0 {
            self.busy_us.store(now_us(), Ordering::Relaxed);
        }
        self.waiting.fetch_add(load.requests, Ordering::Relaxed);
        let number = self.sent.fetch_add(load.plans, Ordering::Relaxed) + load.plans;
        Waiting { connection: self, number, requests: load.requests }
    }

    pub(super) fn answered(&self, waiting: Waiting<'_>, now_us: u64) {
        self.answered.fetch_max(waiting.number, Ordering::Relaxed);
        self.answered_us.fetch_max(now_us, Ordering::Relaxed);
    }

    /// Plans without an answer, those that nobody waits for any more included.
    pub(super) fn unanswered(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.answered.load(Ordering::Relaxed))
    }

    /// Requests that wait now.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// When the newest answer came, microseconds since the store's start; zero: never.
    pub(super) fn answered_us(&self) -> u64 {
        self.answered_us.load(Ordering::Relaxed)
    }

    /// Since when there is a call without an answer, microseconds since the store's start; `None`: there is none.
    pub(super) fn busy_us(&self) -> Option<u64> {
        (self.unanswered() > 0).then(|| self.busy_us.load(Ordering::Relaxed))
    }

    /// Asks the supervisor to find out whether the server still answers.
    pub(super) fn needs_attention(&self) {
        self.attention.notify_one();
    }

    pub(super) async fn attention(&self) {
        self.attention.notified().await;
    }
}
