//! One random history of a few holders around one store.

use edgequota_counters::store::{Counter, Credit, Plan, Purpose, Replies};
use edgequota_policy::Numbers;
use fastrand::Rng;

use super::judge::{Allowance, Use, judge};
use crate::support::{
    machine::L,
    stores::{Counts, numbers},
};

const START: u64 = 1_760_000_000_000_000;
const KEYS: usize = 2;
/// By how much one reading of a jittered clock lies beside, at most; microseconds.
const JITTER: u64 = 15_000;
const YEAR: u64 = 365 * 86_400 * L;

/// What the store's clock does beside running up to 3 % too fast or too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    Drifting,
    /// Each reading lies a little beside.
    Jittered,
    /// Another server's clock takes over, now and then.
    Jumping,
}

/// A limit as it is edited.
struct Limit {
    cost: u64,
    versions: Vec<Numbers>,
}

/// Tokens that a worker holds.
struct Lease {
    key: usize,
    numbers: Numbers,
    epoch: u64,
    left: u64,
    /// Spent and not yet reported.
    spent: u64,
    /// On the worker's clock.
    ends: u64,
}

struct Holder {
    id: u64,
    /// Thousandths of the true time that its clock runs.
    rate: u64,
    version: [usize; KEYS],
    leases: Vec<Lease>,
}

/// A call under way. What is in it was decided when it was sent.
struct Message {
    due: u64,
    holder: u64,
    /// On the holder's clock.
    sent: u64,
    plan: Plan,
    keys: Vec<usize>,
}

/// An answer under way.
struct Answer {
    due: u64,
    holder: u64,
    leases: Vec<Lease>,
    refund: Option<(Vec<usize>, Vec<usize>, u64, u64)>,
}

pub struct Simulation {
    rng: Rng,
    clocks: Clocks,
    /// True microseconds since the start.
    time: u64,
    store_rate: u64,
    /// What jumps have added to the store's clock.
    offset: i64,
    limits: Vec<Limit>,
    newest: [usize; KEYS],
    holders: Vec<Holder>,
    next_holder: u64,
    messages: Vec<Message>,
    answers: Vec<Answer>,
    uses: Vec<Vec<Use>>,
    allowance: Allowance,
}

fn random_numbers(rng: &mut Rng, period_us: u64, tick_us: u64) -> Numbers {
    let burst = if rng.bool() { rng.u64(1..=12) } else { rng.u64(1..=120) };
    let average = if rng.bool() { rng.u64(1..=10) } else { rng.u64(1..=300) };
    let plain = numbers(average, burst, period_us);
    // The same grains for longer ticks.
    Numbers { tick_us, period_us: period_us * tick_us, ..plain }
}

impl Simulation {
    pub fn new(seed: u64, clocks: Clocks) -> Simulation {
        let mut rng = Rng::with_seed(seed);
        let limits = (0..KEYS)
            .map(|_| {
                // Ticks of a microsecond, mostly; of long ones, periods of a few.
                let (tick, period) = match rng.u8(0..8) {
                    0 => (1000, rng.u64(1..3000)),
                    1 => (L, rng.u64(1..5)),
                    _ => (1, L * rng.u64(1..=10)),
                };
                let versions: Vec<Numbers> = (0..3).map(|_| random_numbers(&mut rng, period, tick)).collect();
                let least = versions.iter().map(|numbers| numbers.burst).min().unwrap_or(1);
                Limit { cost: rng.u64(1..=3).min(least), versions }
            })
            .collect();
        let mut simulation = Simulation {
            store_rate: rng.u64(970..=1030),
            rng,
            clocks,
            time: 0,
            offset: 0,
            limits,
            newest: [0; KEYS],
            holders: Vec::new(),
            next_holder: 0,
            messages: Vec::new(),
            answers: Vec::new(),
            uses: vec![Vec::new(); KEYS],
            allowance: Allowance::default(),
        };
        if clocks == Clocks::Jittered {
            simulation.allowance.jitter = 2 * JITTER;
        }
        for _ in 0..simulation.rng.usize(1..=4) {
            simulation.join();
        }
        simulation
    }

