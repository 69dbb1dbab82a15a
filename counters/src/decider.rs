//! Asking without spending: what a request would be told, and what an administrator changes.

use std::{fmt, sync::Arc};

use crate::{
    counters::{Shared, Store},
    decision::{self, Ask, Decision},
    plans,
    store::{
        Plan, Purpose, Replies, StoreError,
        redis::{Credits, Seat},
    },
};

/// Looks at counters, and changes them for an administrator. Cheap to clone.
#[derive(Clone)]
pub struct Decider {
    shared: Arc<Shared>,
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decider").finish_non_exhaustive()
    }
}

impl Decider {
    pub(crate) fn new(shared: Arc<Shared>) -> Decider {
        Decider { shared }
    }

    /// The decision that a request would get now, by the store; nothing is spent and nothing that a worker remembers or has
    /// leased is looked at. Answers within `redis.deadline` plus a little.
    pub async fn look(&self, asks: &[Ask]) -> Decision {
        if let Some(decision) = decision::without_counting(asks) {
            return decision;
        }
        let plan = plans::with_plan(asks, Purpose::Look, plans::counted, Plan::clone);
        match self.ask(plan).await {
            Ok(replies) => plans::decided(asks, &replies),
            Err(error) => {
                tracing::debug!(%error, "decided by failure policy");
                self.shared.failover.decide(asks, Purpose::Look, self.shared.fleet.get())
            }
        }
    }

    /// An administrator changes the counters of the asks, blocked ones included (or looks at them); one reply per ask, in
    /// order. Answers within `redis.deadline`.
    ///
    /// # Errors
    /// When the store did not answer. A change may have happened all the same.
    pub async fn adjust(&self, asks: &[Ask], purpose: Purpose) -> Result<Replies, StoreError> {
        self.ask(plans::with_plan(asks, purpose, |ask| Some(ask.effective.numbers), Plan::clone)).await
    }

    async fn ask(&self, plan: Plan) -> Result<Replies, StoreError> {
        if plan.is_empty() {
            return Ok(Replies::default());
        }
        match &self.shared.store {
            Store::Embedded(store) => Ok(store.call(&plan)),
            Store::Redis(redis, _) => {
                let replies = redis.send(Seat::Spare, &[plan], 1, Credits::Withhold).await?;
                replies.into_iter().next().ok_or(StoreError::BadReply)
            }
        }
    }
}
