//! The script that counts in Redis, its arguments and its reply.

use std::borrow::Borrow;

use redis::{Cmd, Value};
use smallvec::SmallVec;

use super::{
    StoreError,
    plan::{Counter, CounterReply, Credit, Plan, Purpose, Replies, lifetimes_ms},
};
use crate::bucket::Bucket;

/// The script's text. The one line that begins with [`CLOCK_LINE`] reads the clock; all else is a function of it.
pub const SOURCE: &str = include_str!("script.lua");
/// How the line that reads the server's clock begins.
pub const CLOCK_LINE: &str = "local t = redis.call('TIME')";
/// The largest number that a double holds exactly together with all below it; more is cut to it.
const EXACT: u64 = (1 << 53) - 1;

/// Appends what follows script or hash in `EVAL` and `EVALSHA`: number of keys, keys, one argument that holds the rest.
/// The plans are executed one after the other, each all or nothing. What they give back is left out unless `credits`: a
/// second time it must not be sent.
pub fn arguments<P: Borrow<Plan>>(plans: &[P], credits: bool, command: &mut Cmd) {
    let plans = || plans.iter().map(Borrow::borrow);
    command.arg(plans().map(Plan::len).sum::<usize>());
    for plan in plans() {
        for (key, _) in plan.iter() {
            command.arg(key);
        }
    }
    let mut packed = Packed(SmallVec::new());
    for plan in plans() {
        packed.plan(plan, if credits { plan.credits() } else { &[] });
    }
    command.arg(packed.0.as_slice());
}

/// Doubles, low byte first.
struct Packed(SmallVec<[u8; 512]>);

impl Packed {
    fn plan(&mut self, plan: &Plan, credits: &[(usize, Credit)]) {
        let (purpose, x) = match plan.purpose {
            Purpose::Spend => (0, 0),
            Purpose::Look => (1, 0),
            Purpose::Reset => (2, 0),
            Purpose::Set(tokens) => (3, i64::try_from(tokens.min(EXACT)).unwrap_or(i64::MAX)),
            Purpose::Add(tokens) => (4, tokens),
        };
        self.put(purpose);
        self.put(plan.n);
        self.put_signed(x);
        self.put(plan.len() as u64);
        for (i, (_, counter)) in plan.iter().enumerate() {
            let credits = || credits.iter().filter(|(entry, _)| *entry == i).map(|(_, credit)| credit);
            self.counter(counter);
            self.put(plan.leases(i));
            self.put(credits().count() as u64);
            for credit in credits() {
                self.credit(credit, counter);
            }
        }
    }

    fn counter(&mut self, counter: &Counter) {
        let numbers = &counter.numbers;
        let (need, ttl) = lifetimes_ms(counter);
        let enforce = u64::from(counter.enforce);
        let (s, g) = (numbers.grains_per_token, numbers.grains_per_tick);
        for number in [counter.cost.max(1), numbers.burst, s, g, numbers.tick_us, enforce, need, ttl] {
            self.put(number);
        }
    }

    fn credit(&mut self, credit: &Credit, counter: &Counter) {
        let numbers = match *credit {
            Credit::Settle { epoch, spent, unspent } => [0, epoch, spent, unspent],
            // More than a burst was never taken, and times S it must stay exact.
            Credit::Refund { tokens, taken_us } => [1, tokens.min(counter.numbers.burst), taken_us, 0],
        };
        numbers.into_iter().for_each(|number| self.put(number));
    }

    #[allow(clippy::cast_precision_loss)] // cut to what is exact
    fn put(&mut self, number: u64) {
        self.0.extend_from_slice(&(number.min(EXACT) as f64).to_le_bytes());
    }

    #[allow(clippy::cast_precision_loss)] // cut to what is exact
    fn put_signed(&mut self, number: i64) {
        let most = EXACT.cast_signed();
        self.0.extend_from_slice(&(number.clamp(-most, most) as f64).to_le_bytes());
    }
}

/// The command that the server refused to run inside the script, from its message: old and new servers name the line
/// (`user_script:<line>`), not the command.
pub fn refused_command(message: &str) -> Option<&'static str> {
    let (_, rest) = message.rsplit_once("user_script:")?;
    let digits = rest.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let line = SOURCE.lines().nth(digits[..end].parse::<usize>().ok()?.checked_sub(1)?)?;
    let (_, call) = line.split_once("redis.call('")?;
    call.split('\'').next()
}

/// Reads the script's reply to these plans, which are those that [`arguments`] were made of.
///
/// # Errors
/// When it is of another shape.
pub fn parse<P: Borrow<Plan>>(value: &Value, plans: &[P]) -> Result<SmallVec<[Replies; 1]>, StoreError> {
    let Value::Array(items) = value else {
        return Err(StoreError::BadReply);
    };
    let mut numbers = Numbers(items.iter());
    let now_us = numbers.next()?;
    let replies = plans.iter().map(|plan| numbers.replies(plan.borrow(), now_us)).collect::<Result<_, _>>()?;
    if numbers.0.next().is_some() {
        return Err(StoreError::BadReply);
    }
    Ok(replies)
}

/// The numbers of a reply, one after the other.
struct Numbers<'a>(std::slice::Iter<'a, Value>);

impl Numbers<'_> {
    fn next(&mut self) -> Result<u64, StoreError> {
        match self.0.next() {
            Some(Value::Int(v)) => u64::try_from(*v).map_err(|_| StoreError::BadReply),
            _ => Err(StoreError::BadReply),
        }
    }

    fn replies(&mut self, plan: &Plan, now_us: u64) -> Result<Replies, StoreError> {
        let mut replies = Replies {
            granted: self.next()?,
            corrupt: self.next()?,
            clock_steps: self.next()?,
            counters: SmallVec::new(),
        };
        let leases = (0..plan.len()).any(|i| plan.leases(i) > 0);
        for (_, counter) in plan.iter() {
            let room = self.next()?;
            let (tokens, frac, last_us) = (self.next()?, self.next()?, self.next()?);
            let bucket = Bucket { last_us, tokens, frac, s: counter.numbers.grains_per_token };
            if tokens > counter.numbers.burst || frac >= bucket.s {
                return Err(StoreError::BadReply);
            }
            // The server is spared the arithmetic of the waits.
            let mut reply = CounterReply { room, ..CounterReply::of(&bucket, counter, now_us) };
            if leases {
                (reply.leased, reply.epoch) = (self.next()?, self.next()?);
            }
            replies.counters.push(reply);
        }
        Ok(replies)
    }
}
