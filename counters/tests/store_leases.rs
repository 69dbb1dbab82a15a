//! Leases and what is given back, in the script and in the model of the specification; refunds and an administrator's
//! changes in every store.

use edgequota_counters::store::{Counter, CounterReply, Credit, Plan, Purpose, Replies};

use crate::support::stores::{Counts, InProcess, Pure, Scripted, enforced, everywhere, plan};

const SECOND: u64 = 1_000_000;
/// The start of an epoch.
const START: u64 = 1_760_000_000_000_000;
const EPOCH: u64 = START / SECOND;
const KEY: &str = "rl:edgequota:acme";

fn where_leases_are(test: impl Fn(&mut dyn Counts)) {
    test(&mut Pure::default());
    test(&mut Scripted::new());
}

/// One call for n requests on one counter.
struct Call(Plan);

impl Call {
    fn of(n: u64, counter: Counter) -> Call {
        let mut plan = plan(Purpose::Spend, &[(KEY, counter)]);
        plan.n = n;
        Call(plan)
    }

    fn lease(mut self, tokens: u64) -> Call {
        self.0.lease(0, tokens);
        self
    }

    fn settle(mut self, epoch: u64, spent: u64, unspent: u64) -> Call {
        self.0.give_back(0, Credit::Settle { epoch, spent, unspent });
        self
    }

    fn refund(mut self, tokens: u64, taken_us: u64) -> Call {
        self.0.give_back(0, Credit::Refund { tokens, taken_us });
        self
    }

    fn at(&self, store: &mut dyn Counts, now_us: u64) -> CounterReply {
        store.call(&self.0, now_us).counters[0]
    }
}

/// Refills in an hour: no test sees it.
fn slow(burst: u64) -> Counter {
    enforced(1, burst, 3600 * SECOND)
}

#[test]
fn at_most_half_is_out_and_one_request_stays_possible() {
    where_leases_are(|store| {
        let reply = Call::of(1, slow(100)).lease(500).at(store, START);
        assert_eq!((reply.leased, reply.epoch, reply.tokens), (50, EPOCH, 49));
        assert_eq!(Call::of(0, slow(100)).lease(500).at(store, START).leased, 0);
    });
    where_leases_are(|store| {
        // B - c = 2 is less than a half.
        let dear = Counter { cost: 8, ..slow(10) };
        assert_eq!(Call::of(0, dear).lease(9).at(store, START).leased, 2);
        assert_eq!(Call::of(1, dear).at(store, START).tokens, 0, "the one request");
    });
    where_leases_are(|store| {
        assert_eq!(Call::of(0, slow(1)).lease(1).at(store, START).leased, 0, "a limit of one is exact");
        assert_eq!(Call::of(7, slow(10)).lease(5).at(store, START).leased, 3, "never more than there is");
    });
}

#[test]
fn room_comes_back_within_two_epochs_and_the_tokens_do_not() {
    where_leases_are(|store| {
        let limit = enforced(10, 100, SECOND);
        assert_eq!(Call::of(0, limit).lease(50).at(store, START + SECOND * 9 / 10).leased, 50);
        // The bucket holds fifty beside what is out: time adds nothing.
        assert_eq!(Call::of(0, limit).at(store, START + 2 * SECOND - 1).tokens, 50);
        let after = Call::of(0, limit).at(store, START + 2 * SECOND);
        assert_eq!(after.tokens, 50, "what ended is not credited");
        assert_eq!(Call::of(0, limit).at(store, START + 3 * SECOND).tokens, 60, "but its room refills");
        assert_eq!(Call::of(0, limit).lease(50).at(store, START + 3 * SECOND).leased, 50);
    });
}

#[test]
fn a_settle_frees_the_room_and_credits_what_was_unspent() {
    where_leases_are(|store| {
        let grant = Call::of(0, slow(100)).lease(50).at(store, START);
        let reply = Call::of(0, slow(100)).settle(grant.epoch, 20, 10).at(store, START);
        assert_eq!(reply.tokens, 60);
        assert_eq!(Call::of(0, slow(100)).lease(50).at(store, START).leased, 30, "20 are out still");
        // In the next epoch it is the older slot; two later it is nobody's.
        let reply = Call::of(0, slow(100)).settle(EPOCH, 0, 5).at(store, START + SECOND);
        assert_eq!(reply.tokens, 35);
        let reply = Call::of(0, slow(100)).settle(EPOCH, 0, 5).at(store, START + 2 * SECOND);
        assert_eq!(reply.tokens, 35);
    });
    where_leases_are(|store| {
        Call::of(0, slow(100)).lease(10).at(store, START);
        // More than is out: what was spent comes first.
        assert_eq!(Call::of(0, slow(100)).settle(EPOCH, 8, 50).at(store, START).tokens, 92);
    });
}

#[test]
fn a_clock_that_steps_back_drops_the_leases_of_its_old_time() {
    where_leases_are(|store| {
        Call::of(10, slow(100)).lease(50).at(store, START);
        let replies: Replies = store.call(&Call::of(0, slow(100)).lease(99).0, START - 10 * SECOND);
        assert_eq!((replies.clock_steps, replies.counters[0].tokens, replies.counters[0].leased), (1, 0, 40));
        assert_eq!(replies.counters[0].epoch, EPOCH - 10);
    });
}

