//! The limits of a request: who is counted, and may it pass?

use std::rc::Rc;

use edgequota_counters::{AllowedBy, Ask, Decision, Refusal, Verdict};
use edgequota_policy::limit::{KeyError, Mode};
use smallvec::SmallVec;

use super::{
    Received, context::Context, rate_headers::RateHeaders, reject::Reject, route, route::Routed, route::Target,
};
use crate::listen::client::Client;

/// What will be asked of the counters.
pub(crate) type Asks = SmallVec<[Ask; 2]>;

/// Finds out who is counted, limit by limit.
pub(crate) fn asks(client: &Client, target: &Target<'_>, received: &Received, routed: &Routed) -> Result<Asks, Reject> {
    let live = client.worker.live();
    let view = route::view(client, target, received, &live.trusted_proxies);
    let mut asks = Asks::new();
    for limit in &routed.limits {
        match limit.subject(&view) {
            Ok(Some(subject)) => {
                let effective = limit.effective(&subject);
                asks.push(Ask { limit: limit.clone(), subject, effective });
            }
            Ok(None) => {}
            Err(error) => {
                client.worker.shared.metrics.key_extract_errors.inc();
                // A shadow limit never refuses, not even for want of a key.
                if limit.mode == Mode::Enforce {
                    return Err(key_error(&error));
                }
            }
        }
    }
    Ok(asks)
}

fn key_error(error: &KeyError) -> Reject {
    let (code, kind) = error.refusal();
    let why = error.to_string();
    if kind == "bad_request" { Reject::BadRequest { why } } else { Reject::KeyExtraction { why, code } }
}

/// Spends a token of each, or of none.
pub(crate) async fn decide(client: &Rc<Client>, context: &mut Context, asks: Asks) -> Result<(), Reject> {
    let worker = &client.worker;
    if asks.is_empty() {
        worker.shared.metrics.requests_allowed.inc();
        context.record.decision("allowed");
        return Ok(());
    }
    let decision = worker.spender.spend(&asks).await;
    context.rate = RateHeaders::of(&decision);
    worker.metrics.decided(&worker.shared.metrics, &decision, &asks);
    let refused = refusal(&decision);
    context.record.decided(asks, &decision);
    match refused {
        None => {
            worker.shared.metrics.requests_allowed.inc();
            Ok(())
        }
        Some(reject) => {
            if matches!(reject, Reject::RateLimited { .. }) {
                worker.shared.metrics.requests_limited.inc();
            }
            Err(reject)
        }
    }
}

fn refusal(decision: &Decision) -> Option<Reject> {
    let name = |index: usize| decision.limits.get(index).map_or_else(String::new, |l| l.limit.name.to_string());
    match &decision.verdict {
        Verdict::Allowed(_) => None,
        Verdict::Refused(Refusal::Limited { limit, retry_after }) => {
            Some(Reject::RateLimited { limit: name(*limit), retry_after: Some(*retry_after) })
        }
        Verdict::Refused(Refusal::Blocked { limit }) => {
            Some(Reject::RateLimited { limit: name(*limit), retry_after: None })
        }
        Verdict::Refused(Refusal::PassThroughFull) => Some(Reject::RateLimited {
            limit: "global_passthrough_rps".into(),
            retry_after: Some(std::time::Duration::from_secs(1)),
        }),
        Verdict::Refused(Refusal::Unavailable { code }) => Some(Reject::StoreUnavailable { code: *code }),
    }
}

/// `decision` of the access log.
pub(crate) fn in_words(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed(AllowedBy::NoLimit | AllowedBy::Store) => "allowed",
        Verdict::Allowed(AllowedBy::Fallback) => "allowed_by_fallback",
        Verdict::Allowed(AllowedBy::PassThrough) => "allowed_by_passthrough",
        Verdict::Refused(Refusal::Limited { .. }) => "limited",
        Verdict::Refused(Refusal::Blocked { .. }) => "blocked",
        Verdict::Refused(Refusal::Unavailable { .. }) => "refused_store_unavailable",
        Verdict::Refused(Refusal::PassThroughFull) => "refused_passthrough_full",
    }
}
