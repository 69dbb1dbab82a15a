//! Coalescing: requests of one plan stand in one line, first in, first out, and go as one call.
//!
//! While a call for the plan is under way, later requests wait for its answer and then go together. When the call is
//! older than a quarter of the deadline, a second one may start beside it.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hash, Hasher},
    rc::Rc,
    time::Duration,
};

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;
use tokio::time::Instant;

use super::waiters::WaiterId;
use crate::store::Plan;

pub(crate) type LineId = usize;

/// Requests of one plan.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) plan: Rc<Plan>,
    /// All limits of it may be leased.
    pub(crate) leased: bool,
    /// Not sent yet.
    waiting: VecDeque<WaiterId>,
    /// It is in the outbox: whoever joins goes with the next call.
    queued: bool,
    calls: usize,
    last_sent: Instant,
    /// Until when the first of those who wait waits for the call that is under way, and for it alone.
    overdue: Option<Instant>,
    hash: u64,
}

impl Line {
    pub(crate) fn call_begun(&mut self) {
        self.calls += 1;
    }

    pub(crate) fn call_ended(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    fn may_call(&self, now: Instant, patience: Duration) -> bool {
        self.calls == 0 || now.saturating_duration_since(self.last_sent) >= patience
    }
}

/// The lines of one worker; only those that somebody waits in.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Slab<Line>,
    by_plan: HashTable<LineId>,
    hasher: DefaultHashBuilder,
    /// Lines in which somebody began to wait behind a call, by the time; what the line does not say any more is void.
    behind: VecDeque<(Instant, LineId)>,
}

impl Lines {
    /// Finds or opens the line of a plan and lets a request stand at its end. True: the line is to be put in the outbox.
    pub(crate) fn join(
        &mut self,
        plan: &Plan,
        leased: bool,
        waiter: WaiterId,
        now: Instant,
        patience: Duration,
    ) -> (LineId, bool) {
        let hash = self.hash(plan);
        let found = self.by_plan.find(hash, |id| same(&self.lines[*id].plan, plan)).copied();
        let id = found.unwrap_or_else(|| {
            let line = Line {
                plan: Rc::new(plan.clone()),
                leased,
                waiting: VecDeque::new(),
                queued: false,
                calls: 0,
                last_sent: now,
                overdue: None,
                hash,
            };
            let id = self.lines.insert(line);
            self.by_plan.insert_unique(hash, id, |id| self.lines[*id].hash);
            id
        });
        let line = &mut self.lines[id];
        line.waiting.push_back(waiter);
        let goes = !line.queued && line.may_call(now, patience);
        line.queued |= goes;
        if !line.queued && line.waiting.len() == 1 {
            let overdue = now + patience;
            line.overdue = Some(overdue);
            self.behind.push_back((overdue, id));
        }
        (id, goes)
    }

    /// When the next call is to be sent beside one that takes long.
    pub(crate) fn next_overdue(&mut self) -> Option<Instant> {
        while let Some((at, id)) = self.behind.front() {
            let line = self.lines.get(*id);
            if line.is_some_and(|line| line.overdue == Some(*at) && !line.queued && !line.waiting.is_empty()) {
                return Some(*at);
            }
            self.behind.pop_front();
        }
        None
    }

    /// A line whose first has waited long enough behind a call: it is to be put in the outbox.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<LineId> {
        self.next_overdue().filter(|at| *at <= now)?;
        let (_, id) = self.behind.pop_front()?;
        self.lines.get_mut(id)?.queued = true;
        Some(id)
    }

    pub(crate) fn get_mut(&mut self, id: LineId) -> Option<&mut Line> {
        self.lines.get_mut(id)
    }

    /// The line in which requests of this plan wait now.
    pub(crate) fn of(&self, plan: &Plan) -> Option<LineId> {
        let hash = self.hash(plan);
        self.by_plan.find(hash, |id| same(&self.lines[*id].plan, plan)).copied()
    }

    /// Takes the first out of the line.
    pub(crate) fn next(&mut self, id: LineId) -> Option<WaiterId> {
        self.lines.get_mut(id)?.waiting.pop_front()
    }

    /// Takes everybody out of the line to go with a call.
    pub(crate) fn depart(&mut self, id: LineId, now: Instant) -> VecDeque<WaiterId> {
        let Some(line) = self.lines.get_mut(id) else { return VecDeque::new() };
        line.queued = false;
        line.last_sent = now;
        std::mem::take(&mut line.waiting)
    }

    /// What becomes of the line: true when it is to be put in the outbox; a line without anybody is closed.
    pub(crate) fn goes_on(&mut self, id: LineId, now: Instant, patience: Duration) -> bool {
        let Some(line) = self.lines.get_mut(id) else { return false };
        if line.queued {
            return false;
        }
        if !line.waiting.is_empty() {
            line.queued = line.may_call(now, patience);
            return line.queued;
        }
        if line.calls == 0 {
            let hash = line.hash;
            if let Ok(entry) = self.by_plan.find_entry(hash, |known| *known == id) {
                entry.remove();
            }
            self.lines.remove(id);
        }
        false
    }

    fn hash(&self, plan: &Plan) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for (key, counter) in plan.iter() {
            key.hash(&mut hasher);
            counter.cost.hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Another cost, other numbers (an edit) or another order is another plan.
fn same(a: &Plan, b: &Plan) -> bool {
    a.len() == b.len() && a.iter().eq(b.iter())
}

#[cfg(test)]
mod tests;
