//! The one suite: what every store does alike.

use edgequota_counters::store::{Counter, Plan, Purpose, Replies};

use crate::support::stores::{Counts, enforced, everywhere, plan, shadow};

const SECOND: u64 = 1_000_000;
const START: u64 = 1_760_000_000_000_000;

fn spend(store: &mut dyn Counts, at: u64, counters: &[(&str, Counter)]) -> Replies {
    store.call(&plan(Purpose::Spend, counters), at)
}

fn look(store: &mut dyn Counts, at: u64, counters: &[(&str, Counter)]) -> Replies {
    store.call(&plan(Purpose::Look, counters), at)
}

#[test]
fn starts_full_empties_and_refills_at_its_rate() {
    everywhere(|store| {
        let limit = [("rl:edgequota:a", enforced(2, 5, SECOND))];
        for left in (0..5).rev() {
            let answer = spend(store, START, &limit);
            assert_eq!((answer.granted, answer.counters[0].tokens), (1, left));
        }
        let answer = spend(store, START, &limit);
        assert_eq!(answer.granted, 0);
        assert_eq!(answer.counters[0].retry_us, SECOND / 2);
        assert_eq!(answer.counters[0].reset_us, 5 * SECOND / 2);
        assert_eq!(spend(store, START + SECOND / 2 - 1, &limit).granted, 0, "one microsecond early");
        assert_eq!(spend(store, START + SECOND / 2, &limit).granted, 1, "exactly when it said");
        assert_eq!(spend(store, START + SECOND / 2, &limit).granted, 0);
        assert_eq!(look(store, START + 60 * SECOND, &limit).counters[0].tokens, 5, "never more than the burst");
    });
}

#[test]
fn a_look_takes_nothing() {
    everywhere(|store| {
        let limit = [("rl:edgequota:a", enforced(1, 3, SECOND))];
        for _ in 0..10 {
            let answer = look(store, START, &limit);
            assert_eq!((answer.granted, answer.counters[0].tokens, answer.counters[0].reset_us), (1, 3, 0));
        }
        spend(store, START, &limit);
        let answer = look(store, START, &limit);
        assert_eq!((answer.granted, answer.counters[0].tokens, answer.counters[0].reset_us), (1, 2, SECOND));
    });
}

#[test]
fn several_limits_pass_together_or_not_at_all() {
    everywhere(|store| {
        let small = ("{rl:edgequota:a}:small", enforced(1, 1, 10 * SECOND));
        let large = ("rl:edgequota:a", enforced(1, 10, SECOND));
        assert_eq!(spend(store, START, &[large, small]).granted, 1);
        for _ in 0..5 {
            let answer = spend(store, START, &[large, small]);
            assert_eq!(answer.granted, 0);
            assert_eq!((answer.counters[0].room, answer.counters[0].tokens), (1, 9), "the large one gives nothing");
            assert_eq!((answer.counters[1].room, answer.counters[1].retry_us), (0, 10 * SECOND));
        }
        assert_eq!(look(store, START, &[large]).counters[0].tokens, 9);
    });
}

#[test]
fn a_shadow_limit_never_refuses_and_counts_only_what_passes() {
    everywhere(|store| {
        let real = ("rl:edgequota:a", enforced(1, 2, 10 * SECOND));
        let ghost = ("{rl:edgequota:a}:ghost", shadow(1, 1, 10 * SECOND));
        let answer = spend(store, START, &[real, ghost]);
        assert_eq!((answer.granted, answer.counters[1].room, answer.counters[1].tokens), (1, 1, 0));
        let answer = spend(store, START, &[real, ghost]);
        assert_eq!((answer.granted, answer.counters[1].room), (1, 0), "an empty shadow limit refuses nobody");
        let later = START + 10 * SECOND;
        assert_eq!(look(store, later, &[ghost]).counters[0].tokens, 1);
        spend(store, later, &[real]);
        let answer = spend(store, later, &[real, ghost]);
        assert_eq!(answer.granted, 0);
        assert_eq!(answer.counters[1].tokens, 1, "a refused request is not counted by a shadow limit");
        assert_eq!(spend(store, later, &[ghost]).granted, 1, "shadow limits alone always pass");
    });
}

