//! The state machine of a counter as the specification writes it, in wide integers, and a map of such around it. It shares
//! no arithmetic with what ships.

#![allow(
    dead_code,
    reason = "what the random exploration of the state machine needs beside the comparison of the stores"
)]

use std::collections::HashMap;

use edgequota_counters::store::{Counter, CounterReply, Credit, Plan, Purpose, Replies};

use super::stores::Counts;

/// Length of an epoch, and the most that a clock may go back without being a step; microseconds.
pub const L: u64 = 1_000_000;

/// Ways to get it wrong that the exploration must notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    #[default]
    None,
    /// Tokens of a lease that ended without a word come back.
    CreditsExpired,
    /// One refill from `last` to now, with the room there is at the end.
    LazyRefill,
    /// A settle that names what was spent credits that too.
    CreditsSpent,
    /// A refund gives back all that was taken.
    FullRefund,
    /// A begun tick is carried over whatever happens.
    KeepsBegunTick,
}

/// One counter.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub last: u64,
    /// Grains.
    pub level: u128,
    /// Grains a token.
    pub s: u128,
    pub e: u64,
    pub a: u64,
    pub b: u64,
    /// The original wrote it last: no leases in the next call.
    fractional: bool,
}

impl State {
    fn absent(counter: &Counter, now: u64) -> State {
        let s = u128::from(counter.numbers.grains_per_token);
        State { last: now, level: s * u128::from(counter.numbers.burst), s, e: now / L, a: 0, b: 0, fractional: false }
    }

    /// Grains that it may hold beside what is out.
    fn cap(&self, counter: &Counter) -> u128 {
        u128::from(counter.numbers.burst.saturating_sub(self.a + self.b)) * self.s
    }

    pub fn tokens(&self) -> u64 {
        (self.level / self.s) as u64
    }

    fn advance(&mut self, counter: &Counter, to: u64) {
        let cap = self.cap(counter);
        self.level = self.level.min(cap);
        if to > self.last {
            let ticks = (to - self.last) / counter.numbers.tick_us;
            let level = self.level + u128::from(ticks) * u128::from(counter.numbers.grains_per_tick);
            if level >= cap {
                (self.level, self.last) = (cap, to);
            } else {
                (self.level, self.last) = (level, self.last + ticks * counter.numbers.tick_us);
            }
        }
    }

    /// A tick has begun that would fill the bucket.
    fn near_full(&self, counter: &Counter, now: u64) -> bool {
        self.last < now && self.level + u128::from(counter.numbers.grains_per_tick) > self.cap(counter)
    }

    /// Answers whether the clock had stepped back.
    fn roll(&mut self, counter: &Counter, now: u64, mutant: Mutant) -> bool {
        let s = u128::from(counter.numbers.grains_per_token);
        if self.s != s {
            (self.level, self.s) = (self.level / self.s * s, s);
        }
        let leased = self.a + self.b > 0;
        let stepped = self.last > now + L || leased && self.e * L > now + L;
        if stepped {
            (self.last, self.a, self.b, self.e) = (now, 0, 0, now / L);
        }
        for _ in 0..2 {
            if self.e < now / L {
                if mutant != Mutant::LazyRefill {
                    self.advance(counter, (self.e + 1) * L);
                    let boundary = (self.e + 1) * L;
                    if self.b > 0 && self.near_full(counter, boundary) && mutant != Mutant::KeepsBegunTick {
                        self.last = boundary;
                    }
                }
                if mutant == Mutant::CreditsExpired {
                    self.level += u128::from(self.b) * s;
                }
                (self.b, self.a, self.e) = (self.a, 0, self.e + 1);
            }
        }
        self.e = if self.a + self.b > 0 { self.e.max(now / L) } else { now / L };
        self.advance(counter, now);
        stepped
    }

    fn settle(&mut self, g: u64, spent: u64, unspent: u64, mutant: Mutant) {
        let slot = match g {
            g if g == self.e => &mut self.a,
            g if g + 1 == self.e => &mut self.b,
            _ => return,
        };
        let x = (*slot).min(spent + unspent);
        *slot -= x;
        let back = if mutant == Mutant::CreditsSpent { x } else { unspent.min(x.saturating_sub(spent)) };
        self.level += u128::from(back) * self.s;
    }

    fn refund(&mut self, counter: &Counter, tokens: u64, taken: u64, now: u64, mutant: Mutant) {
        let grains = u128::from(tokens.min(counter.numbers.burst)) * self.s;
        let elapsed = now.max(self.last).saturating_sub(taken).div_ceil(counter.numbers.tick_us);
        let refilled = match mutant {
            Mutant::FullRefund => 0,
            _ => u128::from(elapsed) * u128::from(counter.numbers.grains_per_tick),
        };
        if taken <= now + L {
            self.level += grains.saturating_sub(refilled);
        }
    }

    fn lease(&mut self, counter: &Counter, wanted: u64) -> u64 {
        let out = self.a + self.b;
        let burst = counter.numbers.burst;
        let room = (burst / 2).saturating_sub(out).min(burst.saturating_sub(counter.cost + out));
        let k = wanted.min(self.tokens()).min(room);
        self.level -= u128::from(k) * self.s;
        self.a += k;
        k
    }
}

