//! The header fields that tell a client where it stands.

use std::{io::Write, time::Duration};

use crate::{
    fields::{Fields, Known},
    spare,
};
use edgequota_counters::{Decision, LimitState, Refusal, Verdict};
use edgequota_policy::limit::{HeaderStyle, Mode};

/// Values, made when the decision falls.
#[derive(Debug)]
pub(crate) struct RateHeaders {
    /// burst, remaining, reset of the most constrained limit.
    legacy: Option<(u64, u64, u64)>,
    policy: Vec<u8>,
    state: Vec<u8>,
}

impl RateHeaders {
    /// `None` when no limit has numbers to show. When some have, the policy names the others too: which limits there are does
    /// not depend on who was asked this time (a remembered refusal asks nobody).
    pub(crate) fn of(decision: &Decision) -> Option<RateHeaders> {
        if decision.limits.iter().all(|state| state.remaining.is_none()) {
            return None;
        }
        let refusing = match &decision.verdict {
            Verdict::Refused(Refusal::Limited { limit, .. } | Refusal::Blocked { limit }) => Some(*limit),
            _ => None,
        };
        let mut headers = RateHeaders { legacy: None, policy: spare::text(), state: spare::text() };
        let mut least: Option<(bool, u64, u64)> = None;
        for (index, state) in decision.limits.iter().enumerate() {
            if state.limit.mode == Mode::Shadow || state.effective.blocked {
                continue;
            }
            let style = state.limit.headers;
            let ietf = matches!(style, HeaderStyle::Both | HeaderStyle::Ietf);
            if ietf {
                headers.name_policy(state);
            }
            let Some(remaining) = state.remaining else { continue };
            let reset = round_up(state.reset_after.unwrap_or_default());
            if matches!(style, HeaderStyle::Both | HeaderStyle::Legacy) {
                // The one that refuses first, then the one with the fewest tokens, then the one that takes longest.
                let rank = (refusing != Some(index), remaining, u64::MAX - reset);
                if least.is_none_or(|least| rank < least) {
                    least = Some(rank);
                    headers.legacy = Some((state.effective.numbers.burst, remaining, reset));
                }
            }
            if ietf {
                headers.name_state(state, remaining, reset);
            }
        }
        (headers.legacy.is_some() || !headers.state.is_empty()).then_some(headers)
    }

    /// An item of a structured field (RFC 9651): names are of a set that needs no escape.
    fn name_policy(&mut self, state: &LimitState) {
        let numbers = &state.effective.numbers;
        let window = round_up(numbers.time_to_full()).max(1);
        let comma = comma(&self.policy);
        // Writing to a Vec cannot fail.
        let _ = write!(self.policy, "{comma}\"{}\";q={};w={window}", state.limit.name, numbers.burst);
    }

    fn name_state(&mut self, state: &LimitState, remaining: u64, reset: u64) {
        let comma = comma(&self.state);
        let _ = write!(self.state, "{comma}\"{}\";r={remaining};t={reset}", state.limit.name);
    }

    /// Replaces a backend's `X-RateLimit-*`; ours are appended to its `RateLimit*`.
    pub(crate) fn put_on(&self, headers: &mut Fields) {
        if let Some((burst, remaining, reset)) = self.legacy {
            headers.put_number(Known::XRateLimitLimit, burst);
            headers.put_number(Known::XRateLimitRemaining, remaining);
            headers.put_number(Known::XRateLimitReset, reset);
        }
        for (name, value) in [(Known::RateLimitPolicy, &self.policy), (Known::RateLimit, &self.state)] {
            if !value.is_empty() {
                headers.add(name, value);
            }
        }
    }
}

impl Drop for RateHeaders {
    fn drop(&mut self) {
        spare::keep_text(std::mem::take(&mut self.policy));
        spare::keep_text(std::mem::take(&mut self.state));
    }
}

fn comma(items: &[u8]) -> &'static str {
    if items.is_empty() { "" } else { ", " }
}

fn round_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
