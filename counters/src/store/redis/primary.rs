//! One server that counts: its connections and its breaker.
//!
//! A few multiplexed connections, each with a supervisor of its own; calls are pipelined by the connection. A caller
//! prefers its own connection and takes any other that lives when that one is gone. Where the server is, somebody else
//! says ([`Target`]); doubts about that are told back.

mod backoff;
mod connection;
mod dialling;
mod health;
mod supervise;

use std::{
    borrow::Borrow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use redis::{Cmd, Pipeline, Value};
use smallvec::SmallVec;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    MAX_IN_FLIGHT,
    common::{Common, Seat},
    endpoint::Endpoint,
    failure::{Failure, Redirect},
    request::{Credits, by_hash, with_source},
    target::Target,
};
use crate::store::{
    StoreError,
    plan::{Plan, Purpose, Replies},
    script,
};
pub(super) use connection::Fate;
use connection::{Connection, Load, Waiting};
use dialling::Dialling;
use health::Problem;

/// Of a `PING` nobody's decision depends.
const PING: Load = Load { requests: 0, plans: 1 };

/// One server: its connections and its breaker. When the last holder is gone, the connections end.
pub(super) struct Primary {
    common: Arc<Common>,
    target: watch::Receiver<Target>,
    /// Somebody should look again where the server is.
    doubts: Arc<Notify>,
    slots: Box<[Slot]>,
    /// Read by every call, written when the store's fate turns: no cache line moves while it is healthy.
    open: AtomicBool,
    evicts: AtomicBool,
    has_problem: AtomicBool,
    problem: ArcSwapOption<Problem>,
    tries: watch::Sender<Tries>,
    /// A connection was made: calls that wait for one, and supervisors that are backing off, look again.
    connected: Notify,
    dialling: Dialling,
    stop: CancellationToken,
}

/// A primary and the end of its connections.
pub(super) struct Held {
    primary: Arc<Primary>,
    _stop: DropGuard,
}

impl std::ops::Deref for Held {
    type Target = Arc<Primary>;

    fn deref(&self) -> &Arc<Primary> {
        &self.primary
    }
}

/// How a call came to nothing.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// Another node of the cluster is to be asked. Nothing was executed by the one that said so; whether credits may still
    /// be given is said, too.
    Redirect(Redirect, Credits),
    Store(StoreError),
}

/// One call of the script.
pub(super) struct Call<'a, P> {
    pub(super) plans: &'a [P],
    /// Requests that wait for it.
    pub(super) waiting: u64,
    pub(super) credits: Credits,
    /// The slot is about to move here.
    pub(super) asking: bool,
    /// Until when it is waited for.
    pub(super) end: Instant,
}

/// First attempts to connect.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    begun: usize,
    ended: usize,
    /// One failed: the others wait for their turn, and for a while.
    failed: bool,
}

