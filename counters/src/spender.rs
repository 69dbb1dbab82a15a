//! One worker's deciding: what it knows, what it holds, and what it asks the store.
//!
//! A request goes down this list until something decides it: tokens that are leased here (`leases`), a refusal that still
//! holds (`denied`), a call for its plan that it can join (`lines`), a call of its own, which goes out with all others of
//! this turn of the worker's loop (`outbox`). Nothing here is shared with other threads.

mod denied;
mod leases;
mod lines;
mod outbox;
mod traffic;
mod waiters;

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use edgequota_policy::limit::Accuracy;
use smallvec::SmallVec;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    changes::Seen,
    counters::{Shared, Store},
    decision::{Ask, Decision},
    plans,
    store::{
        Counter, CounterReply, Plan, Purpose, Replies, StoreError,
        redis::{Redis, Seat},
    },
};
use denied::Denied;
use leases::Leases;
use lines::Lines;
use outbox::{Errand, Outbox};
use waiters::{Outcome, Share, WaiterId, Waiters};

/// Decides for one worker. Lives on that worker's thread, inside a `LocalSet`.
///
/// When it is dropped nothing is sent any more; [`Spender::close`] gives back before.
pub struct Spender {
    core: Rc<Core>,
    tasks: [Option<JoinHandle<()>>; 2],
}

/// What the spender's tasks share.
struct Core {
    shared: Arc<Shared>,
    seat: Seat,
    state: RefCell<State>,
    seen: RefCell<Seen>,
    /// The outbox has something.
    ready: Notify,
    /// A deadline or a lease has to be looked after, and none had to before.
    timed: Notify,
    /// No lease is asked for any more.
    closing: Cell<bool>,
    /// Calls on their way.
    calls: Cell<usize>,
    /// One of them ended.
    arrived: Notify,
}

struct State {
    denied: Denied,
    leases: Leases,
    lines: Lines,
    waiters: Waiters,
    outbox: Outbox,
    /// The timekeeper sleeps until then; nothing: until it is woken.
    timekeeper: Option<Instant>,
}

/// Counters that are known to refuse, by their index in the plan.
type Refusals = SmallVec<[(usize, CounterReply); 1]>;

/// How far a request came without waiting.
enum Begun {
    /// Nothing is counted.
    Free,
    /// By a lease.
    Leased(Replies),
    /// By the denied cache.
    Denied(Refusals),
    /// The store cannot be asked.
    Failed(StoreError),
    /// It stands in a line.
    Waits(WaiterId),
}

impl fmt::Debug for Spender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spender").field("seat", &self.core.seat).finish_non_exhaustive()
    }
}

impl Drop for Spender {
    fn drop(&mut self) {
        for task in self.tasks.iter().flatten() {
            task.abort();
        }
    }
}

impl Spender {
    pub(crate) fn new(shared: Arc<Shared>, seat: Seat) -> Spender {
        let counts_in_redis = matches!(shared.store, Store::Redis(..));
        let core = Rc::new(Core {
            seen: RefCell::new(shared.changes.seen()),
            shared,
            seat,
            state: RefCell::new(State {
                denied: Denied::new(denied::MOST),
                leases: Leases::new(leases::MOST),
                lines: Lines::default(),
                waiters: Waiters::default(),
                outbox: Outbox::default(),
                timekeeper: None,
            }),
            ready: Notify::new(),
            timed: Notify::new(),
            closing: Cell::new(false),
            calls: Cell::new(0),
            arrived: Notify::new(),
        });
        let tasks = if counts_in_redis {
            let (sends, keeps_time) = (Rc::clone(&core), Rc::clone(&core));
            [
                Some(tokio::task::spawn_local(async move { sends.send_all().await })),
                Some(tokio::task::spawn_local(async move { keeps_time.keep_time().await })),
            ]
        } else {
            [None, None]
        };
        Spender { core, tasks }
    }

