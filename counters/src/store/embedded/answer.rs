//! A plan's answer over buckets that are up to date: the same rule as in the script, without leases.

use smallvec::SmallVec;

use crate::{
    bucket::Bucket,
    store::plan::{Counter, CounterReply, Credit, Plan, Purpose, Replies},
};

/// Answers and changes the buckets as the plan wants; `changed` becomes true for those that are to be kept. (Of the
/// others nothing was taken: they are a function of time, and stay as they were before.)
///
/// Enforced counters grant together; a shadow counter counts what they granted as far as it has tokens. Settles are
/// ignored: nothing was ever leased here.
pub(super) fn answer(plan: &Plan, buckets: &mut [Bucket], changed: &mut [bool], now_us: u64) -> Replies {
    let mut granted = plan.n;
    let mut rooms = SmallVec::<[u64; 4]>::new();
    for (i, ((_, counter), bucket)) in plan.iter().zip(buckets.iter_mut()).enumerate() {
        if is_given(plan, i) {
            bucket.end_tick(&counter.numbers, now_us);
            give_back(plan, i, counter, bucket, now_us);
            administer(plan.purpose, counter, bucket);
            bucket.end_tick(&counter.numbers, now_us);
            changed[i] = true;
        }
        let room = bucket.room(counter.cost, plan.n);
        if counter.enforce {
            granted = granted.min(room);
        }
        rooms.push(room);
    }
    let mut replies = Replies { granted, ..Replies::default() };
    for (i, ((_, counter), bucket)) in plan.iter().zip(buckets.iter_mut()).enumerate() {
        let taken = granted.min(rooms[i]);
        if plan.purpose == Purpose::Spend && taken > 0 {
            bucket.end_tick(&counter.numbers, now_us);
            bucket.take(counter.cost, taken);
            changed[i] = true;
        }
        replies.counters.push(CounterReply { room: rooms[i], ..CounterReply::of(bucket, counter, now_us) });
    }
    replies
}

/// Does the plan change entry `i`'s counter before anything is taken?
fn is_given(plan: &Plan, i: usize) -> bool {
    match plan.purpose {
        Purpose::Look => false,
        Purpose::Spend => plan.credits().iter().any(|(at, credit)| *at == i && matches!(credit, Credit::Refund { .. })),
        Purpose::Reset | Purpose::Set(_) | Purpose::Add(_) => true,
    }
}

fn give_back(plan: &Plan, i: usize, counter: &Counter, bucket: &mut Bucket, now_us: u64) {
    for (_, credit) in plan.credits().iter().filter(|(entry, _)| *entry == i) {
        if let Credit::Refund { tokens, taken_us } = *credit {
            bucket.refund(&counter.numbers, tokens, taken_us, now_us);
        }
    }
}

fn administer(purpose: Purpose, counter: &Counter, bucket: &mut Bucket) {
    match purpose {
        Purpose::Spend | Purpose::Look => {}
        Purpose::Reset => bucket.set(&counter.numbers, counter.numbers.burst),
        Purpose::Set(tokens) => bucket.set(&counter.numbers, tokens),
        Purpose::Add(tokens) => bucket.add(&counter.numbers, tokens),
    }
}