    /// The store's clock without jumps and jitter: by it intervals are judged.
    fn smooth(&self) -> u64 {
        START + self.time / 1000 * self.store_rate + self.time % 1000 * self.store_rate / 1000
    }

    /// What a call reads.
    fn now(&mut self) -> u64 {
        let now = self.smooth().saturating_add_signed(self.offset);
        match self.clocks {
            Clocks::Jittered => now - JITTER + self.rng.u64(0..=2 * JITTER),
            _ => now,
        }
    }

    fn counter(&self, key: usize, version: usize) -> Counter {
        let limit = &self.limits[key];
        Counter { cost: limit.cost, numbers: limit.versions[version], enforce: true, min_ttl_ms: 0 }
    }

    fn join(&mut self) {
        let holder =
            Holder { id: self.next_holder, rate: self.rng.u64(980..=1020), version: self.newest, leases: Vec::new() };
        self.next_holder += 1;
        self.holders.push(holder);
    }

    /// Runs the history, then judges it.
    pub fn run(mut self, store: &mut dyn Counts) -> Result<(), String> {
        let steps = self.rng.usize(20..150);
        let mut name = format!("rl:explore:{}", self.rng.u64(..));
        name.push(':');
        for _ in 0..steps {
            let wait = self.wait();
            self.pass(self.time + wait, store, &name)?;
            self.act();
            self.check(store, &name)?;
        }
        for uses in &self.uses {
            judge(uses, &self.allowance)?;
        }
        Ok(())
    }

    fn wait(&mut self) -> u64 {
        match self.rng.u8(0..40) {
            0..10 => 0,
            10..26 => self.rng.u64(0..40_000),
            26..33 => self.rng.u64(0..400_000),
            33..37 => self.rng.u64(0..2_500_000),
            // About the end of an epoch.
            37 | 38 => (L - self.smooth() % L).saturating_sub(5000) + self.rng.u64(0..10_000),
            _ if self.rng.u8(0..10) == 0 => self.rng.u64(0..YEAR),
            _ => self.rng.u64(0..60 * L),
        }
    }

    /// Lets time pass; what is under way arrives in its order.
    fn pass(&mut self, until: u64, store: &mut dyn Counts, name: &str) -> Result<(), String> {
        loop {
            let message = self.messages.iter().map(|message| message.due).min();
            let answer = self.answers.iter().map(|answer| answer.due).min();
            let Some(due) = message.into_iter().chain(answer).min().filter(|due| *due <= until) else { break };
            self.time = self.time.max(due);
            if answer == Some(due) {
                self.arrive(due);
            } else {
                // What is under way to the store anyway may come along.
                let reach = if self.rng.bool() { due } else { due + 2000 };
                let together = |message: &mut Message| message.due <= reach;
                let batch: Vec<Message> = self.messages.extract_if(.., together).collect();
                self.execute(batch, store, name);
            }
            self.check(store, name)?;
        }
        self.time = until;
        Ok(())
    }

    fn execute(&mut self, batch: Vec<Message>, store: &mut dyn Counts, name: &str) {
        let (now, at) = (self.now(), self.smooth());
        let mut plans = Vec::new();
        for message in &batch {
            let mut plan = Plan::new(message.plan.purpose, String::new());
            plan.n = message.plan.n;
            for (i, (key, counter)) in message.plan.iter().enumerate() {
                plan.push(*counter, |out| out.extend([name, key]));
                plan.lease(i, message.plan.leases(i));
            }
            message.plan.credits().iter().for_each(|(i, credit)| plan.give_back(*i, *credit));
            plans.push(plan);
        }
        let replies = store.batch(&plans, now);
        for (message, replies) in batch.into_iter().zip(replies) {
            self.answer(message, &replies, at);
        }
    }

