//! Deciding without the store: the strictest failure policy among the enforced limits.
//!
//! `passThrough` allows, up to `global_passthrough_rps` in the whole process. `inMemoryFallback` counts those limits
//! that ask for it in the process, each with this process's share of the fleet. `failClosed` refuses. Shadow limits
//! have no say.

mod passthrough;

use edgequota_policy::{
    Numbers,
    limit::{FailurePolicy, Mode},
};

use crate::{
    clock::Clock,
    decision::{AllowedBy, Ask, Decision, LimitState, Refusal, Verdict},
    plans::{self, Chosen},
    store::{
        Purpose,
        embedded::{Embedded, Evict},
    },
};
use passthrough::PassThrough;

/// Most subjects counted in the process while the store is away.
const FALLBACK_SUBJECTS: usize = 65_536;
/// Shares do not get smaller than for so many processes: times stay far from overflow.
const LARGEST_FLEET: u64 = 10_000;

/// What must outlive flaps of the store. Process-wide state.
#[derive(Debug)]
pub(crate) struct Failover {
    clock: Clock,
    buckets: Embedded,
    pass_through: PassThrough,
}

impl Failover {
    pub(crate) fn new(clock: Clock) -> Failover {
        Failover {
            buckets: Embedded::new(clock.clone(), FALLBACK_SUBJECTS, Evict::Oldest),
            clock,
            pass_through: PassThrough::default(),
        }
    }

    /// Decides. A look takes nothing from any bucket.
    pub(crate) fn decide(&self, asks: &[Ask], purpose: Purpose, fleet: u64) -> Decision {
        let mut decision = Decision {
            verdict: Verdict::Allowed(AllowedBy::Store),
            limits: asks.iter().map(LimitState::unknown).collect(),
        };
        let enforced = || asks.iter().filter(|ask| ask.limit.mode == Mode::Enforce);
        let Some(policy) = enforced().map(|ask| ask.limit.failure_policy).max() else {
            return decision;
        };
        match policy {
            FailurePolicy::FailClosed => {
                let strict = enforced().find(|ask| ask.limit.failure_policy == FailurePolicy::FailClosed);
                let code = strict.map_or(429, |ask| ask.limit.failure_code);
                decision.verdict = Verdict::Refused(Refusal::Unavailable { code });
            }
            FailurePolicy::PassThrough => {
                let cap = enforced().filter_map(|ask| ask.limit.global_passthrough_rps).min();
                let passes = cap.is_none_or(|rate| self.pass_through.pass(rate, self.clock.now_us(), purpose));
                decision.verdict = if passes {
                    Verdict::Allowed(AllowedBy::PassThrough)
                } else {
                    Verdict::Refused(Refusal::PassThroughFull)
                };
            }
            FailurePolicy::InMemoryFallback => self.count_here(asks, purpose, fleet, &mut decision),
        }
        decision
    }

    fn count_here(&self, asks: &[Ask], purpose: Purpose, fleet: u64, decision: &mut Decision) {
        let chosen = |ask: &Ask| {
            let counts = ask.limit.mode == Mode::Enforce && ask.limit.failure_policy == FailurePolicy::InMemoryFallback;
            counts.then(|| share(&ask.effective.numbers, fleet))
        };
        let replies = plans::with_plan(asks, purpose, chosen, |plan| self.buckets.call(plan));
        decision.verdict = plans::apply(asks, &Chosen::of(asks, chosen), &replies, &mut decision.limits);
        if decision.verdict == Verdict::Allowed(AllowedBy::Store) {
            decision.verdict = Verdict::Allowed(AllowedBy::Fallback);
        }
    }
}

/// The share of one of `fleet` processes: bucket and rate divided, at least one token of room. The rate is divided by
/// a tick that is as many times longer, which is exact and stays within the bounds of the numbers.
fn share(numbers: &Numbers, fleet: u64) -> Numbers {
    let fleet = fleet.clamp(1, LARGEST_FLEET);
    Numbers { burst: (numbers.burst / fleet).max(1), tick_us: numbers.tick_us.saturating_mul(fleet), ..*numbers }
}
