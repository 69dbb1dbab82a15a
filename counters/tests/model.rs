//! One model: random operations at random times give the same answers from the arithmetic, the embedded store and the
//! script, and what was allowed keeps the promise.

use std::cell::RefCell;

use edgequota_counters::store::{Counter, Plan, Purpose};
use edgequota_policy::Numbers;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::support::stores::{Counts, InProcess, Pure, Scripted, numbers};

const START: i64 = 1_760_000_000_000_000;
const SECOND: u64 = 1_000_000;

#[derive(Clone, Debug)]
struct Step {
    /// Microseconds since the step before; may be negative.
    wait_us: i64,
    spend: bool,
    n: u64,
    /// Which of the counters, in order.
    of: Vec<usize>,
    /// Which of the two sets of numbers: an edit, and an edit back.
    edited: bool,
}

#[derive(Clone, Debug)]
struct History {
    counters: Vec<(Counter, Counter)>,
    steps: Vec<Step>,
}

fn counter_strategy() -> impl Strategy<Value = Counter> {
    let sizes = prop_oneof![
        (1..50u64, 1..20u64, 1..10u64 * SECOND),
        (1..2000u64, 1..500u64, prop_oneof![Just(SECOND), Just(60 * SECOND), Just(3600 * SECOND)]),
        (1..4u64, 1..4u64, Just(86_400 * SECOND)),
        (1_000_000..50_000_000u64, 1..100u64, Just(SECOND)),
    ];
    let tick = prop_oneof![8 => Just(1u64), 1 => Just(1_000), 1 => Just(SECOND)];
    (sizes, tick, 1..4u64, prop::bool::weighted(0.7)).prop_map(
        |((average, burst, period_us), tick_us, cost, enforce)| {
            let mut numbers = numbers(average, burst, period_us);
            // Longer ticks as far as the cap of five years allows.
            if burst * period_us / average < 157_680_000 {
                numbers = Numbers { tick_us, period_us: numbers.period_us * tick_us, ..numbers };
            }
            Counter { cost: cost.min(burst), numbers, enforce, min_ttl_ms: 0 }
        },
    )
}

fn step_strategy(counters: usize) -> impl Strategy<Value = Step> {
    let wait_us = prop_oneof![
        4 => Just(0i64),
        6 => 0..2_000_000i64,
        3 => 0..200_000_000i64,
        1 => 0..400_000_000_000i64,
        2 => -1_100_000..0i64,
        1 => -100_000_000..0i64,
    ];
    let of = Just((0..counters).collect::<Vec<_>>())
        .prop_shuffle()
        .prop_flat_map(|order| (1..=order.len()).prop_map(move |many| order[..many].to_vec()));
    (wait_us, prop::bool::weighted(0.85), prop_oneof![4 => Just(1u64), 1 => 1..6u64], of, prop::bool::weighted(0.1))
        .prop_map(|(wait_us, spend, n, of, edited)| Step { wait_us, spend, n, of, edited })
}

fn history_strategy() -> impl Strategy<Value = History> {
    vec((counter_strategy(), counter_strategy()), 1..4).prop_flat_map(|counters| {
        let steps = vec(step_strategy(counters.len()), 1..60);
        (Just(counters), steps).prop_map(|(counters, steps)| History { counters, steps })
    })
}

fn plan_of(step: &Step, history: &History, run: u64) -> Plan {
    let mut plan = Plan::new(if step.spend { Purpose::Spend } else { Purpose::Look }, String::new());
    plan.n = step.n;
    for &i in &step.of {
        let (usual, edited) = &history.counters[i];
        plan.push(*if step.edited { edited } else { usual }, |key| key.push_str(&format!("rl:model:{run}:{i}")));
    }
    plan
}

