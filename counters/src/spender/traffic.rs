//! Calls on their way to the store and back.

use std::{borrow::Borrow, collections::VecDeque, rc::Rc};

use tokio::time::Instant;

use super::{
    Core, State,
    outbox::{Batch, Errand, ForWhom, Parcel},
    patience,
    waiters::{Outcome, Share, WaiterId},
};
use crate::{
    counters::Store,
    store::{Counter, Plan, Purpose, Replies, StoreError, redis::Credits},
};

impl Borrow<Plan> for Parcel {
    fn borrow(&self) -> &Plan {
        &self.plan
    }
}

impl Core {
    /// Sends whatever the tasks of one turn of the loop have posted: this task is woken by the first of them and runs after
    /// all that were ready by then.
    pub(super) async fn send_all(self: Rc<Self>) {
        loop {
            self.ready.notified().await;
            self.flush();
        }
    }

    fn flush(self: &Rc<Self>) {
        let sent = Instant::now();
        let Store::Redis(redis, _) = &self.shared.store else { return };
        let most = redis.counters_per_call();
        let state = &mut *self.state.borrow_mut();
        let mut batch = Batch::default();
        while let Some(errand) = state.outbox.pop() {
            let Some(parcel) = self.pack(state, errand, sent) else { continue };
            if batch.is_full(parcel.plan.len(), most) {
                self.dispatch(std::mem::take(&mut batch), sent);
            }
            batch.push(parcel);
        }
        if !batch.is_empty() {
            self.dispatch(batch, sent);
        }
    }

    fn dispatch(self: &Rc<Self>, batch: Batch, sent: Instant) {
        self.calls.set(self.calls.get() + 1);
        let core = Rc::clone(self);
        tokio::task::spawn_local(async move {
            core.exchange(batch, sent).await;
            core.calls.set(core.calls.get() - 1);
            core.arrived.notify_waiters();
        });
    }

    async fn exchange(&self, batch: Batch, sent: Instant) {
        let Store::Redis(redis, _) = &self.shared.store else { return };
        let answer = redis.send(self.seat, &batch.parcels, batch.waiting, Credits::Give).await;
        let alone = batch.parcels.len() > 1 && answer.as_ref().is_err_and(StoreError::may_be_of_one_plan);
        let parcels = batch.parcels.into_iter();
        match answer {
            Ok(replies) => {
                for (parcel, replies) in parcels.zip(replies) {
                    self.answered(parcel, replies, sent);
                }
            }
            // One bad key must not fail the others. Debits may be sent twice, credits may not.
            Err(_) if alone => {
                for parcel in parcels {
                    let parcel = [parcel];
                    let waiting = u64::from(matches!(parcel[0].for_whom, ForWhom::Line { .. }));
                    let answer = redis.send(self.seat, &parcel, waiting, Credits::Withhold).await;
                    let [parcel] = parcel;
                    match answer.map(|mut replies| replies.pop()) {
                        Ok(Some(replies)) => self.answered(parcel, replies, sent),
                        Ok(None) => self.failed(parcel, &StoreError::BadReply),
                        Err(error) => self.failed(parcel, &error),
                    }
                }
            }
            Err(error) => parcels.for_each(|parcel| self.failed(parcel, &error)),
        }
    }

    /// `None`: there is nothing to send any more.
    fn pack(&self, state: &mut State, errand: Errand, now: Instant) -> Option<Parcel> {
        match errand {
            Errand::Refund(plan) => Some(Parcel { plan: Rc::from(plan), for_whom: ForWhom::Nobody }),
            Errand::Lease(key) => {
                let mut plan = Plan::new(Purpose::Spend, String::new());
                plan.n = 0;
                let counter = state.leases.counter(&key)?;
                plan.push(counter, |out| out.push_str(&key));
                let something = self.lease(state, &mut plan, now);
                something.then(|| Parcel { plan: Rc::new(plan), for_whom: ForWhom::Leases })
            }
            Errand::Line(id) => {
                let mut waiters = state.lines.depart(id, now);
                waiters.retain(|waiter| state.waiters.waits(*waiter));
                let line = state.lines.get_mut(id)?;
                if waiters.is_empty() {
                    self.go_on(state, id, now);
                    return None;
                }
                line.call_begun();
                let leased = line.leased;
                let mut plan = Rc::clone(&line.plan);
                let n = waiters.len() as u64;
                if leased || n > 1 {
                    let mut many = (*plan).clone();
                    many.n = n;
                    if leased {
                        self.lease(state, &mut many, now);
                    }
                    plan = Rc::new(many);
                }
                Some(Parcel { plan, for_whom: ForWhom::Line { id, leased, waiters } })
            }
        }
    }

