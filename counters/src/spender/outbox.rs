//! Batching: what a worker has to say to the store in one turn of its loop goes out together.

use std::{collections::VecDeque, rc::Rc};

use super::{lines::LineId, waiters::WaiterId};
use crate::store::Plan;

/// Something that is to be sent with the next turn.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Those who stand in a line.
    Line(LineId),
    /// Settle, and renew, what is leased of a counter.
    Lease(Box<str>),
    /// Tokens that nobody took.
    Refund(Box<Plan>),
}

/// Errands, first in, first out. Each line and each leased counter stands in it once, each refund is of a request: so it
/// is bounded by what waits and what is held.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    errands: VecDeque<Errand>,
}

impl Outbox {
    /// True: it was empty, somebody has to be told.
    pub(crate) fn push(&mut self, errand: Errand) -> bool {
        self.errands.push_back(errand);
        self.errands.len() == 1
    }

    pub(crate) fn pop(&mut self) -> Option<Errand> {
        self.errands.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.errands.is_empty()
    }
}

/// One plan on its way, and whom its answer is for.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) plan: Rc<Plan>,
    pub(crate) for_whom: ForWhom,
}

#[derive(Debug)]
pub(crate) enum ForWhom {
    /// Requests of a line, in their order.
    Line {
        id: LineId,
        leased: bool,
        waiters: VecDeque<WaiterId>,
    },
    /// The leases of its one counter.
    Leases,
    Nobody,
}

/// Plans that go as one call.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) parcels: Vec<Parcel>,
    pub(crate) counters: usize,
    /// Requests that wait for it.
    pub(crate) waiting: u64,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// Has no room for a plan of so many counters, when `most` go in a call. An empty one has room for any.
    pub(crate) fn is_full(&self, counters: usize, most: usize) -> bool {
        !self.is_empty() && self.counters + counters > most
    }

    pub(crate) fn push(&mut self, parcel: Parcel) {
        self.counters += parcel.plan.len();
        if let ForWhom::Line { waiters, .. } = &parcel.for_whom {
            self.waiting += waiters.len() as u64;
        }
        self.parcels.push(parcel);
    }
}