    fn answer(&mut self, message: Message, replies: &Replies, at: u64) {
        let mut leases = Vec::new();
        let mut places = Vec::new();
        for ((key, (_, counter)), reply) in message.keys.iter().zip(message.plan.iter()).zip(&replies.counters) {
            let spends = message.plan.purpose == Purpose::Spend;
            let allowed = if spends { replies.granted * counter.cost } else { 0 };
            places.push(self.uses[*key].len());
            self.uses[*key].push(Use { at, allowed, numbers: counter.numbers });
            if reply.leased > 0 {
                let ends = message.sent + L * 9 / 10;
                let (left, epoch) = (reply.leased, reply.epoch);
                leases.push(Lease { key: *key, numbers: counter.numbers, epoch, left, spent: 0, ends });
            }
        }
        // Elsewhere the same request was refused: what was taken here goes back.
        let refund = (replies.granted > 0 && message.plan.purpose == Purpose::Spend && self.rng.u8(0..5) == 0)
            .then(|| (message.keys.clone(), places, replies.granted, replies.counters[0].now_us));
        if self.rng.u8(0..10) > 0 {
            let due = self.time + self.delay();
            self.answers.push(Answer { due, holder: message.holder, leases, refund });
        }
    }

    fn arrive(&mut self, due: u64) {
        let Some(i) = self.answers.iter().position(|answer| answer.due == due) else { return };
        let answer = self.answers.swap_remove(i);
        let Some(h) = self.holders.iter().position(|holder| holder.id == answer.holder) else { return };
        self.holders[h].leases.extend(answer.leases);
        let Some((keys, places, n, taken_us)) = answer.refund else { return };
        for (key, place) in keys.into_iter().zip(places) {
            // By the numbers that took it. With others it is not sent: less may have refilled by them.
            let version = self.holders[h].version[key];
            let used = self.uses[key][place].numbers;
            let changed = self.uses[key][place..].iter().any(|later| later.numbers != used);
            let counter = self.counter(key, version);
            if counter.numbers != used || changed {
                continue;
            }
            self.uses[key][place].allowed = 0;
            let mut plan = Plan::new(Purpose::Spend, String::new());
            plan.n = 0;
            plan.push(counter, |out| out.push_str(&key.to_string()));
            plan.give_back(0, Credit::Refund { tokens: n * counter.cost, taken_us });
            self.send(h, plan, vec![key]);
        }
    }

    fn delay(&mut self) -> u64 {
        match self.rng.u8(0..10) {
            0..7 => self.rng.u64(0..3000),
            7 | 8 => self.rng.u64(0..100_000),
            _ => self.rng.u64(0..1_500_000),
        }
    }

    fn send(&mut self, h: usize, plan: Plan, keys: Vec<usize>) {
        let (holder, sent) = (self.holders[h].id, self.local(h));
        let mut copy = plan.clone();
        // A debit may be sent again, what is given back never.
        copy.drop_credits();
        if self.rng.u8(0..12) == 0 {
            let due = self.time + self.delay();
            self.messages.push(Message { due, holder, sent, plan: copy, keys: keys.clone() });
        }
        if self.rng.u8(0..12) > 0 {
            let due = self.time + self.delay();
            self.messages.push(Message { due, holder, sent, plan, keys });
        }
    }

    /// The clock of a holder.
    fn local(&self, h: usize) -> u64 {
        let rate = self.holders[h].rate;
        self.time / 1000 * rate + self.time % 1000 * rate / 1000
    }

    fn act(&mut self) {
        match self.rng.u8(0..40) {
            0 => self.join(),
            1 if !self.holders.is_empty() => {
                let dies = self.rng.usize(0..self.holders.len());
                self.holders.swap_remove(dies);
            }
            2 => {
                let key = self.rng.usize(0..KEYS);
                self.newest[key] = self.rng.usize(0..self.limits[key].versions.len());
            }
            3 if self.clocks == Clocks::Jumping => self.jump(),
            _ if self.holders.is_empty() => self.join(),
            4..9 => {
                let h = self.rng.usize(0..self.holders.len());
                self.holders[h].version = self.newest;
            }
            9..24 => self.spend_lease(),
            _ => self.ask(),
        }
    }

