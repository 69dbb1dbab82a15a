//! From what is asked to what a store is asked, and back.

use std::{cell::RefCell, time::Duration};

use edgequota_policy::{Numbers, limit::Mode};
use smallvec::SmallVec;

use crate::{
    clock::micros,
    decision::{AllowedBy, Ask, Decision, LimitState, Refusal, Verdict},
    store::{Counter, CounterReply, Plan, Purpose, Replies},
};

thread_local! {
    /// Keys are built here, so that a decision does not allocate one.
    static KEYS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Which asks a plan holds.
pub(crate) struct Chosen(SmallVec<[usize; 4]>);

impl Chosen {
    pub(crate) fn of(asks: &[Ask], choose: impl Fn(&Ask) -> Option<Numbers>) -> Chosen {
        Chosen((0..asks.len()).filter(|i| choose(&asks[*i]).is_some()).collect())
    }
}

/// Every ask that is to be counted, with the numbers in force. A blocked shadow limit counts nothing.
pub(crate) fn counted(ask: &Ask) -> Option<Numbers> {
    (!ask.effective.blocked).then_some(ask.effective.numbers)
}

/// Builds the plan of the chosen asks and hands it to `f`.
pub(crate) fn with_plan<R>(
    asks: &[Ask],
    purpose: Purpose,
    choose: impl Fn(&Ask) -> Option<Numbers>,
    f: impl FnOnce(&Plan) -> R,
) -> R {
    let mut plan = Plan::new(purpose, KEYS.take());
    for ask in asks {
        let Some(numbers) = choose(ask) else { continue };
        let counter = Counter {
            cost: ask.limit.cost,
            numbers,
            enforce: ask.limit.mode == Mode::Enforce,
            min_ttl_ms: ask.limit.min_ttl.map_or(0, |ttl| micros(ttl) / 1000),
        };
        plan.push(counter, |key| ask.limit.counter_key(&ask.subject, key));
    }
    let result = f(&plan);
    KEYS.set(plan.into_buffer());
    result
}

/// Fills in what the store told of the chosen asks. The verdict is `Allowed(Store)`, or names the enforced limit that
/// waits longest.
pub(crate) fn apply(asks: &[Ask], chosen: &Chosen, replies: &Replies, states: &mut [LimitState]) -> Verdict {
    let mut longest: Option<(usize, Duration)> = None;
    for (&i, reply) in chosen.0.iter().zip(&replies.counters) {
        let retry_after = Duration::from_micros(reply.retry_us);
        states[i].learn(reply);
        let refuses = reply.room == 0 && asks[i].limit.mode == Mode::Enforce;
        if refuses && longest.is_none_or(|(_, known)| retry_after > known) {
            longest = Some((i, retry_after));
        }
    }
    match longest {
        Some((limit, retry_after)) => Verdict::Refused(Refusal::Limited { limit, retry_after }),
        None => Verdict::Allowed(AllowedBy::Store),
    }
}

/// The decision by a store's answer to all that were [`counted`].
pub(crate) fn decided(asks: &[Ask], replies: &Replies) -> Decision {
    let mut limits: SmallVec<[LimitState; 2]> = asks.iter().map(LimitState::unknown).collect();
    let verdict = apply(asks, &Chosen::of(asks, counted), replies, &mut limits);
    for (state, ask) in limits.iter_mut().zip(asks) {
        if ask.effective.blocked {
            state.passed = Some(false);
        }
    }
    Decision { verdict, limits }
}

/// The decision when some counters, named by their index among those that were [`counted`], are known to refuse; of the
/// others nothing is known.
pub(crate) fn refused(asks: &[Ask], refusals: &[(usize, CounterReply)]) -> Decision {
    let mut limits: SmallVec<[LimitState; 2]> = asks.iter().map(LimitState::unknown).collect();
    let chosen = Chosen::of(asks, counted);
    let mut longest = (0, Duration::ZERO);
    for (index, reply) in refusals {
        let Some(&i) = chosen.0.get(*index) else { continue };
        limits[i].learn(reply);
        let retry_after = Duration::from_micros(reply.retry_us);
        if retry_after >= longest.1 {
            longest = (i, retry_after);
        }
    }
    let (limit, retry_after) = longest;
    Decision { verdict: Verdict::Refused(Refusal::Limited { limit, retry_after }), limits }
}

impl LimitState {
    fn learn(&mut self, reply: &CounterReply) {
        self.remaining = Some(reply.tokens);
        self.reset_after = Some(Duration::from_micros(reply.reset_us));
        self.retry_after = Some(Duration::from_micros(reply.retry_us));
        self.passed = Some(reply.room > 0);
    }
}