    /// Spends the cost of each limit, or of none. Answers within `redis.deadline` plus a little, whatever the store does.
    /// Cancel safe: what a dropped request was granted goes to the next one, or back.
    pub async fn spend(&self, asks: &[Ask]) -> Decision {
        let core = &self.core;
        if let Some(decision) = crate::decision::without_counting(asks) {
            return decision;
        }
        let redis = match &core.shared.store {
            Store::Embedded(store) => {
                let replies = plans::with_plan(asks, Purpose::Spend, plans::counted, |plan| store.call(plan));
                return plans::decided(asks, &replies);
            }
            Store::Redis(redis, _) => redis,
        };
        let mut deadline = None;
        loop {
            let begin = |plan: &Plan| core.begin(asks, plan, redis, &mut deadline);
            let begun = plans::with_plan(asks, Purpose::Spend, plans::counted, begin);
            let id = match begun {
                Begun::Free => return plans::decided(asks, &Replies::default()),
                Begun::Leased(replies) => {
                    core.shared.counted.by_lease.inc();
                    return plans::decided(asks, &replies);
                }
                Begun::Denied(refusals) => {
                    core.shared.counted.by_denied_cache.inc();
                    return plans::refused(asks, &refusals);
                }
                Begun::Failed(error) => return core.by_failure_policy(asks, &error),
                Begun::Waits(id) => id,
            };
            match core.wait(id).await {
                Outcome::Answered(share) => return plans::decided(asks, &share.as_if_alone()),
                Outcome::Failed(error) => return core.by_failure_policy(asks, &error),
                Outcome::Again => {}
            }
        }
    }

    /// Once a second: forgets what is over.
    pub fn tick(&self) {
        self.core.state.borrow_mut().denied.sweep(Instant::now());
    }

    /// Gives back what is leased and waits until it has arrived, at most `redis.deadline`. From then on every decision is
    /// the store's.
    pub async fn close(&self) {
        self.core.close().await;
    }
}

impl Core {
    /// Everything that can be decided at once is, in one borrow of the state.
    fn begin(&self, asks: &[Ask], plan: &Plan, redis: &Redis, deadline: &mut Option<Instant>) -> Begun {
        if plan.is_empty() {
            return Begun::Free;
        }
        let now = Instant::now();
        let state = &mut *self.state.borrow_mut();
        self.heed_changes(&mut state.denied);
        let leased = !self.closing.get() && asks.iter().all(|ask| ask.limit.accuracy == Accuracy::Leased);
        if leased && let Some(replies) = self.by_lease(state, plan, now) {
            return Begun::Leased(replies);
        }
        if let Err(error) = redis.usable(self.seat, plan) {
            // The failure policies decide, and nobody knows what the store will have kept when it is back.
            plan.iter().for_each(|(key, _)| state.denied.forget(key));
            return Begun::Failed(error);
        }
        let refusal = |(index, (key, counter)): (usize, (&str, &Counter))| {
            let reply = if counter.enforce { state.denied.refusal(key, counter, now) } else { None };
            reply.map(|reply| (index, reply))
        };
        let refusals: Refusals = plan.iter().enumerate().filter_map(refusal).collect();
        if !refusals.is_empty() {
            return Begun::Denied(refusals);
        }
        if leased {
            for (key, counter) in plan.iter() {
                state.leases.note(key, counter, now);
            }
        }
        // From its arrival, also when it has to wait a second time.
        let deadline = *deadline.get_or_insert_with(|| now + redis.deadline());
        let id = state.waiters.enter(deadline);
        let (line, goes) = state.lines.join(plan, leased, id, now, patience(redis));
        if goes {
            self.post(state, Errand::Line(line));
        }
        self.time_matters(state, if goes { deadline } else { now + patience(redis) });
        Begun::Waits(id)
    }

    /// Every counter of the plan must be leased: what is asked of the store for one is asked for all.
    fn by_lease(&self, state: &mut State, plan: &Plan, now: Instant) -> Option<Replies> {
        if state.leases.is_empty() || !plan.iter().all(|(key, counter)| state.leases.covers(key, counter, now)) {
            return None;
        }
        let mut replies = Replies { granted: 1, ..Replies::default() };
        for (key, counter) in plan.iter() {
            let (estimate, more) = state.leases.spend(key, counter, now)?;
            if more {
                self.post(state, Errand::Lease(key.into()));
            }
            replies.counters.push(CounterReply {
                room: 1,
                tokens: estimate.tokens,
                reset_us: estimate.reset_us,
                ..Default::default()
            });
        }
        Some(replies)
    }

