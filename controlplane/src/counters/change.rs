//! Changes counters: tells the data planes, and leaves a trace in the log.

use std::net::SocketAddr;

use edgequota_counters::{
    Ask, Decider,
    store::{CounterReply, Purpose, StoreError},
};
use edgequota_policy::limit::Subject;
use tracing::{info, warn};

use super::{CHUNK, Selection, Standing, is_full, key, look};
use crate::fleet::{Changed, Fleet};

/// Lines of the log that one call may make; what is beyond is summed up.
const MOST_LINES: usize = 1000;

/// Who changes, and what.
#[derive(Debug)]
pub(crate) struct Actor<'a> {
    /// Where the call comes from.
    pub(crate) peer: SocketAddr,
    /// The subject as people may see it.
    pub(crate) subject: &'a str,
}

/// What is needed for it.
pub(crate) struct Changing<'a> {
    pub(crate) decider: &'a Decider,
    pub(crate) fleet: &'a Fleet,
}

/// A change that broke off.
#[derive(Debug, thiserror::Error)]
#[error("the store did not answer: {error}; {changed} counters were changed before that{unsure}",
        unsure = if *unsure { ", and some of the rest may have been" } else { "" })]
pub(crate) struct BrokeOff {
    error: StoreError,
    changed: usize,
    unsure: bool,
}

/// Does `purpose` to the counters of a selection and answers how each stands. A counter that would not change is not
/// written: a full bucket has no key in the store, and a caller of many limits would fill it with them.
pub(crate) async fn change(
    with: &Changing<'_>,
    actor: &Actor<'_>,
    selection: &Selection,
    purpose: Purpose,
) -> Result<Vec<Standing>, BrokeOff> {
    let asks = &selection.asks;
    let before = look(with.decider, asks).await.map_err(|error| BrokeOff { error, changed: 0, unsure: false })?;
    let concerned: Vec<usize> = (0..asks.len()).filter(|i| matters(&asks[*i], &before[*i], purpose)).collect();
    let mut standing: Vec<Standing> = before.iter().map(|reply| Standing { reply: *reply, before: None }).collect();
    let mut changed = 0;
    for places in concerned.chunks(CHUNK) {
        let chunk: Vec<Ask> = places.iter().map(|i| asks[*i].clone()).collect();
        let answered = with.decider.adjust(&chunk, purpose).await;
        // Also when there was no answer: the change may have happened.
        tell(with.fleet, &chunk);
        let replies = match answered {
            Ok(replies) if replies.counters.len() == chunk.len() => replies.counters,
            answered => {
                let error = answered.err().unwrap_or(StoreError::BadReply);
                warn!(peer = %actor.peer, subject = actor.subject, change = %words(purpose), %error, counters = chunk.len(),
                      "an administrator's change may or may not have happened");
                return Err(BrokeOff { unsure: error.was_asked(), error, changed });
            }
        };
        for ((place, ask), reply) in places.iter().zip(&chunk).zip(replies) {
            standing[*place] = Standing { reply, before: Some(before[*place].tokens) };
            if changed < MOST_LINES {
                info!(peer = %actor.peer, subject = actor.subject, limit = &*ask.limit.name, change = %words(purpose),
                      before = before[*place].tokens, after = reply.tokens, "an administrator changed a counter");
            }
            changed += 1;
        }
    }
    if changed > MOST_LINES {
        info!(peer = %actor.peer, subject = actor.subject, change = %words(purpose), counters = changed,
              "an administrator changed more counters than there are lines for");
    }
    Ok(standing)
}

fn matters(ask: &Ask, before: &CounterReply, purpose: Purpose) -> bool {
    let burst = ask.effective.numbers.burst;
    let fills = match purpose {
        Purpose::Reset => true,
        Purpose::Set(tokens) => tokens >= burst,
        Purpose::Add(tokens) => tokens >= 0,
        Purpose::Look | Purpose::Spend => return false,
    };
    !(fills && is_full(ask, before))
}

/// Keys of credentials are told apart: they go to fewer data planes.
fn tell(fleet: &Fleet, asks: &[Ask]) {
    for secret in [false, true] {
        let keys: Vec<String> = asks.iter().filter(|ask| ask.subject.secret == secret).map(key).collect();
        if !keys.is_empty() {
            fleet.tell_changed(Changed { keys, secret });
        }
    }
}

fn words(purpose: Purpose) -> String {
    match purpose {
        Purpose::Reset => "reset".to_owned(),
        Purpose::Set(tokens) => format!("set {tokens}"),
        Purpose::Add(tokens) => format!("add {tokens}"),
        Purpose::Look | Purpose::Spend => "none".to_owned(),
    }
}

/// A subject for the log and the head of an answer: where one of the limits counts by credentials it may be one, so it is
/// shown as a hash.
pub(crate) fn shown(text: &str, secret: bool) -> String {
    Subject { raw: text.to_owned(), secret }.display().into_owned()
}
