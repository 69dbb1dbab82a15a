//! One model: random operations at random times give the same answers from the arithmetic, the embedded store and the
//! script, and what was allowed keeps the promise.

use std::cell::RefCell;

use edgequota_counters::store::{Counter, Credit, Plan, Purpose};
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
    /// Sent together.
    plans: Vec<Asked>,
    /// Somebody spoils or writes the first counter before.
    foreign: Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Foreign {
    Nobody,
    Spoils,
    SpoilsLease,
    OriginalWrites(u64),
}

#[derive(Clone, Debug)]
struct Asked {
    purpose: Purpose,
    n: u64,
    /// Which of the counters, in order.
    of: Vec<usize>,
    /// Which of the two sets of numbers: an edit, and an edit back.
    edited: bool,
    lease: Option<u64>,
    credit: Option<Back>,
}

/// Something given back, relative to the time of the call.
#[derive(Clone, Copy, Debug)]
enum Back {
    Settle { epochs_ago: u64, spent: u64, unspent: u64 },
    Refund { tokens: u64, us_ago: i64 },
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

fn purpose_strategy() -> impl Strategy<Value = Purpose> {
    prop_oneof![
        14 => Just(Purpose::Spend),
        3 => Just(Purpose::Look),
        1 => Just(Purpose::Reset),
        1 => (0..600u64).prop_map(Purpose::Set),
        1 => prop_oneof![-600..600i64, Just(i64::MAX), Just(i64::MIN)].prop_map(Purpose::Add),
    ]
}

fn back_strategy() -> impl Strategy<Value = Back> {
    prop_oneof![
        3 => (0..4u64, 0..40u64, 0..40u64)
            .prop_map(|(epochs_ago, spent, unspent)| Back::Settle { epochs_ago, spent, unspent }),
        2 => (prop_oneof![0..60u64, Just(u64::MAX)], prop_oneof![-2_000_000..20_000_000i64, 0..3000i64])
            .prop_map(|(tokens, us_ago)| Back::Refund { tokens, us_ago }),
    ]
}

fn asked_strategy(counters: usize) -> impl Strategy<Value = Asked> {
    let of = Just((0..counters).collect::<Vec<_>>())
        .prop_shuffle()
        .prop_flat_map(|order| (1..=order.len()).prop_map(move |many| order[..many].to_vec()));
    let n = prop_oneof![4 => Just(1u64), 1 => 1..6u64, 1 => Just(0u64)];
    let lease = prop::option::weighted(0.4, prop_oneof![1..60u64, Just(u64::MAX)]);
    let credit = prop::option::weighted(0.3, back_strategy());
    (purpose_strategy(), n, of, prop::bool::weighted(0.1), lease, credit)
        .prop_map(|(purpose, n, of, edited, lease, credit)| Asked { purpose, n, of, edited, lease, credit })
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
    let foreign = prop_oneof![
        30 => Just(Foreign::Nobody),
        1 => Just(Foreign::Spoils),
        1 => Just(Foreign::SpoilsLease),
        1 => (0..50u64).prop_map(Foreign::OriginalWrites),
    ];
    let plans = prop_oneof![
        2 => vec(asked_strategy(counters), 1..2),
        1 => vec(asked_strategy(counters), 1..5),
    ];
    (wait_us, plans, foreign).prop_map(|(wait_us, plans, foreign)| Step { wait_us, plans, foreign })
}

fn history_strategy() -> impl Strategy<Value = History> {
    vec((counter_strategy(), counter_strategy()), 1..4).prop_flat_map(|counters| {
        let steps = vec(step_strategy(counters.len()), 1..60);
        (Just(counters), steps).prop_map(|(counters, steps)| History { counters, steps })
    })
}

fn key_of(run: u64, i: usize) -> String {
    format!("rl:model:{run}:{i}")
}

fn plan_of(asked: &Asked, history: &History, run: u64, now: u64, leases: bool) -> Plan {
    let mut plan = Plan::new(asked.purpose, String::new());
    plan.n = asked.n;
    for (entry, &i) in asked.of.iter().enumerate() {
        let (usual, edited) = &history.counters[i];
        plan.push(*if asked.edited { edited } else { usual }, |key| key.push_str(&key_of(run, i)));
        // Not of every counter, and one amount for several.
        if let Some(tokens) = asked.lease
            && leases
            && entry % 3 != 2
        {
            plan.lease(entry, tokens);
        }
    }
    let credit = asked.credit.and_then(|back| match back {
        Back::Settle { epochs_ago, spent, unspent } => {
            leases.then(|| Credit::Settle { epoch: (now / SECOND).saturating_sub(epochs_ago), spent, unspent })
        }
        Back::Refund { tokens, us_ago } => {
            Some(Credit::Refund { tokens, taken_us: now.saturating_add_signed(-us_ago) })
        }
    });
    if let Some(credit) = credit {
        plan.give_back(asked.of.len() - 1, credit);
    }
    plan
}

/// What is done to the first counter from outside, in the script's server and in the model.
fn meddle(foreign: Foreign, run: u64, now: u64, scripted: &Scripted, pure: &mut Pure) {
    let key = key_of(run, 0);
    match foreign {
        Foreign::Nobody => {}
        Foreign::Spoils => {
            scripted.server.run(&["SET", &key, "spoiled"]);
            pure.spoil(&key);
        }
        Foreign::SpoilsLease => {
            let fields = ["last", &now.to_string(), "tokens", "1", "e", "7", "a", "x", "b", "0"].map(str::to_owned);
            scripted.server.run(&["DEL", &key]);
            let words: Vec<&str> =
                ["HSET", key.as_str()].into_iter().chain(fields.iter().map(String::as_str)).collect();
            scripted.server.run(&words);
            pure.spoil(&key);
        }
        Foreign::OriginalWrites(tokens) => {
            if scripted.server.run(&["TYPE", &key]) != redis::Value::SimpleString("string".to_owned())
                && !pure.is_spoiled(&key)
            {
                scripted.server.run(&["HSET", &key, "last", &now.to_string(), "tokens", &format!("{tokens}.5")]);
                pure.original_writes(&key, now, tokens);
            }
        }
    }
}

/// The script against the model, leases and all that others may write included.
#[test]
fn the_script_answers_like_the_specification() {
    let scripted = RefCell::new(Scripted::new());
    let run = RefCell::new(0u64);
    let mut runner = TestRunner::new(Config { cases: 256, failure_persistence: None, ..Config::default() });
    let result = runner.run(&history_strategy(), |history| {
        *run.borrow_mut() += 1;
        let run = *run.borrow();
        let mut pure = Pure::default();
        let mut now = START;
        for step in &history.steps {
            now = (now + step.wait_us).max(1);
            meddle(step.foreign, run, now as u64, &scripted.borrow(), &mut pure);
            let plans: Vec<Plan> =
                step.plans.iter().map(|asked| plan_of(asked, &history, run, now as u64, true)).collect();
            let wanted = pure.batch(&plans, now as u64);
            let got = scripted.borrow_mut().batch(&plans, now as u64);
            prop_assert_eq!(&got, &wanted, "at {}, {:?}", now, step);
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

/// All three, without leases (the embedded store has none) and garbage.
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
            let plans: Vec<Plan> =
                step.plans.iter().map(|asked| plan_of(asked, &history, run, now as u64, false)).collect();
            let wanted = pure.batch(&plans, now as u64);
            prop_assert_eq!(&embedded.batch(&plans, now as u64), &wanted, "embedded, {:?}", step);
            prop_assert_eq!(&scripted.borrow_mut().batch(&plans, now as u64), &wanted, "script, {:?}", step);
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
