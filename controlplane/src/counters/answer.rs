//! What is answered: the JSON of `/v1/counters/{subject}`.

use edgequota_counters::Ask;
use edgequota_policy::limit::Subject;
use serde::Serialize;
use utoipa::ToSchema;

use super::{MOST_SHOWN, Selection, Standing, change::shown};
use crate::effective::{Explained, answer::SourceAnswer};

/// The counters of one subject.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CountersAnswer {
    /// Version of the policy whose limits are meant.
    policy: String,
    /// Who is counted; as a hash where one of the limits counts by credentials.
    subject: String,
    /// How many counters were changed; absent: nothing was to be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<usize>,
    /// Counters that were looked at.
    total: usize,
    /// Limits that are left out because no request can ever have that subject there.
    skipped: usize,
    /// Why not all of them are shown; absent: all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<String>,
    /// Changed ones first, then those that are not full, then by the order of the policy. At most 1,000.
    counters: Vec<CounterAnswer>,
}

/// One counter.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CounterAnswer {
    /// `default`, `<route>` or `<route>/<name>`.
    limit: String,
    /// `enforce` or `shadow`.
    mode: String,
    /// `exact` or `leased`.
    accuracy: String,
    /// Who is counted, as this limit counts it; a credential shows as a hash.
    subject: String,
    /// The counter's key in the store, with a credential as a hash.
    counter_key: String,
    /// Tokens per period that apply.
    average: u64,
    /// Room of the bucket that applies.
    burst: u64,
    /// In which time `average` tokens come back.
    period: String,
    /// Tokens that one request takes.
    cost: u64,
    /// The subject is blocked, whatever it has.
    blocked: bool,
    /// Where the numbers come from; the last one wins.
    sources: Vec<SourceAnswer>,
    /// Tokens before the change; absent: it was not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    /// Whole tokens in the store now. What data planes have on lease is not among them.
    tokens: u64,
    /// Every token is there.
    full: bool,
    /// Milliseconds until it is full.
    reset_ms: u64,
    /// Milliseconds until there are `cost` tokens; 0: there are.
    retry_ms: u64,
}

/// Puts an answer together. `changes`: something was to be changed.
pub(crate) fn answer(
    explained: &Explained,
    text: &str,
    selection: &Selection,
    standing: &[Standing],
    changes: bool,
) -> CountersAnswer {
    let mut order: Vec<(&Ask, &Standing)> = selection.asks.iter().zip(standing).collect();
    order.sort_by_key(|(ask, standing)| (standing.before.is_none(), standing.is_full(ask)));
    // A text that is, or was until now, in use as a credential is one: it is hidden in the counters of other limits, too.
    let in_use = |ask: &Ask, standing: &Standing| standing.before.is_some() || !standing.is_full(ask);
    let hidden = order.iter().any(|(ask, standing)| ask.subject.secret && in_use(ask, standing));
    let total = order.len();
    let truncated = (total > MOST_SHOWN).then(|| {
        format!("{MOST_SHOWN} of {total} counters are shown, an answer holds no more: name limits with limit=NAME")
    });
    CountersAnswer {
        policy: explained.name.version.clone(),
        subject: shown(text, selection.secret),
        changed: changes.then(|| standing.iter().filter(|s| s.before.is_some()).count()),
        total,
        skipped: selection.skipped,
        truncated,
        counters: order.into_iter().take(MOST_SHOWN).map(|(ask, s)| one(explained, ask, s, hidden)).collect(),
    }
}

fn one(explained: &Explained, ask: &Ask, standing: &Standing, hidden: bool) -> CounterAnswer {
    let subject = Subject { raw: ask.subject.raw.clone(), secret: ask.subject.secret || hidden };
    let limit = explained.describe(&ask.limit, &subject, &ask.effective);
    CounterAnswer {
        limit: limit.name,
        mode: limit.mode,
        accuracy: limit.accuracy,
        subject: subject.display().into_owned(),
        counter_key: limit.counter_key.unwrap_or_default(),
        average: limit.average,
        burst: limit.burst,
        period: limit.period,
        cost: limit.cost,
        blocked: limit.blocked,
        sources: limit.sources,
        before: standing.before,
        tokens: standing.reply.tokens,
        full: standing.is_full(ask),
        reset_ms: standing.reply.reset_us.div_ceil(1000),
        retry_ms: standing.reply.retry_us.div_ceil(1000),
    }
}
