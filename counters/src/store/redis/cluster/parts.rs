//! A plan that no single node can decide: its counters are asked in parallel, and all pass or none.
//!
//! There is no transaction across nodes. What one took while another refused is given back, by the formula of refunds: as
//! much as has not refilled since. So a refusal may cost another limit of the request up to `min(cost, rate * delay)`
//! tokens, never more, and nobody is ever allowed too much.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Cluster, Trouble};
use crate::store::{
    StoreError,
    plan::{Credit, Plan, Purpose, Replies},
    redis::{common::Seat, request::Credits, slots},
};

/// A plan on its way.
#[derive(Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) plan: &'a Plan,
    pub(super) seat: Seat,
    pub(super) waiting: u64,
    pub(super) credits: Credits,
    pub(super) end: Instant,
}

/// Entries of the plan that go together.
pub(super) type Part = Vec<usize>;

/// One part for each slot.
pub(super) fn by_slot(plan: &Plan) -> Vec<Part> {
    let mut parts: Vec<(u16, Part)> = Vec::new();
    for (i, (key, _)) in plan.iter().enumerate() {
        let slot = slots::of(key);
        match parts.iter_mut().find(|(known, _)| *known == slot) {
            Some((_, part)) => part.push(i),
            None => parts.push((slot, vec![i])),
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// One part for each counter.
pub(super) fn by_counter(plan: &Plan) -> Vec<Part> {
    (0..plan.len()).map(|i| vec![i]).collect()
}

/// Asks for all parts at once.
pub(super) async fn send(cluster: &Arc<Cluster>, errand: &Errand<'_>, parts: Vec<Part>) -> Result<Replies, StoreError> {
    let plans: Vec<Plan> = parts.iter().map(|part| errand.plan.part(part)).collect();
    let answers = join_all(plans.iter().map(|plan| {
        let errand = Errand { plan, ..*errand };
        async move {
            cluster.whole(&errand).await.map_err(|trouble| match trouble {
                Trouble::Store(error) => error,
                Trouble::Apart(_) => StoreError::NotWritable("its slot moves between nodes".to_owned()),
            })
        }
    }));
    let mut answers = answers.await;
    let granted = answers.iter().map(|answer| answer.as_ref().map_or(0, |replies| replies.granted)).min().unwrap_or(0);
    if errand.plan.purpose == Purpose::Spend {
        for (plan, answer) in plans.iter().zip(&mut answers) {
            let Ok(replies) = answer else { continue };
            if let Some(refund) = settle_for(granted, plan, replies) {
                give_back(cluster, errand.seat, refund);
            }
        }
    }
    let mut whole = Replies { granted, ..Replies::default() };
    whole.counters.resize(errand.plan.len(), Default::default());
    for (part, answer) in parts.iter().zip(answers) {
        let replies = answer?;
        whole.corrupt += replies.corrupt;
        whole.clock_steps += replies.clock_steps;
        for (i, reply) in part.iter().zip(replies.counters) {
            whole.counters[*i] = reply;
        }
    }
    Ok(whole)
}

/// What a part gives back because only so many requests pass, and its answer as if it had never taken that.
fn settle_for(granted: u64, plan: &Plan, replies: &mut Replies) -> Option<Plan> {
    let mut refund: Option<Plan> = None;
    for (i, ((_, counter), reply)) in plan.iter().zip(&mut replies.counters).enumerate() {
        let void = replies.granted.min(reply.room) - granted.min(reply.room);
        if void == 0 {
            continue;
        }
        let tokens = void * counter.cost;
        let plan = refund.get_or_insert_with(|| plan.nothing());
        plan.give_back(i, Credit::Refund { tokens, taken_us: reply.now_us });
        reply.tokens = (reply.tokens + tokens).min(counter.numbers.burst);
        if reply.tokens >= counter.cost {
            reply.retry_us = 0;
        }
    }
    refund
}

/// Once, whatever becomes of it, and without anybody waiting for it.
fn give_back(cluster: &Arc<Cluster>, seat: Seat, refund: Plan) {
    let cluster = Arc::clone(cluster);
    tokio::spawn(async move {
        let end = Instant::now() + cluster.common.deadline();
        let errand = Errand { plan: &refund, seat, waiting: 0, credits: Credits::Give, end };
        if cluster.whole(&errand).await.is_err() {
            tracing::debug!("a refund was lost");
        }
    });
}
