//! The state machine explored at random: holders that spend on their own clocks, messages that are late, lost or repeated,
//! holders that die and join, edits, exact callers beside. After each history every interval is judged.
//!
//! `EDGEQUOTA_EXPLORE_SEED` starts with that history (a failure names its own), `EDGEQUOTA_EXPLORE_SECONDS` sets for how
//! long the model is explored (default 12), `EDGEQUOTA_EXPLORE_SCRIPT` how many histories the script goes through too
//! (default 150).
#![allow(clippy::print_stdout)] // the seeds

mod judge;
mod simulation;

use std::time::{Duration, Instant};

use edgequota_counters::store::{Plan, Replies};
use simulation::{Clocks, Simulation};

use crate::support::{
    machine::{Mutant, Pure},
    stores::{Counts, Scripted},
};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn first_seed() -> u64 {
    let seed = variable("EDGEQUOTA_EXPLORE_SEED").unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    println!("histories from EDGEQUOTA_EXPLORE_SEED={seed} on");
    seed
}

fn clocks_of(seed: u64) -> Clocks {
    match seed % 4 {
        0 => Clocks::Jittered,
        1 => Clocks::Jumping,
        _ => Clocks::Drifting,
    }
}

/// Histories of the model until the time is over or one breaches; answers how many, and the breach.
fn explore(mutant: Mutant, clocks: impl Fn(u64) -> Clocks, seed: u64, budget: Duration) -> (u64, Option<String>) {
    let end = Instant::now() + budget;
    let mut histories = 0;
    while Instant::now() < end {
        let this = seed.wrapping_add(histories);
        let mut pure = Pure::mutant(mutant);
        histories += 1;
        if let Err(breach) = Simulation::new(this, clocks(this)).run(&mut pure) {
            return (histories, Some(format!("EDGEQUOTA_EXPLORE_SEED={this}: {breach}")));
        }
    }
    (histories, None)
}

#[test]
fn no_history_breaches() {
    let seconds = variable("EDGEQUOTA_EXPLORE_SECONDS").unwrap_or(12);
    let (histories, breach) = explore(Mutant::None, clocks_of, first_seed(), Duration::from_secs(seconds));
    println!("{histories} histories");
    assert_eq!(breach, None);
    assert!(histories > 100, "too few to say anything: {histories}");
}

#[test]
fn what_is_wrong_is_noticed() {
    let seed = first_seed();
    for mutant in
        [Mutant::CreditsExpired, Mutant::LazyRefill, Mutant::CreditsSpent, Mutant::FullRefund, Mutant::KeepsBegunTick]
    {
        let (histories, breach) = explore(mutant, |_| Clocks::Drifting, seed, Duration::from_secs(90));
        assert!(breach.is_some(), "{mutant:?} passed {histories} histories");
        println!("{mutant:?} is noticed after {histories} histories");
    }
}

/// The script, and the model beside it, from which the invariants are read.
struct Both<'a> {
    scripted: &'a mut Scripted,
    pure: Pure,
}

impl Counts for Both<'_> {
    fn call(&mut self, plan: &Plan, now_us: u64) -> Replies {
        self.batch(std::slice::from_ref(plan), now_us).remove(0)
    }

    fn batch(&mut self, plans: &[Plan], now_us: u64) -> Vec<Replies> {
        let replies = self.scripted.batch(plans, now_us);
        assert_eq!(replies, self.pure.batch(plans, now_us), "script and model");
        replies
    }

    fn model(&self) -> Option<&Pure> {
        Some(&self.pure)
    }
}

#[test]
fn no_history_breaches_on_real_redis() {
    let seed = first_seed();
    let mut scripted = Scripted::new();
    for this in (0..variable("EDGEQUOTA_EXPLORE_SCRIPT").unwrap_or(150)).map(|i| seed.wrapping_add(i)) {
        let mut both = Both { scripted: &mut scripted, pure: Pure::default() };
        let breach = Simulation::new(this, clocks_of(this)).run(&mut both).err();
        assert_eq!(breach, None, "EDGEQUOTA_EXPLORE_SEED={this}");
    }
}