/// The arithmetic alone, with a map around it.
#[derive(Default)]
pub struct Pure {
    counters: HashMap<String, Option<State>>,
    pub mutant: Mutant,
}

/// A counter in the middle of a call.
struct Open {
    state: State,
    room: u64,
    write: bool,
    near: bool,
}

impl Pure {
    pub fn mutant(mutant: Mutant) -> Pure {
        Pure { mutant, ..Pure::default() }
    }

    /// Somebody wrote what is no counter.
    pub fn spoil(&mut self, key: &str) {
        self.counters.insert(key.to_owned(), None);
    }

    pub fn is_spoiled(&self, key: &str) -> bool {
        matches!(self.counters.get(key), Some(None))
    }

    /// The Go original wrote: `tokens` and a half.
    pub fn original_writes(&mut self, key: &str, last: u64, tokens: u64) {
        let before = self.counters.get(key).copied().flatten();
        let (e, a, b) = before.map_or((0, 0, 0), |state| (state.e, state.a, state.b));
        let state = State { last, level: u128::from(tokens), s: 1, e, a, b, fractional: true };
        self.counters.insert(key.to_owned(), Some(state));
    }

    /// The counter as a call at that time would find it.
    pub fn peek(&self, key: &str, counter: &Counter, now: u64) -> State {
        let kept = self.counters.get(key).copied().flatten();
        let mut state = kept.unwrap_or_else(|| State::absent(counter, now));
        state.roll(counter, now, self.mutant);
        state
    }

    fn open(&self, key: &str, counter: &Counter, plan: &Plan, i: usize, now: u64, replies: &mut Replies) -> Open {
        let mut write = false;
        let mut state = match self.counters.get(key) {
            None => State::absent(counter, now),
            Some(Some(state)) => *state,
            Some(None) => {
                replies.corrupt += 1;
                write = true;
                State { level: 0, ..State::absent(counter, now) }
            }
        };
        let stepped = state.roll(counter, now, self.mutant);
        replies.clock_steps += u64::from(stepped);
        let mut near = state.near_full(counter, now);
        write |= stepped;
        if plan.purpose != Purpose::Look {
            for (_, credit) in plan.credits().iter().filter(|(entry, _)| *entry == i) {
                match *credit {
                    Credit::Settle { epoch, spent, unspent } => state.settle(epoch, spent, unspent, self.mutant),
                    Credit::Refund { tokens, taken_us } => state.refund(counter, tokens, taken_us, now, self.mutant),
                }
                state.level = state.level.min(state.cap(counter));
                write = true;
            }
        }
        let cap = state.cap(counter);
        match plan.purpose {
            Purpose::Spend | Purpose::Look => {}
            Purpose::Reset => (state.level, write) = (cap, true),
            Purpose::Set(tokens) => (state.level, write) = (cap.min(u128::from(tokens) * state.s), true),
            Purpose::Add(tokens) => {
                let grains = u128::from(tokens.unsigned_abs()) * state.s;
                let level = if tokens < 0 { state.level.saturating_sub(grains) } else { state.level + grains };
                (state.level, write) = (level.min(cap), true);
            }
        }
        near = self.mutant != Mutant::KeepsBegunTick && (near || write && state.near_full(counter, now));
        let room = plan.n.min(state.tokens() / counter.cost);
        Open { state, room, write, near }
    }
}

impl Counts for Pure {
    fn model(&self) -> Option<&Pure> {
        Some(self)
    }

    fn call(&mut self, plan: &Plan, now_us: u64) -> Replies {
        let mut replies = Replies { granted: plan.n, ..Replies::default() };
        let mut opened = Vec::new();
        for (i, (key, counter)) in plan.iter().enumerate() {
            let open = self.open(key, counter, plan, i, now_us, &mut replies);
            if counter.enforce {
                replies.granted = replies.granted.min(open.room);
            }
            opened.push(open);
        }
        for (i, ((key, counter), open)) in plan.iter().zip(opened).enumerate() {
            let Open { mut state, room, mut write, near } = open;
            let mut leased = 0;
            if plan.purpose == Purpose::Spend {
                let k = room.min(replies.granted);
                state.level -= u128::from(k * counter.cost) * state.s;
                leased = if state.fractional { 0 } else { state.lease(counter, plan.leases(i)) };
                write |= k > 0 || leased > 0;
            }
            if write {
                if near {
                    state.last = now_us;
                }
                state.fractional = false;
                if plan.purpose != Purpose::Look {
                    self.counters.insert(key.to_owned(), Some(state));
                }
            }
            let leases = (0..plan.len()).any(|i| plan.leases(i) > 0);
            replies.counters.push(CounterReply {
                now_us,
                room,
                tokens: state.tokens(),
                retry_us: until(&state, counter, counter.cost, now_us),
                reset_us: until(&state, counter, counter.numbers.burst, now_us),
                leased,
                epoch: if leases { state.e } else { 0 },
            });
        }
        replies
    }
}

fn until(state: &State, counter: &Counter, tokens: u64, now: u64) -> u64 {
    let wanted = u128::from(tokens) * state.s;
    if state.level >= wanted {
        return 0;
    }
    let ticks = (wanted - state.level).div_ceil(u128::from(counter.numbers.grains_per_tick)) as u64;
    (state.last + ticks * counter.numbers.tick_us).saturating_sub(now)
}
