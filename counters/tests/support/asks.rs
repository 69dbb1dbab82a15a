//! Limits as a policy compiles them, and what is asked of them.

use std::sync::Arc;

use edgequota_counters::Ask;
use edgequota_policy::{
    Limit,
    limit::{Accuracy, Effective, FailurePolicy, HeaderStyle, Mode, Subject},
};

use super::stores::numbers;

/// An enforced limit of `burst` tokens that refills within an hour, so that no test sees it refill.
pub fn limit(name: &str, burst: u64, failure_policy: FailurePolicy) -> Limit {
    Limit {
        name: name.into(),
        mode: Mode::Enforce,
        accuracy: Accuracy::Exact,
        numbers: numbers(burst, burst, 3_600_000_000),
        failure_policy,
        failure_code: 503,
        min_ttl: None,
        headers: HeaderStyle::Both,
        global_passthrough_rps: None,
    }
}

/// What `subject` asks of a limit.
pub fn ask(limit: Limit, subject: &str) -> Ask {
    let effective = Effective {
        numbers: limit.numbers,
        blocked: false,
        override_index: None,
    };
    Ask {
        limit: Arc::new(limit),
        subject: Subject {
            raw: subject.to_owned(),
            secret: false,
        },
        effective,
    }
}

/// The same, blocked by an override.
pub fn blocked(limit: Limit, subject: &str) -> Ask {
    let mut ask = ask(limit, subject);
    ask.effective.blocked = true;
    ask
}