    /// Puts on the plan what is to be said of leases. False: nothing.
    fn lease(&self, state: &mut State, plan: &mut Plan, now: Instant) -> bool {
        let workers = self.shared.fleet.workers();
        let mut something = false;
        for i in 0..plan.len() {
            let Some((key, _)) = plan.iter().nth(i) else { break };
            let Some((credits, want)) = state.leases.call(key, workers, !self.closing.get(), now) else { continue };
            something |= want > 0 || !credits.is_empty();
            for credit in credits {
                plan.give_back(i, credit);
            }
            plan.lease(i, want);
        }
        something
    }

    fn answered(&self, parcel: Parcel, replies: Replies, sent: Instant) {
        let now = Instant::now();
        let state = &mut *self.state.borrow_mut();
        let Parcel { plan, for_whom } = parcel;
        let leases = matches!(for_whom, ForWhom::Leases | ForWhom::Line { leased: true, .. });
        for ((key, counter), reply) in plan.iter().zip(&replies.counters) {
            if leases {
                state.leases.answered(key, reply, sent, now);
            }
            if counter.enforce {
                state.denied.learn(key, counter, reply, sent, now);
            }
        }
        if let ForWhom::Line { id, leased, waiters } = for_whom {
            self.share_out(state, &plan, replies, waiters);
            if let Some(line) = state.lines.get_mut(id) {
                line.call_ended();
            }
            self.serve_at_once(state, id, leased, now);
            self.go_on(state, id, now);
        }
    }

    /// First come, first served. What was granted to those who are gone goes to those who came later, else back.
    fn share_out(&self, state: &mut State, plan: &Rc<Plan>, replies: Replies, waiters: VecDeque<WaiterId>) {
        let replies = Rc::new(replies);
        let share = |place| Share { plan: Rc::clone(plan), replies: Rc::clone(&replies), place };
        let mut granted = 0;
        for waiter in waiters {
            if !state.waiters.waits(waiter) {
                continue;
            }
            let place = (granted < replies.granted).then_some(granted);
            granted += u64::from(place.is_some());
            state.waiters.answer(waiter, Outcome::Answered(share(place)));
        }
        for place in granted..replies.granted {
            self.pass_on(state, share(Some(place)));
        }
    }

    /// Those who came while the call was under way: its answer may serve or refuse them without another one.
    fn serve_at_once(&self, state: &mut State, id: usize, leased: bool, now: Instant) {
        let State { denied, leases, lines, waiters, .. } = state;
        let Some(line) = lines.get_mut(id) else { return };
        let plan = Rc::clone(&line.plan);
        let refused = |(key, counter): (&str, &Counter)| counter.enforce && denied.refusal(key, counter, now).is_some();
        let covered = if leased { plan.iter().map(|(key, c)| leases.room(key, c, now)).min().unwrap_or(0) } else { 0 };
        let many = if plan.iter().any(refused) { u64::MAX } else { covered };
        for _ in 0..many {
            let Some(waiter) = lines.next(id) else { return };
            waiters.answer(waiter, Outcome::Again);
        }
    }

    fn failed(&self, parcel: Parcel, error: &StoreError) {
        let now = Instant::now();
        let state = &mut *self.state.borrow_mut();
        let Parcel { plan, for_whom } = parcel;
        if matches!(for_whom, ForWhom::Leases | ForWhom::Line { leased: true, .. }) {
            for (key, _) in plan.iter() {
                state.leases.unanswered(key, now);
            }
        }
        if let ForWhom::Line { id, waiters, .. } = for_whom {
            for waiter in waiters {
                state.waiters.answer(waiter, Outcome::Failed(error.clone()));
            }
            if let Some(line) = state.lines.get_mut(id) {
                line.call_ended();
            }
            self.go_on(state, id, now);
        }
    }

    fn go_on(&self, state: &mut State, id: usize, now: Instant) {
        let Store::Redis(redis, _) = &self.shared.store else { return };
        if state.lines.goes_on(id, now, patience(redis)) {
            self.post(state, Errand::Line(id));
        }
    }
}
