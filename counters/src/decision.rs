//! What is asked and what is answered.
use std::{sync::Arc, time::Duration};

use edgequota_policy::{
    Limit,
    limit::{Effective, Mode, Subject},
};
use smallvec::SmallVec;

/// One limit for one subject.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The rule.
    pub limit: Arc<Limit>,
    /// Who is counted.
    pub subject: Subject,
    /// What applies to that subject.
    pub effective: Effective,
}

/// The answer for a whole request.
#[derive(Clone, Debug)]
pub struct Decision {
    /// May it pass?
    pub verdict: Verdict,
    /// One entry per ask, in order (numbers are absent where no store told them).
    pub limits: SmallVec<[LimitState; 2]>,
}
/// May it pass?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed(AllowedBy),
    /// No.
    Refused(Refusal),
}
/// Why it may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedBy {
    /// Nothing to ask.
    NoLimit,
    /// The store said so (or only shadow limits were asked).
    Store,
    /// The store did not answer; in-process buckets had room.
    Fallback,
    /// The store did not answer; `passThrough`.
    PassThrough,
}
/// Why it may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `limit` is an index into `limits`; 429, `Retry-After`.
    Limited {
        /// Index of the enforced limit that waits longest.
        limit: usize,
        /// Until a token is there.
        retry_after: Duration,
    },
    /// `block: true`; 429 without a retry time.
    Blocked {
        /// Index.
        limit: usize,
    },
    /// failClosed; `Retry-After: 1`.
    Unavailable {
        /// `failure_code`.
        code: u16,
    },
    /// `global_passthrough_rps` exceeded; 429, `Retry-After: 1`.
    PassThroughFull,
}
/// One limit's state after the decision.
#[derive(Clone, Debug)]
pub struct LimitState {
    /// The rule.
    pub limit: Arc<Limit>,
    /// Numbers used, override included.
    pub effective: Effective,
    /// Whole tokens left (floor).
    pub remaining: Option<u64>,
    /// Until full.
    pub reset_after: Option<Duration>,
    /// Until the cost of a request is there; zero when it is.
    pub retry_after: Option<Duration>,
    /// Would this limit alone have let it pass? None: unknown.
    pub passed: Option<bool>,
}

/// What needs no counting: no limit, or one that is blocked.
pub(crate) fn without_counting(asks: &[Ask]) -> Option<Decision> {
    if asks.is_empty() {
        return Some(Decision { verdict: Verdict::Allowed(AllowedBy::NoLimit), limits: SmallVec::new() });
    }
    let limit = asks.iter().position(|ask| ask.effective.blocked && ask.limit.mode == Mode::Enforce)?;
    let mut limits: SmallVec<[LimitState; 2]> = asks.iter().map(LimitState::unknown).collect();
    limits[limit].passed = Some(false);
    Some(Decision { verdict: Verdict::Refused(Refusal::Blocked { limit }), limits })
}

impl LimitState {
    /// A limit about which no store told anything.
    pub(crate) fn unknown(ask: &Ask) -> LimitState {
        LimitState {
            limit: Arc::clone(&ask.limit),
            effective: ask.effective.clone(),
            remaining: None,
            reset_after: None,
            retry_after: None,
            passed: None,
        }
    }
}