/// One place for a connection, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Slot {
    claimed: AtomicBool,
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
    /// With connections for the whole crew.
    pub(super) fn start(common: &Arc<Common>, target: watch::Receiver<Target>, doubts: Arc<Notify>) -> Held {
        let stop = CancellationToken::new();
        let primary = Arc::new(Primary {
            common: Arc::clone(common),
            target,
            doubts,
            slots: (0..common.slots()).map(|_| Slot::default()).collect(),
            open: AtomicBool::new(false),
            evicts: AtomicBool::new(false),
            has_problem: AtomicBool::new(false),
            problem: ArcSwapOption::empty(),
            tries: watch::Sender::default(),
            connected: Notify::new(),
            dialling: Dialling::default(),
            stop: stop.clone(),
        });
        for (seat, runtime) in common.crew.all() {
            primary.ensure(seat, &runtime);
        }
        Held { primary, _stop: stop.drop_guard() }
    }

    /// Starts the supervisor of a seat's slot, unless it has one.
    pub(super) fn ensure(self: &Arc<Self>, seat: Seat, runtime: &Handle) {
        let slot = self.common.slot_of(seat);
        if self.slots[slot].claimed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.tries.send_modify(|tries| tries.begun += 1);
        runtime.spawn(supervise::supervise(supervise::Leave::new(self, slot)));
    }

    /// Would a call be sent now? An error is the answer at once.
    pub(super) fn usable(&self, seat: Seat) -> Result<(), StoreError> {
        if self.open.load(Ordering::Relaxed) {
            return Err(StoreError::BreakerOpen);
        }
        match self.slots[self.common.slot_of(seat)].is_live() || self.slots.iter().any(Slot::is_live) {
            true => Ok(()),
            false => Err(StoreError::NotConnected),
        }
    }

    /// Sends the plans as one call; one answer per plan, until its end. A call that is dropped may still be executed: it may
    /// cost tokens, never adds any.
    pub(super) async fn send<P: Borrow<Plan>>(
        &self,
        seat: Seat,
        call: &Call<'_, P>,
    ) -> Result<SmallVec<[Replies; 1]>, CallError> {
        let slot = self.common.slot_of(seat);
        let connection = self.pick(slot, call.plans.len() as u64).map_err(CallError::Store)?;
        self.common.counted.redis_calls.inc();
        let replies = self.run(slot, connection, call).await;
        if let Err(CallError::Store(error)) = &replies
            && error.was_asked()
        {
            self.common.counted.redis_errors.inc();
        }
        replies
    }

    /// An answer of any kind to a command, on any connection, until then.
    pub(super) async fn ask(&self, command: &Cmd, end: Instant) -> Option<Result<Value, Failure>> {
        let connection = match self.any_live(self.spare()) {
            Some(connection) => connection,
            None => {
                self.dialling.now();
                self.next_live(self.spare(), None, end).await?
            }
        };
        timeout_at(end, self.exchange(&connection, command, PING, false)).await.ok()
    }

    /// The same on a connection to that very server, if there is one.
    pub(super) async fn ask_at(
        &self,
        endpoint: &Endpoint,
        command: &Cmd,
        end: Instant,
    ) -> Option<Result<Value, Failure>> {
        let mut live = self.slots.iter().rev().filter_map(Slot::live);
        let connection = live.find(|connection| connection.endpoint() == endpoint)?;
        timeout_at(end, self.exchange(&connection, command, PING, false)).await.ok()
    }

    /// Waits for a connection.
    pub(super) async fn connected(&self, end: Instant) -> bool {
        self.next_live(self.spare(), None, end).await.is_some()
    }

    /// Waits for a connection, for ever.
    pub(super) async fn ready(&self) {
        loop {
            let made = self.connected.notified();
            tokio::pin!(made);
            made.as_mut().enable();
            if self.is_connected() {
                return;
            }
            made.await;
        }
    }

    /// There is news that it should be there: those who wait for their turn to connect do so now.
    pub(super) fn try_now(&self) {
        self.dialling.now();
    }

    /// Has a connection that lives.
    pub(super) fn is_connected(&self) -> bool {
        self.slots.iter().any(Slot::is_live)
    }

    /// `PING` answered until then, on any connection.
    pub(super) async fn ping(&self, end: Instant) -> bool {
        let mut ping = Cmd::new();
        ping.arg("PING");
        // An ACL that forbids `PING` is an answer too.
        matches!(self.ask(&ping, end).await, Some(Ok(_) | Err(Failure::NoPermission(_))))
    }

    /// Waits until every connection that is wanted so far was made, or one could not be.
    pub(super) async fn tried(&self) {
        let mut tries = self.tries.subscribe();
        let _ = tries.wait_for(|tries| tries.failed || tries.begun > 0 && tries.ended >= tries.begun).await;
    }

    fn spare(&self) -> usize {
        self.common.slot_of(Seat::Spare)
    }

    fn pick(&self, slot: usize, plans: u64) -> Result<Arc<Connection>, StoreError> {
        if self.open.load(Ordering::Relaxed) {
            return Err(StoreError::BreakerOpen);
        }
        let connection = self.any_live(slot).ok_or(StoreError::NotConnected)?;
        if connection.unanswered() + plans > MAX_IN_FLIGHT {
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
        call: &Call<'_, P>,
    ) -> Result<SmallVec<[Replies; 1]>, CallError> {
        let Call { plans, waiting, mut credits, asking, end } = *call;
        let mut connection = connection;
        let mut command = by_hash(plans, credits);
        let load = Load { requests: waiting, plans: plans.len() as u64 };
        let (mut loading, mut rerouted) = (false, false);
        loop {
            let failure = match timeout_at(end, self.exchange(&connection, &command, load, asking)).await {
                Ok(Ok(value)) => {
                    return self.read(&value, plans).map_err(|error| {
                        // Nobody knows what it answers to, now and from now on.
                        self.condemn(&connection);
                        CallError::Store(error)
                    });
                }
                Ok(Err(failure)) => failure,
                Err(_) => {
                    self.missed(&connection, waiting);
                    return Err(CallError::Store(StoreError::Deadline));
                }
            };
            match failure {
                // Nothing was executed. `EVAL` loads the script and counts in one round trip.
                Failure::NoScript if !loading => {
                    loading = true;
                    command = with_source(plans, credits);
                }
                // A debit may be sent twice (it can only cost more), a credit may not; the second try goes elsewhere.
                Failure::Broken(_) | Failure::NotWritable(_)
                    if !rerouted && (matches!(failure, Failure::NotWritable(_)) || plans.iter().all(may_repeat)) =>
                {
                    if matches!(failure, Failure::NotWritable(_)) {
                        self.common.counted.readonly_retries.inc();
                    }
                    self.condemn(&connection);
                    rerouted = true;
                    credits = Credits::Withhold;
                    command = by_hash(plans, credits);
                    loading = false;
                    if self.open.load(Ordering::Relaxed) && matches!(failure, Failure::Broken(_)) {
                        return Err(CallError::Store(failure.into()));
                    }
                    connection = match self.next_live(slot, Some(&connection), end).await {
                        Some(other) => other,
                        None => return Err(CallError::Store(failure.into())),
                    };
                }
                Failure::Broken(_) | Failure::NotWritable(_) | Failure::NotReady(_) => {
                    self.condemn(&connection);
                    return Err(CallError::Store(failure.into()));
                }
                Failure::NoPermission(message) => {
                    self.common.counted.permission_errors.inc();
                    self.report(Problem::rule(&message));
                    return Err(CallError::Store(StoreError::NoPermission(message)));
                }
                Failure::Unable(message) => {
                    self.report(Problem::unable(&message));
                    self.doubts.notify_one();
                    return Err(CallError::Store(StoreError::NotWritable(message)));
                }
                Failure::Elsewhere(redirect) => return Err(CallError::Redirect(redirect, credits)),
                failure => return Err(CallError::Store(failure.into())),
            }
        }
    }

    /// One command and its answer on this connection, without a deadline of its own.
    async fn exchange(
        &self,
        connection: &Connection,
        command: &Cmd,
        load: Load,
        asking: bool,
    ) -> Result<Value, Failure> {
        let waiting = connection.send(load, || self.common.now_us());
        let mut handle = connection.handle();
        let answer = if asking {
            let mut both = Pipeline::with_capacity(2);
            both.cmd("ASKING").add_command(command.clone());
            let answers = handle.send_packed_commands(&both, 1, 1).await;
            answers.map(|mut answers| answers.pop().unwrap_or(Value::Nil))
        } else {
            handle.send_packed_command(command).await
        };
        let failure = match answer.and_then(Value::extract_error) {
            Ok(value) => {
                self.answered(connection, waiting);
                return Ok(value);
            }
            Err(error) => Failure::of(&error, &connection.endpoint().host),
        };
        if !matches!(failure, Failure::Broken(_)) {
            self.answered(connection, waiting);
        }
        Err(failure)
    }

    fn answered(&self, connection: &Connection, waiting: Waiting<'_>) {
        connection.answered(waiting, self.common.now_us());
        if self.open.load(Ordering::Relaxed) {
            self.close_breaker("redis answers again");
        }
    }

    fn read<P: Borrow<Plan>>(&self, value: &Value, plans: &[P]) -> Result<SmallVec<[Replies; 1]>, StoreError> {
        let all = script::parse(value, plans)?;
        for (plan, replies) in plans.iter().zip(&all) {
            if plan.borrow().purpose != Purpose::Look {
                self.common.counted.corrupt.add_some(replies.corrupt);
                self.common.counted.clock_steps.add_some(replies.clock_steps);
            }
        }
        if self.has_problem.load(Ordering::Relaxed) {
            self.counted_well(all.iter().any(|replies| replies.granted > 0));
        }
        Ok(all)
    }
}

/// Executed twice, it costs tokens at most. What an administrator adds would be there twice.
fn may_repeat<P: Borrow<Plan>>(plan: &P) -> bool {
    !matches!(plan.borrow().purpose, Purpose::Add(_))
}