    fn jump(&mut self) {
        self.allowance.jumps.push(self.smooth());
        let far = match self.rng.u8(0..4) {
            0 => 300_000,
            1 => 3 * L,
            2 => 3600 * L,
            _ => YEAR,
        };
        let by = self.rng.i64(-far.cast_signed()..=far.cast_signed());
        self.offset = (self.offset + by).clamp(-20 * YEAR.cast_signed(), 20 * YEAR.cast_signed());
    }

    /// A burst of requests on leased tokens.
    fn spend_lease(&mut self) {
        let h = self.rng.usize(0..self.holders.len());
        let (local, at, most) = (self.local(h), self.smooth(), self.rng.u64(1..=40));
        let Some(lease) = self.rng.choice(&mut self.holders[h].leases) else { return };
        let cost = self.limits[lease.key].cost;
        let spent = most.min(lease.left / cost) * cost;
        if local > lease.ends || spent == 0 {
            return;
        }
        lease.left -= spent;
        lease.spent += spent;
        self.uses[lease.key].push(Use { at, allowed: spent, numbers: lease.numbers });
    }

    /// A call: requests, leases, settles, any of them.
    fn ask(&mut self) {
        let h = self.rng.usize(0..self.holders.len());
        let mut keys: Vec<usize> = match self.rng.u8(0..6) {
            0 => (0..KEYS).collect(),
            1 => vec![1],
            _ => vec![0],
        };
        self.rng.shuffle(&mut keys);
        let mut plan = Plan::new(if self.rng.u8(0..20) == 0 { Purpose::Look } else { Purpose::Spend }, String::new());
        plan.n = if self.rng.bool() { self.rng.u64(0..=1) } else { self.rng.u64(0..=30) };
        for &key in &keys {
            plan.push(self.counter(key, self.holders[h].version[key]), |out| out.push_str(&key.to_string()));
        }
        for (i, key) in keys.iter().enumerate() {
            if self.rng.u8(0..2) == 0 {
                plan.lease(i, self.rng.u64(1..=80));
            }
            if plan.purpose == Purpose::Look || self.rng.bool() {
                continue;
            }
            for lease in self.holders[h].leases.iter_mut().filter(|lease| lease.key == *key) {
                if self.rng.bool() {
                    let unspent = self.rng.u64(0..=lease.left);
                    lease.left -= unspent;
                    plan.give_back(i, Credit::Settle { epoch: lease.epoch, spent: lease.spent, unspent });
                    lease.spent = 0;
                }
            }
        }
        self.send(h, plan, keys);
        self.holders[h].leases.retain(|lease| lease.left + lease.spent > 0);
    }

    /// What could still be spent is accounted for, and never more than the bucket in all.
    fn check(&mut self, store: &mut dyn Counts, name: &str) -> Result<(), String> {
        let Some(model) = store.model() else { return Ok(()) };
        let now = self.smooth().saturating_add_signed(self.offset);
        for key in 0..KEYS {
            for version in 0..self.limits[key].versions.len() {
                let counter = self.counter(key, version);
                let state = model.peek(&format!("{name}{key}"), &counter, now);
                let room = counter.numbers.burst.saturating_sub(state.a + state.b);
                if state.level > u128::from(room) * state.s {
                    return Err(format!("{state:?} of {:?}", counter.numbers));
                }
                let held = self.held(key);
                let sure = self.clocks == Clocks::Drifting || self.allowance.jumps.is_empty();
                if sure && held > state.a + state.b {
                    return Err(format!("{held} can still be spent, {state:?}"));
                }
            }
        }
        Ok(())
    }

    /// What holders could still spend of a counter, answers under way included.
    fn held(&self, key: usize) -> u64 {
        let of = |leases: &[Lease], h: usize| -> u64 {
            let alive = leases.iter().filter(|lease| lease.key == key && self.local(h) <= lease.ends);
            alive.map(|lease| lease.left).sum()
        };
        let holders = (0..self.holders.len()).map(|h| of(&self.holders[h].leases, h)).sum::<u64>();
        let coming = self.answers.iter().filter_map(|answer| {
            let h = self.holders.iter().position(|holder| holder.id == answer.holder)?;
            Some(of(&answer.leases, h))
        });
        holders + coming.sum::<u64>()
    }
}
