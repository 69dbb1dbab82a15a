//! Counters in one Redis primary.
//!
//! A few multiplexed connections, each with a supervisor of its own; calls are pipelined by the connection. A caller
//! prefers its own connection and takes any other that lives when that one is gone. All waiting is bounded by
//! `redis.deadline`; what cannot be asked now is answered at once with an error, which the failure policies turn into
//! a decision.

mod backoff;
mod connect;
mod connection;
mod failure;
mod health;
mod probe;
mod request;
mod supervise;

use std::{
    borrow::Borrow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use edgequota_config::settings::Redis;
use redis::{Cmd, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    StoreError,
    plan::{Plan, Purpose, Replies},
    script,
};
use crate::{clock::micros, metrics::Counted};
use connection::{Connection, Load};
use failure::Failure;
use health::Problem;
pub(crate) use request::Credits;
use request::{by_hash, with_source};

/// What the user of an ACL needs, all that is ever used but for `CLIENT SETNAME`, `CONFIG GET maxmemory-policy` and
/// `INFO memory`, whose refusal costs a name and a warning. The second pattern is for limits other than the default one.
pub const ACL_RULES: &str = "~rl:* ~{rl:* +evalsha +eval +time +hmget +exists +pttl +del +hset +pexpire +ping";
/// Plans that may be unanswered on one connection; above it the failure policy answers. More than a primary
/// answers within any sensible deadline.
pub const MAX_IN_FLIGHT: u64 = 4096;
/// Most connections, whatever `redis.pool_size` says.
const MAX_CONNECTIONS: usize = 256;
/// Waits where a setting is off but some bound must be.
const LONG: Duration = Duration::from_secs(3);

/// Of a `PING` nobody's decision depends.
const PING: Load = Load { requests: 0, plans: 1 };

/// The primary: its connections and its breaker. Process-wide state.
pub struct Primary {
    slots: Box<[Slot]>,
    settings: watch::Receiver<Arc<Redis>>,
    node: String,
    counted: Arc<Counted>,
    /// Read by every call, written when the store's fate turns: no cache line moves while it is healthy.
    open: AtomicBool,
    deadline_us: AtomicU64,
    evicts: AtomicBool,
    has_problem: AtomicBool,
    problem: ArcSwapOption<Problem>,
    tries: watch::Sender<Tries>,
    /// A connection was made: calls that wait for one, and supervisors that are backing off, look again.
    connected: Notify,
    /// Somebody wants to know now: do not sit out a backoff.
    kick: Notify,
    stop: CancellationToken,
    start: Instant,
}

/// First attempts to connect.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    begun: usize,
    ended: usize,
}

/// One place for a connection, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Slot {
    claimed: AtomicBool,
    /// Requests of the worker that stand in line for a call to be sent.
    queued: AtomicU64,
    connection: ArcSwapOption<Connection>,
}

impl Slot {
    fn is_live(&self) -> bool {
        self.connection.load().as_ref().is_some_and(|connection| connection.is_live())
    }

    fn live(&self) -> Option<Arc<Connection>> {
        self.connection.load_full().filter(|connection| connection.is_live())
    }
}

impl fmt::Debug for Primary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Primary").field("slots", &self.slots.len()).field("open", &self.open).finish_non_exhaustive()
    }
}

impl Primary {
    pub(crate) fn new(
        settings: watch::Receiver<Arc<Redis>>,
        counted: Arc<Counted>,
        node: &str,
        stop: CancellationToken,
    ) -> Primary {
        let now = settings.borrow().clone();
        let slots = now.pool_size.clamp(1, MAX_CONNECTIONS);
        let primary = Primary {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            settings,
            node: node.to_owned(),
            counted,
            open: AtomicBool::new(false),
            deadline_us: AtomicU64::new(0),
            evicts: AtomicBool::new(false),
            has_problem: AtomicBool::new(false),
            problem: ArcSwapOption::empty(),
            tries: watch::Sender::default(),
            connected: Notify::new(),
            kick: Notify::new(),
            stop,
            start: Instant::now(),
        };
        primary.adopt(&now);
        primary
    }

