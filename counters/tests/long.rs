//! Long periods: nothing is lost and nothing is won over years.

use edgequota_counters::store::{Counter, Plan, Purpose};

use crate::support::stores::{Counts, InProcess, Pure, Scripted, enforced, everywhere, plan};

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;
const START: u64 = 1_760_000_000_000_000;
const KEY: &str = "rl:edgequota:long";

/// A thousand million in thirty days, taken one by one, a call each millisecond, in a window of each day of a year; what
/// gathers between two windows is taken at the start of the next, so that nothing overflows and every token counts.
fn a_year_by_the_millisecond(store: &mut dyn Counts, calls_a_window: u64) {
    let (average, period, burst) = (1_000_000_000, 30 * DAY, 100_000_000);
    let counter = enforced(average, burst, period);
    let one = plan(Purpose::Spend, &[(KEY, counter)]);
    let mut all = one.clone();
    all.n = burst;
    let (mut spent, mut now) = (0u128, START);
    for day in 0..365 {
        now = START + day * DAY + (day * 7919) % 1000;
        spent += u128::from(store.call(&all, now).granted);
        for _ in 0..calls_a_window {
            now += 1000;
            spent += u128::from(store.call(&one, now).granted);
        }
    }
    spent += u128::from(store.call(&all, now).granted);
    let exact = u128::from(burst) + u128::from(average) * u128::from(now - START) / u128::from(period);
    assert!(spent <= exact && exact - spent <= 1, "spent {spent}, exactly {exact}");
}

#[test]
fn a_thousand_million_a_month_one_by_one() {
    a_year_by_the_millisecond(&mut Pure::default(), 2000);
    a_year_by_the_millisecond(&mut InProcess::new(), 2000);
    a_year_by_the_millisecond(&mut Scripted::new(), 30);
}

#[test]
fn one_token_a_day_for_years() {
    everywhere(|store| {
        let one = plan(Purpose::Spend, &[(KEY, enforced(1, 1, DAY))]);
        assert_eq!(store.call(&one, START).granted, 1);
        for day in 1..3 * 365 {
            let answer = store.call(&one, START + day * DAY - 1);
            assert_eq!((answer.granted, answer.counters[0].retry_us), (0, 1), "day {day}");
            assert_eq!(store.call(&one, START + day * DAY).granted, 1, "day {day}");
        }
    });
}

#[test]
fn a_request_that_costs_more_waits_for_all_it_costs() {
    everywhere(|store| {
        let dear = plan(Purpose::Spend, &[(KEY, Counter { cost: 7, ..enforced(3, 10, DAY) })]);
        let answer = store.call(&dear, START);
        assert_eq!((answer.granted, answer.counters[0].tokens), (1, 3));
        // Four more tokens take a day and a third; then seven every seven thirds.
        assert_eq!(answer.counters[0].retry_us, 4 * DAY / 3);
        let mut at = START + 4 * DAY / 3;
        for _ in 0..400 {
            assert_eq!(store.call(&dear, at - 1).granted, 0);
            assert_eq!(store.call(&dear, at).granted, 1);
            at += 7 * DAY / 3;
        }
    });
}

#[test]
fn full_after_five_years() {
    everywhere(|store| {
        let year = 365 * DAY;
        let slow = enforced(1, 5, year);
        let mut all: Plan = plan(Purpose::Spend, &[(KEY, slow)]);
        all.n = 5;
        assert_eq!(store.call(&all, START).granted, 5);
        assert_eq!(store.call(&plan(Purpose::Look, &[(KEY, slow)]), START + 5 * year - 1).counters[0].tokens, 4);
        assert_eq!(store.call(&all, START + 5 * year).granted, 5);
        assert_eq!(store.call(&all, START + 300 * year).granted, 5, "and not more after centuries");
    });
}
