//! What is known about the server: the breaker, what it refuses, its eviction policy.
//!
//! The breaker opens when no connection lives, or when nobody was answered for a whole deadline while three or more
//! waited; the first answer on any connection closes it. While it is open nothing is sent but pings.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{Primary, Slot, connection::Connection};
use crate::{clock::micros, store::redis::common::Seat};

/// Requests that must wait before silence opens the breaker: one or two may simply be slow.
const BREAKER_WAITING: u64 = 3;
/// How often a missing ACL rule is logged at most; met by nobody for twice as long, it is taken for mended.
const PROBLEM_LASTS: Duration = Duration::from_secs(2);

/// Why the server, though it answers, does not count.
#[derive(Debug)]
pub(super) struct Problem {
    message: String,
    seen: Instant,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A missing ACL rule.
    Rule,
    /// It cannot write now.
    Unable,
}

impl Problem {
    pub(super) fn rule(message: &str) -> Problem {
        Problem { message: message.to_owned(), seen: Instant::now(), kind: Kind::Rule }
    }

    pub(super) fn unable(message: &str) -> Problem {
        Problem { message: message.to_owned(), seen: Instant::now(), kind: Kind::Unable }
    }
}

impl Primary {
    /// Answers, as far as known.
    pub(in super::super) fn healthy(&self) -> bool {
        !self.open.load(Ordering::Relaxed)
            && !self.has_problem.load(Ordering::Relaxed)
            && self.slots.iter().any(|slot| slot.live().is_some())
    }

    /// Its `maxmemory-policy` may evict counters.
    pub(in super::super) fn evicts(&self) -> bool {
        self.evicts.load(Ordering::Relaxed)
    }

    /// What an operator must mend.
    pub(in super::super) fn problem(&self) -> Option<String> {
        self.problem.load().as_deref().map(|problem| problem.message.clone())
    }

    /// A call's deadline passed; those who waited for it have left the line already.
    pub(super) fn missed(&self, connection: &Connection, waited: u64) {
        connection.needs_attention();
        self.judge_silence(waited);
    }

    /// The deadline of a request from this seat passed, whose call may still be under way here.
    pub(in super::super) fn expired(&self, seat: Seat) {
        let own = self.slots[self.common.slot_of(seat)].live();
        if let Some(connection) = own.filter(|connection| connection.waiting() > 0) {
            connection.needs_attention();
        }
        self.judge_silence(0);
    }

    /// Silence towards everybody for a whole deadline opens the breaker; whatever was the reason, the supervisor begins to
    /// ping.
    fn judge_silence(&self, waited: u64) {
        let (deadline_us, now_us) = (micros(self.common.deadline()), self.common.now_us());
        let mut waiting = waited;
        let (mut answered_us, mut busy_us) = (0, u64::MAX);
        for slot in &self.slots {
            if let Some(connection) = slot.live() {
                waiting += connection.waiting();
                answered_us = answered_us.max(connection.answered_us());
                busy_us = busy_us.min(connection.busy_us().unwrap_or(u64::MAX));
            }
        }
        let unanswered = answered_us.saturating_add(deadline_us) <= now_us;
        // Nothing was owed before. A request's deadline begins a little before its call is sent, so not quite a whole one.
        let owed = busy_us.saturating_add(deadline_us / 8 * 7) <= now_us;
        if waiting >= BREAKER_WAITING && unanswered && owed {
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

    /// There is no such server any more.
    pub(super) fn give_up(&self, slot: usize) {
        if let Some(connection) = self.slots[slot].connection.swap(None) {
            connection.condemn();
        }
        self.look_around();
    }

    pub(super) fn look_around(&self) {
        // Once nobody counts any more, at the end of the process, there is nothing to report.
        let used = self.slots.iter().any(|slot| slot.claimed.load(Ordering::Acquire));
        if used && self.slots.iter().all(|slot| slot.live().is_none()) {
            self.open_breaker("no connection to redis");
        }
    }

    pub(super) fn report(&self, problem: Problem) {
        let known = self.problem.load();
        if known.as_deref().is_none_or(|known| known.kind != problem.kind || known.seen.elapsed() >= PROBLEM_LASTS) {
            match problem.kind {
                Kind::Rule => {
                    tracing::error!(
                        problem = problem.message,
                        "redis refuses what counting needs: extend the ACL of this user"
                    );
                }
                Kind::Unable => tracing::error!(problem = problem.message, "redis cannot count now"),
            }
            self.problem.store(Some(Arc::new(problem)));
        }
        self.has_problem.store(true, Ordering::Relaxed);
    }

    /// Everything that counting needs was tried, and went well.
    pub(super) fn mended(&self) {
        if self.has_problem.swap(false, Ordering::Relaxed) {
            self.problem.store(None);
            tracing::info!("redis counts again");
        }
    }

    /// A call was counted. Others may still be refused (a rule about keys), so a missing rule is dropped only when it was not
    /// met for a while.
    /// A refusal writes nothing: it says nothing about a server that cannot write.
    pub(super) fn counted_well(&self, wrote: bool) {
        let over = |problem: &Problem| match problem.kind {
            Kind::Unable => wrote,
            Kind::Rule => problem.seen.elapsed() >= 2 * PROBLEM_LASTS,
        };
        if self.problem.load().as_deref().is_none_or(over) {
            self.mended();
        }
    }
}
