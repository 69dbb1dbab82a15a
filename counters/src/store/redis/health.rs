//! What is known about the primary: the breaker, missing ACL rules, its eviction policy.
//!
//! The breaker opens when no connection lives, or when nobody was answered for a whole deadline while three or more
//! waited; the first answer on any connection closes it. While it is open nothing is sent but pings.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{Primary, Slot, connection::Connection};
use crate::clock::micros;

/// Requests that must wait before silence opens the breaker: one or two may simply be slow.
const BREAKER_WAITING: u64 = 3;
/// How often a missing ACL rule is logged at most; met by nobody for twice as long, it is taken for mended.
const PROBLEM_LASTS: Duration = Duration::from_secs(2);

/// A missing ACL rule.
#[derive(Debug)]
pub(super) struct Problem {
    message: String,
    seen: Instant,
}

impl Primary {
    /// Answers, as far as known.
    pub(crate) fn healthy(&self) -> bool {
        !self.open.load(Ordering::Relaxed)
            && !self.has_problem.load(Ordering::Relaxed)
            && self.slots.iter().any(|slot| slot.live().is_some())
    }

    /// Its `maxmemory-policy` may evict counters.
    pub(crate) fn evicts(&self) -> bool {
        self.evicts.load(Ordering::Relaxed)
    }

    /// What an operator must mend (a missing ACL rule).
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.load().as_deref().map(|problem| problem.message.clone())
    }

    /// A call's deadline passed; those who waited for it have left the line already.
    pub(super) fn missed(&self, connection: &Connection, waited: u64) {
        connection.needs_attention();
        self.judge_silence(waited);
    }

    /// The deadline of a request of this slot's worker passed while its call is under way, or before it was sent.
    pub(crate) fn expired(&self, slot: usize) {
        if let Some(connection) = self.slots[slot].live() {
            connection.needs_attention();
        }
        self.judge_silence(0);
    }

    /// Silence towards everybody for a whole deadline opens the breaker; whatever was the reason, the supervisor begins to
    /// ping.
    fn judge_silence(&self, waited: u64) {
        let deadline_us = self.deadline_us.load(Ordering::Relaxed);
        let now_us = micros(self.start.elapsed());
        let mut waiting = waited;
        let mut answered_us = 0;
        for slot in &self.slots {
            waiting += slot.queued.load(Ordering::Relaxed);
            if let Some(connection) = slot.live() {
                waiting += connection.waiting();
                answered_us = answered_us.max(connection.answered_us());
            }
        }
        if waiting >= BREAKER_WAITING && answered_us.saturating_add(deadline_us) <= now_us {
            self.open_breaker("redis answers nobody");
        }
    }

    pub(super) fn open_breaker(&self, reason: &str) {
        if !self.open.swap(true, Ordering::AcqRel) {
            tracing::warn!(reason, "counting goes by failure policy until redis answers");
        }
        for connection in self.slots.iter().filter_map(Slot::live) {
            connection.needs_attention();
        }
    }

    pub(super) fn close_breaker(&self, reason: &str) {
        if self.open.swap(false, Ordering::AcqRel) {
            tracing::info!(reason, "counting in redis again");
        }
    }

    /// The connection is no good any more; its supervisor replaces it.
    pub(super) fn condemn(&self, connection: &Connection) {
        connection.condemn();
        self.look_around();
    }

    pub(super) fn look_around(&self) {
        // Once nobody counts any more, at the end of the process, there is nothing to report.
        let used = self.slots.iter().any(|slot| slot.claimed.load(Ordering::Acquire));
        if used && self.slots.iter().all(|slot| slot.live().is_none()) {
            self.open_breaker("no connection to redis");
        }
    }

    pub(super) fn report_permission(&self, message: &str) {
        let known = self.problem.load();
        let news = known.as_deref().is_none_or(|known| known.seen.elapsed() >= PROBLEM_LASTS);
        if news {
            tracing::error!(message, "redis refuses what counting needs: extend the ACL of this user");
            let problem = Problem { message: message.to_owned(), seen: Instant::now() };
            self.problem.store(Some(Arc::new(problem)));
        }
        self.has_problem.store(true, Ordering::Relaxed);
    }

    /// A call was permitted. Others may still be refused (a rule about keys), so the problem is dropped only when it was
    /// not met for a while.
    pub(super) fn permitted(&self) {
        let over = self.problem.load().as_deref().is_none_or(|problem| problem.seen.elapsed() >= 2 * PROBLEM_LASTS);
        if over && self.has_problem.swap(false, Ordering::Relaxed) {
            self.problem.store(None);
            tracing::info!("redis permits counting");
        }
    }
}