#[test]
fn all_stores_answer_alike() {
    let scripted = RefCell::new(Scripted::new());
    let run = RefCell::new(0u64);
    let mut runner = TestRunner::new(Config { cases: 256, failure_persistence: None, ..Config::default() });
    let result = runner.run(&history_strategy(), |history| {
        *run.borrow_mut() += 1;
        let run = *run.borrow();
        let (mut pure, mut embedded) = (Pure::default(), InProcess::new());
        let mut now = START;
        for step in &history.steps {
            now = (now + step.wait_us).max(1);
            let plan = plan_of(step, &history, run);
            let wanted = pure.call(&plan, now as u64);
            prop_assert_eq!(&embedded.call(&plan, now as u64), &wanted, "embedded, {:?}", step);
            prop_assert_eq!(&scripted.borrow_mut().call(&plan, now as u64), &wanted, "script, {:?}", step);
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

/// Requests allowed within any interval must be at most B + r T: with `window` the times at which one was allowed.
fn assert_promise(allowed_at: &[u64], numbers: &Numbers) -> Result<(), TestCaseError> {
    for (i, from) in allowed_at.iter().enumerate() {
        for (j, to) in allowed_at.iter().enumerate().skip(i) {
            let spent = (j - i + 1) as u128;
            // spent <= burst + average * T / period, without division.
            let bound = u128::from(numbers.burst) * u128::from(numbers.period_us)
                + u128::from(numbers.average) * u128::from(to - from);
            prop_assert!(spent * u128::from(numbers.period_us) <= bound, "{spent} within {} us", to - from);
        }
    }
    Ok(())
}

#[test]
fn the_promise_holds_on_random_histories_and_not_much_less_is_allowed() {
    let strategy = (
        (1..200u64, 1..30u64, prop_oneof![Just(SECOND), Just(7 * SECOND), Just(60 * SECOND)]),
        vec(0..400_000u64, 100..400),
    );
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let result = runner.run(&strategy, |((average, burst, period), waits)| {
        let numbers = numbers(average, burst, period);
        let counter = Counter { cost: 1, numbers, enforce: true, min_ttl_ms: 0 };
        let mut store = InProcess::new();
        let mut plan = Plan::new(Purpose::Spend, String::new());
        plan.push(counter, |key| key.push('k'));
        let (mut now, mut allowed_at) = (START as u64, Vec::new());
        for wait in waits {
            now += wait;
            let answer = store.call(&plan, now);
            if answer.granted == 1 {
                allowed_at.push(now);
            } else {
                let again = now + answer.counters[0].retry_us;
                prop_assert_eq!(store.call(&plan, again - 1).granted, 0, "one microsecond before it said");
                prop_assert_eq!(store.call(&plan, again).granted, 1, "when it said");
                allowed_at.push(again);
                now = again;
            }
        }
        assert_promise(&allowed_at, &numbers)
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_thousand_million_a_month_are_exact_over_a_year() {
    // 10^9 tokens per 30 days, taken in a hundred thousand uneven portions over a simulated year: with doubles this
    // drifts by hundreds of tokens.
    let period = 30 * 86_400 * SECOND;
    let counter = Counter { cost: 1, numbers: numbers(1_000_000_000, 1_000_000, period), enforce: true, min_ttl_ms: 0 };
    let year = 365 * 86_400 * SECOND;
    for store in [&mut Pure::default() as &mut dyn Counts, &mut InProcess::new()] {
        let mut plan = Plan::new(Purpose::Spend, String::new());
        plan.n = 10_000_000;
        plan.push(counter, |key| key.push('k'));
        let start = START as u64;
        let mut spent = u128::from(store.call(&plan, start).granted);
        let (mut now, mut portion) = (start, 0u64);
        while now < start + year {
            portion = portion.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now = (now + (portion >> 32) % 630_720_000).min(start + year);
            spent += u128::from(store.call(&plan, now).granted);
        }
        let exact = 1_000_000 + 1_000_000_000 * u128::from(year) / u128::from(period);
        assert!(spent <= exact && exact - spent <= 1, "spent {spent}, exactly {exact}");
    }
}