    /// The slot of a worker: its own while there are enough, with the last one left for the API and pings.
    pub(crate) fn slot_of_worker(&self, worker: usize) -> usize {
        worker.checked_rem(self.spare()).unwrap_or(0)
    }

    /// The slot that no worker owns (unless `redis.pool_size` is 1).
    pub(crate) fn spare(&self) -> usize {
        self.slots.len() - 1
    }

    /// Starts the supervisor of a slot on the current runtime, unless it has one.
    pub(crate) fn ensure(self: &Arc<Self>, slot: usize) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.slots[slot].claimed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.tries.send_modify(|tries| tries.begun += 1);
        runtime.spawn(supervise::supervise(supervise::Leave::new(self, slot)));
    }

    /// How long a request may wait for its answer.
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_micros(self.deadline_us.load(Ordering::Relaxed))
    }

    /// Would a call be sent now? An error is the answer at once.
    pub(crate) fn usable(&self, slot: usize) -> Result<(), StoreError> {
        if self.open.load(Ordering::Relaxed) {
            return Err(StoreError::BreakerOpen);
        }
        match self.slots[slot].is_live() || self.slots.iter().any(Slot::is_live) {
            true => Ok(()),
            false => Err(StoreError::NotConnected),
        }
    }

    /// So many requests of this slot's worker wait for a call that is not sent yet.
    pub(crate) fn queued(&self, slot: usize, requests: u64) {
        self.slots[slot].queued.store(requests, Ordering::Relaxed);
    }

    /// Sends the plans as one call, for which `waiting` requests wait; one answer per plan, in at most `redis.deadline`. A
    /// call that is dropped may still be executed: it may cost tokens, never adds any.
    pub(crate) async fn send<P: Borrow<Plan>>(
        &self,
        slot: usize,
        plans: &[P],
        waiting: u64,
        credits: Credits,
    ) -> Result<Vec<Replies>, StoreError> {
        let connection = self.pick(slot)?;
        self.counted.redis_calls.inc();
        let replies = self.run(slot, connection, plans, waiting, credits).await;
        if let Err(error) = &replies
            && error.was_asked()
        {
            self.counted.redis_errors.inc();
        }
        replies
    }

    /// `PING` answered within two seconds, on any connection.
    pub(crate) async fn ping(self: &Arc<Self>) -> bool {
        self.ensure(self.spare());
        let end = Instant::now() + Duration::from_secs(2);
        let connection = match self.any_live(self.spare()) {
            Some(connection) => Some(connection),
            None => {
                self.kick.notify_waiters();
                self.next_live(self.spare(), None, end).await
            }
        };
        let Some(connection) = connection else {
            return false;
        };
        let mut ping = Cmd::new();
        ping.arg("PING");
        matches!(
            timeout_at(end, self.exchange(&connection, &ping, PING)).await,
            // An ACL that forbids `PING` is an answer too.
            Ok(Ok(_) | Err(Failure::NoPermission(_)))
        )
    }

    /// Waits until every connection that is wanted so far was tried once.
    pub(crate) async fn tried(self: &Arc<Self>) {
        self.ensure(self.spare());
        let mut tries = self.tries.subscribe();
        let _ = tries.wait_for(|tries| tries.begun > 0 && tries.ended >= tries.begun).await;
    }

    fn pick(&self, slot: usize) -> Result<Arc<Connection>, StoreError> {
        if self.open.load(Ordering::Relaxed) {
            return Err(StoreError::BreakerOpen);
        }
        let connection = self.any_live(slot).ok_or(StoreError::NotConnected)?;
        if connection.unanswered() >= MAX_IN_FLIGHT {
            return Err(StoreError::Busy);
        }
        Ok(connection)
    }

    fn any_live(&self, first: usize) -> Option<Arc<Connection>> {
        self.slots[first].live().or_else(|| self.slots.iter().find_map(Slot::live))
    }

    /// A live connection other than `not`, now or when one is made before `end`.
    async fn next_live(&self, slot: usize, not: Option<&Arc<Connection>>, end: Instant) -> Option<Arc<Connection>> {
        loop {
            let made = self.connected.notified();
            tokio::pin!(made);
            made.as_mut().enable();
            let found = self.any_live(slot).filter(|c| not.is_none_or(|not| !Arc::ptr_eq(c, not)));
            if found.is_some() {
                return found;
            }
            timeout_at(end, made).await.ok()?;
        }
    }

    async fn run<P: Borrow<Plan>>(
        &self,
        slot: usize,
        connection: Arc<Connection>,
        plans: &[P],
        waiting: u64,
        credits: Credits,
    ) -> Result<Vec<Replies>, StoreError> {
        let end = Instant::now() + self.deadline();
        let mut connection = connection;
        let mut command = by_hash(plans, credits);
        let load = Load { requests: waiting, plans: plans.len() as u64 };
        let (mut loading, mut rerouted) = (false, false);
        loop {
            let failure = match timeout_at(end, self.exchange(&connection, &command, load)).await {
                Ok(Ok(value)) => return self.read(&value, plans),
                Ok(Err(failure)) => failure,
                Err(_) => {
                    self.missed(&connection, waiting);
                    return Err(StoreError::Deadline);
                }
            };
            match failure {
                // Nothing was executed. `EVAL` loads the script and counts in one round trip.
                Failure::NoScript if !loading => {
                    loading = true;
                    command = with_source(plans, if rerouted { Credits::Withhold } else { credits });
                }
                // A debit may be sent twice (it can only cost more), a credit may not; the second try goes elsewhere.
                Failure::Broken(_) | Failure::NotWritable(_) if !rerouted => {
                    if matches!(failure, Failure::NotWritable(_)) {
                        self.counted.readonly_retries.inc();
                    }
                    self.condemn(&connection);
                    rerouted = true;
                    command = by_hash(plans, Credits::Withhold);
                    loading = false;
                    if self.open.load(Ordering::Relaxed) && matches!(failure, Failure::Broken(_)) {
                        return Err(failure.into());
                    }
                    connection = match self.next_live(slot, Some(&connection), end).await {
                        Some(other) => other,
                        None => return Err(failure.into()),
                    };
                }
                Failure::Broken(_) | Failure::NotWritable(_) | Failure::NotReady(_) => {
                    self.condemn(&connection);
                    return Err(failure.into());
                }
                Failure::NoPermission(message) => {
                    self.counted.permission_errors.inc();
                    self.report_permission(&message);
                    return Err(StoreError::NoPermission(message));
                }
                failure => return Err(failure.into()),
            }
        }
    }

    /// One command and its answer on this connection, without a deadline of its own.
    async fn exchange(&self, connection: &Connection, command: &Cmd, load: Load) -> Result<Value, Failure> {
        let waiting = connection.send(load);
        let answer = connection.handle().send_packed_command(command).await.and_then(Value::extract_error);
        let failure = match answer {
            Ok(value) => {
                self.answered(connection, waiting);
                return Ok(value);
            }
            Err(error) => Failure::of(&error),
        };
        if !matches!(failure, Failure::Broken(_)) {
            self.answered(connection, waiting);
        }
        Err(failure)
    }

    fn answered(&self, connection: &Connection, waiting: connection::Waiting<'_>) {
        connection.answered(waiting, micros(self.start.elapsed()));
        if self.open.load(Ordering::Relaxed) {
            self.close_breaker("redis answers again");
        }
    }

    fn read<P: Borrow<Plan>>(&self, value: &Value, plans: &[P]) -> Result<Vec<Replies>, StoreError> {
        let all = script::parse(value, plans)?;
        for (plan, replies) in plans.iter().zip(&all) {
            if plan.borrow().purpose != Purpose::Look {
                self.counted.corrupt.add_some(replies.corrupt);
                self.counted.clock_steps.add_some(replies.clock_steps);
            }
        }
        if self.has_problem.load(Ordering::Relaxed) {
            self.permitted();
        }
        Ok(all)
    }

    fn adopt(&self, settings: &Redis) {
        let deadline = settings.deadline.non_zero().or(settings.read_timeout.non_zero()).unwrap_or(LONG);
        self.deadline_us.store(micros(deadline), Ordering::Relaxed);
    }
}
