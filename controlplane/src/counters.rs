//! The counters of one subject as an administrator sees and changes them.
//!
//! All of it goes through [`Decider::adjust`], in calls of at most [`CHUNK`] counters, so that no call holds the store for
//! long. A change is told to the data planes as a hint, and stands in the log.

pub(crate) mod answer;
mod change;
pub(crate) mod patch;
mod select;

use edgequota_counters::{
    Ask, Decider,
    store::{CounterReply, Purpose, StoreError},
};

pub(crate) use change::{Actor, Changing, change, shown};
pub(crate) use select::{Selection, select};

/// Counters in one call of the store.
pub(crate) const CHUNK: usize = edgequota_proto::MOST_RESET_KEYS;
/// Counters in one answer.
pub(crate) const MOST_SHOWN: usize = 1000;

/// How a counter stands, and what it was before a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) reply: CounterReply,
    /// Tokens before the change; None: nobody changed it.
    pub(crate) before: Option<u64>,
}

impl Standing {
    /// Every token is there: none is spent, none is out on a lease.
    pub(crate) fn is_full(&self, ask: &Ask) -> bool {
        is_full(ask, &self.reply)
    }
}

fn is_full(ask: &Ask, reply: &CounterReply) -> bool {
    reply.tokens >= ask.effective.numbers.burst
}

/// Reads the counters of `asks`, in their order. Nothing is spent or written.
pub(crate) async fn look(decider: &Decider, asks: &[Ask]) -> Result<Vec<CounterReply>, StoreError> {
    let mut replies = Vec::with_capacity(asks.len());
    for chunk in asks.chunks(CHUNK) {
        let answered = decider.adjust(chunk, Purpose::Look).await?.counters;
        if answered.len() != chunk.len() {
            return Err(StoreError::BadReply);
        }
        replies.extend(answered);
    }
    Ok(replies)
}

/// The key of a counter.
fn key(ask: &Ask) -> String {
    let mut key = String::new();
    ask.limit.counter_key(&ask.subject, &mut key);
    key
}