#[test]
fn an_administrator_leaves_room_for_what_is_out() {
    where_leases_are(|store| {
        Call::of(30, slow(100)).lease(50).at(store, START);
        let mut admin = |purpose| store.call(&plan(purpose, &[(KEY, slow(100))]), START).counters[0].tokens;
        assert_eq!(admin(Purpose::Reset), 50);
        assert_eq!(admin(Purpose::Set(7)), 7);
        assert_eq!(admin(Purpose::Set(70)), 50);
        assert_eq!(admin(Purpose::Add(-20)), 30);
        assert_eq!(admin(Purpose::Add(i64::MAX)), 50);
        assert_eq!(admin(Purpose::Add(i64::MIN)), 0);
    });
}

#[test]
fn an_administrator_changes_counters_in_every_store() {
    everywhere(|store| {
        Call::of(30, slow(100)).at(store, START);
        let mut admin = |purpose| store.call(&plan(purpose, &[(KEY, slow(100))]), START).counters[0].tokens;
        assert_eq!(admin(Purpose::Add(5)), 75);
        assert_eq!(admin(Purpose::Add(-80)), 0);
        assert_eq!(admin(Purpose::Set(12)), 12);
        assert_eq!(admin(Purpose::Set(u64::MAX)), 100);
        assert_eq!(admin(Purpose::Set(0)), 0);
        assert_eq!(admin(Purpose::Reset), 100);
        assert_eq!(admin(Purpose::Look), 100);
    });
}

#[test]
fn a_refund_gives_back_what_has_not_refilled_since() {
    everywhere(|store| {
        let limit = enforced(10, 100, SECOND);
        Call::of(100, limit).at(store, START);
        // Half a second later five have refilled: of twenty taken then, fifteen come back.
        assert_eq!(Call::of(0, limit).refund(20, START).at(store, START + SECOND / 2).tokens, 20);
        assert_eq!(Call::of(0, limit).refund(3, START).at(store, START + SECOND / 2).tokens, 20, "all has refilled");
        assert_eq!(Call::of(0, limit).refund(u64::MAX, START + SECOND).at(store, START + SECOND).tokens, 100);
    });
    everywhere(|store| {
        let limit = slow(100);
        Call::of(10, limit).at(store, START);
        assert_eq!(Call::of(1, limit).refund(4, START).at(store, START).tokens, 93, "before anything is taken");
        let hour_ahead = START + 3600 * SECOND;
        assert_eq!(Call::of(0, limit).refund(4, hour_ahead).at(store, START).tokens, 93, "of a time that never was");
    });
}

#[test]
fn a_refund_leaves_room_for_what_is_out() {
    where_leases_are(|store| {
        Call::of(10, slow(100)).lease(50).at(store, START);
        assert_eq!(Call::of(0, slow(100)).refund(60, START).at(store, START).tokens, 50);
    });
}

#[test]
fn the_embedded_store_never_leases() {
    let mut store = InProcess::new();
    let reply = Call::of(1, slow(100)).lease(50).settle(EPOCH, 0, 50).at(&mut store, START);
    assert_eq!((reply.leased, reply.epoch, reply.tokens), (0, 0, 99));
}

#[test]
fn one_counter_in_two_plans_of_a_batch_is_counted_twice() {
    everywhere(|store| {
        let plans = [Call::of(3, slow(5)).0, Call::of(3, slow(5)).0, Call::of(0, slow(5)).0];
        let granted: Vec<u64> = store.batch(&plans, START).iter().map(|replies| replies.granted).collect();
        assert_eq!(granted, [3, 2, 0]);
    });
}

#[test]
fn lease_fields_are_written_once_leases_are_used() {
    let mut store = Scripted::new();
    Call::of(1, slow(100)).at(&mut store, START);
    assert_eq!(store.server.hash(KEY).len(), 4);
    Call::of(1, slow(100)).lease(20).at(&mut store, START);
    let hash = store.server.hash(KEY);
    let field = |name: &str| hash[name].clone();
    assert_eq!((field("e"), field("a"), field("b")), (EPOCH.to_string(), "20".to_owned(), "0".to_owned()));
    assert_eq!((field("tokens"), field("last")), ("78".to_owned(), START.to_string()));
    // A call that never leases honours and keeps them.
    Call::of(1, slow(100)).at(&mut store, START + SECOND);
    assert_eq!((&store.server.hash(KEY)["a"], &store.server.hash(KEY)["b"]), (&"0".to_owned(), &"20".to_owned()));
    for (name, value) in [("e", "x"), ("a", "-1"), ("b", "1.5"), ("a", "0x1"), ("e", "")] {
        store.server.run(&["HSET", KEY, "e", &EPOCH.to_string(), "a", "1", "b", "0", name, value]);
        let replies = store.call(&Call::of(1, slow(100)).0, START + SECOND);
        assert_eq!((replies.granted, replies.corrupt), (0, 1), "{name} = {value}");
        assert_eq!(store.server.hash(KEY).len(), 4, "an empty bucket without leases");
    }
    store.server.run(&["HSET", KEY, "e", "1"]);
    assert_eq!(store.call(&Call::of(1, slow(100)).0, START + SECOND).corrupt, 1, "only some of the three");
}

#[test]
fn what_the_original_wrote_last_is_not_leased_from() {
    let mut store = Scripted::new();
    store.server.run(&["HSET", KEY, "last", &START.to_string(), "tokens", "80.5"]);
    assert_eq!(Call::of(1, slow(100)).lease(20).at(&mut store, START).leased, 0);
    assert_eq!(Call::of(1, slow(100)).lease(20).at(&mut store, START).leased, 20, "whole numbers by now");
}
