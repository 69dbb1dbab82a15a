//! Requests that wait for a call, each until its own deadline.

use std::{collections::VecDeque, rc::Rc, task::Waker};

use slab::Slab;
use tokio::time::Instant;

use crate::store::{Credit, Plan, Replies, StoreError};

/// How a request's waiting ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It may pass, or may not.
    Answered(Share),
    /// No answer in time, or none at all.
    Failed(StoreError),
    /// A lease that came with somebody else's call has room: decide again.
    Again,
}

/// One request's share of an answer to many.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) plan: Rc<Plan>,
    pub(crate) replies: Rc<Replies>,
    /// Its place among those that were granted; `None`: it was refused.
    pub(crate) place: Option<u64>,
}

impl Share {
    /// What it would have been told had its turn been a call of its own.
    pub(crate) fn as_if_alone(&self) -> Replies {
        let mut alone = (*self.replies).clone();
        let before = self.place.unwrap_or(alone.granted);
        for (reply, (_, counter)) in alone.counters.iter_mut().zip(self.plan.iter()) {
            // Those behind it took their tokens after it.
            let taken = alone.granted.min(reply.room);
            let behind = if self.place.is_some() { taken.saturating_sub(before + 1) } else { 0 };
            reply.tokens += behind * counter.cost;
            if behind > 0 {
                reply.retry_us = 0;
            }
            reply.room = u64::from(reply.room > before);
        }
        alone.granted = u64::from(self.place.is_some());
        alone
    }

    /// Gives back what it took, for the request at that place is gone.
    pub(crate) fn refund(&self, place: u64) -> Plan {
        let mut plan = self.plan.nothing();
        for (i, (reply, (_, counter))) in self.replies.counters.iter().zip(self.plan.iter()).enumerate() {
            if place < self.replies.granted.min(reply.room) {
                plan.give_back(i, Credit::Refund { tokens: counter.cost, taken_us: reply.now_us });
            }
        }
        plan
    }
}

/// Names a waiting request. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaiterId {
    place: usize,
    serial: u64,
}

#[derive(Debug)]
struct Waiter {
    serial: u64,
    waker: Option<Waker>,
    outcome: Option<Outcome>,
}

/// All that wait in one worker, in the order of their arrival, which is that of their deadlines too.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    slots: Slab<Waiter>,
    deadlines: VecDeque<(Instant, WaiterId)>,
    serial: u64,
}

impl Waiters {
    pub(crate) fn enter(&mut self, deadline: Instant) -> WaiterId {
        self.serial += 1;
        let serial = self.serial;
        let id = WaiterId { place: self.slots.insert(Waiter { serial, waker: None, outcome: None }), serial };
        while self.deadlines.front().is_some_and(|(_, oldest)| !self.waits(*oldest)) {
            self.deadlines.pop_front();
        }
        self.deadlines.push_back((deadline, id));
        id
    }

    /// Neither answered nor gone.
    pub(crate) fn waits(&self, id: WaiterId) -> bool {
        self.get(id).is_some_and(|waiter| waiter.outcome.is_none())
    }

    /// Answers it, if it still waits; its task is woken.
    pub(crate) fn answer(&mut self, id: WaiterId, outcome: Outcome) {
        let waiter = self.slots.get_mut(id.place).filter(|waiter| waiter.serial == id.serial);
        if let Some(waiter) = waiter
            && waiter.outcome.is_none()
        {
            waiter.outcome = Some(outcome);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
    }

    /// The outcome, once: then it is gone. `None`: `waker` is woken when there is one.
    pub(crate) fn poll(&mut self, id: WaiterId, waker: &Waker) -> Option<Outcome> {
        let waiter = self.slots.get_mut(id.place).filter(|waiter| waiter.serial == id.serial)?;
        if waiter.outcome.is_some() {
            return self.leave(id);
        }
        if waiter.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            waiter.waker = Some(waker.clone());
        }
        None
    }

    /// It waits no more; an outcome that it did not take is handed back.
    pub(crate) fn leave(&mut self, id: WaiterId) -> Option<Outcome> {
        self.get(id)?;
        let left = self.slots.remove(id.place);
        if self.slots.is_empty() && self.slots.capacity() > 1024 {
            self.slots = Slab::new();
        }
        left.outcome
    }

    /// Until when the oldest waits.
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((deadline, id)) = self.deadlines.front() {
            if self.waits(*id) {
                return Some(*deadline);
            }
            self.deadlines.pop_front();
        }
        self.deadlines.shrink_to(64);
        None
    }

    /// Those whose deadline has passed get no answer any more. True: there were some.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let mut some = false;
        while let Some(deadline) = self.next_deadline() {
            let Some((_, id)) = self.deadlines.front().copied().filter(|_| deadline <= now) else { break };
            self.deadlines.pop_front();
            self.answer(id, Outcome::Failed(StoreError::Deadline));
            some = true;
        }
        some
    }

    fn get(&self, id: WaiterId) -> Option<&Waiter> {
        self.slots.get(id.place).filter(|waiter| waiter.serial == id.serial)
    }
}