#[test]
fn several_requests_in_one_call_get_what_there_is() {
    everywhere(|store| {
        let counters = [("rl:edgequota:a", Counter { cost: 3, ..enforced(1, 10, SECOND) })];
        let mut many: Plan = plan(Purpose::Spend, &counters);
        many.n = 5;
        let answer = store.call(&many, START);
        assert_eq!((answer.granted, answer.counters[0].room, answer.counters[0].tokens), (3, 3, 1));
        assert_eq!(answer.counters[0].retry_us, 2 * SECOND, "until three tokens are there");
    });
}

#[test]
fn a_clock_that_went_back_a_little_is_waited_for() {
    everywhere(|store| {
        let limit = [("rl:edgequota:a", enforced(1, 2, SECOND))];
        spend(store, START, &limit);
        spend(store, START, &limit);
        let answer = spend(store, START - SECOND, &limit);
        assert_eq!((answer.granted, answer.clock_steps), (0, 0));
        assert_eq!(answer.counters[0].retry_us, 2 * SECOND, "the difference lengthens the wait");
        assert_eq!(spend(store, START + SECOND - 1, &limit).granted, 0, "and gives no credit");
        assert_eq!(spend(store, START + SECOND, &limit).granted, 1);
    });
}

#[test]
fn a_clock_that_stepped_back_is_adopted_without_credit() {
    everywhere(|store| {
        let limit = [("rl:edgequota:a", enforced(1, 2, SECOND))];
        spend(store, START, &limit);
        spend(store, START, &limit);
        let hour_ago = START - 3600 * SECOND;
        let answer = spend(store, hour_ago, &limit);
        assert_eq!((answer.granted, answer.clock_steps, answer.counters[0].tokens), (0, 1, 0));
        assert_eq!(answer.counters[0].retry_us, SECOND);
        let answer = spend(store, hour_ago + SECOND, &limit);
        assert_eq!((answer.granted, answer.clock_steps), (1, 0), "refills on the new time, stepped once");
    });
}

#[test]
fn an_edit_keeps_what_was_spent() {
    everywhere(|store| {
        let key = "rl:edgequota:a";
        for _ in 0..8 {
            spend(store, START, &[(key, enforced(1, 10, SECOND))]);
        }
        assert_eq!(look(store, START, &[(key, enforced(7, 100, 3 * SECOND))]).counters[0].tokens, 2);
        assert_eq!(look(store, START, &[(key, enforced(7, 1, 3 * SECOND))]).counters[0].tokens, 1, "a smaller burst");
        let answer = spend(store, START, &[(key, enforced(7, 1, 3 * SECOND))]);
        assert_eq!(answer.counters[0].tokens, 0);
    });
}

#[test]
fn a_token_a_day() {
    everywhere(|store| {
        let day = 86_400 * SECOND;
        let limit = [("rl:edgequota:a", enforced(1, 1, day))];
        assert_eq!(spend(store, START, &limit).granted, 1);
        for hour in 1..24 {
            let answer = spend(store, START + hour * day / 24, &limit);
            assert_eq!(answer.granted, 0);
            assert_eq!(answer.counters[0].retry_us, day - hour * day / 24);
        }
        assert_eq!(spend(store, START + day, &limit).granted, 1);
        assert_eq!(spend(store, START + day, &limit).granted, 0);
    });
}

#[test]
fn long_ticks_give_no_credit_twice() {
    everywhere(|store| {
        // Counted in ticks of a second: a token spent late in a tick must not come back at the end of it.
        let mut limit = enforced(1000, 5, SECOND);
        limit.numbers.tick_us = SECOND;
        limit.numbers.grains_per_token = 1;
        limit.numbers.grains_per_tick = 1000;
        let limit = [("rl:edgequota:a", limit)];
        let late = START + SECOND * 9 / 10;
        spend(store, START, &limit);
        for _ in 0..5 {
            assert_eq!(spend(store, late + SECOND, &limit).granted, 1);
        }
        assert_eq!(spend(store, late + SECOND + SECOND / 5, &limit).granted, 0, "0.2 s after the last token");
        assert_eq!(spend(store, late + 2 * SECOND, &limit).granted, 1);
    });
}