    /// Counters that were changed from outside are asked for again.
    fn heed_changes(&self, denied: &mut Denied) {
        let changes = &self.shared.changes;
        let mut seen = self.seen.borrow_mut();
        if changes.are_news_to(&seen) && !changes.since(&mut seen, |key| denied.forget(key)) {
            denied.forget_all();
        }
    }

    fn post(&self, state: &mut State, errand: Errand) {
        if state.outbox.push(errand) {
            self.ready.notify_one();
        }
    }

    /// Wakes the timekeeper when it would sleep for longer.
    fn time_matters(&self, state: &mut State, at: Instant) {
        if state.timekeeper.is_none_or(|until| at < until) {
            state.timekeeper = Some(at);
            self.timed.notify_one();
        }
    }

    async fn wait(&self, id: WaiterId) -> Outcome {
        let _leave = Leave { core: self, id };
        poll_fn(|cx| match self.state.borrow_mut().waiters.poll(id, cx.waker()) {
            Some(outcome) => std::task::Poll::Ready(outcome),
            None => std::task::Poll::Pending,
        })
        .await
    }

    fn by_failure_policy(&self, asks: &[Ask], error: &StoreError) -> Decision {
        tracing::debug!(%error, "decided by failure policy");
        self.shared.counted.fallback_used.inc();
        self.shared.failover.decide(asks, Purpose::Spend, self.shared.fleet.get())
    }

    /// What a request was granted that is no longer there goes to the next in its line, else back to the store.
    fn pass_on(&self, state: &mut State, share: Share) {
        let Some(place) = share.place else { return };
        if let Some(line) = state.lines.of(&share.plan) {
            while let Some(next) = state.lines.next(line) {
                if state.waiters.waits(next) {
                    return state.waiters.answer(next, Outcome::Answered(share));
                }
            }
        }
        let refund = share.refund(place);
        self.post(state, Errand::Refund(Box::new(refund)));
    }

    /// Looks after deadlines, calls that take long, and leases.
    async fn keep_time(&self) {
        let Store::Redis(redis, _) = &self.shared.store else { return };
        loop {
            let next = {
                let state = &mut *self.state.borrow_mut();
                let lease = (!state.leases.is_empty()).then(|| Instant::now() + leases::LOOK_EVERY);
                let next =
                    state.waiters.next_deadline().into_iter().chain(state.lines.next_overdue()).chain(lease).min();
                state.timekeeper = next;
                next
            };
            let sleep = async {
                match next {
                    None => std::future::pending().await,
                    Some(at) => sleep_until(at).await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.timed.notified() => {}
            }
            let now = Instant::now();
            let state = &mut *self.state.borrow_mut();
            if state.waiters.expire(now) {
                redis.expired(self.seat);
            }
            while let Some(line) = state.lines.overdue(now) {
                self.post(state, Errand::Line(line));
            }
            self.look_after_leases(state, now, false);
        }
    }

    fn look_after_leases(&self, state: &mut State, now: Instant, all: bool) {
        let State { leases, outbox, .. } = state;
        let mut first = false;
        leases.look(now, all, |key| first |= outbox.push(Errand::Lease(key.into())));
        if first {
            self.ready.notify_one();
        }
    }

    async fn close(&self) {
        let Store::Redis(redis, _) = &self.shared.store else { return };
        self.closing.set(true);
        let end = Instant::now() + redis.deadline();
        loop {
            // Again with each answer: a call that was under way may have brought another grant.
            self.look_after_leases(&mut self.state.borrow_mut(), Instant::now(), true);
            let arrived = self.arrived.notified();
            let done = self.calls.get() == 0 && self.state.borrow().outbox.is_empty();
            if done || tokio::time::timeout_at(end, arrived).await.is_err() {
                return;
            }
        }
    }
}

/// Takes a request out of the line, however its waiting ends.
struct Leave<'a> {
    core: &'a Core,
    id: WaiterId,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let state = &mut *self.core.state.borrow_mut();
        if let Some(Outcome::Answered(share)) = state.waiters.leave(self.id) {
            self.core.pass_on(state, share);
        }
    }
}

/// A second call for a plan may start when the first is older.
fn patience(redis: &Redis) -> Duration {
    redis.deadline() / 4
}
