//! The script that counts in Redis, its arguments and its reply.

use redis::{Cmd, Value};
use smallvec::SmallVec;

use super::{
    StoreError,
    plan::{CounterReply, Plan, Purpose, Replies, lifetimes_ms},
};

/// The script's text. The one line that begins with [`CLOCK_LINE`] reads the clock; all else is a function of it.
pub const SOURCE: &str = include_str!("script.lua");
/// How the line that reads the server's clock begins.
pub const CLOCK_LINE: &str = "local t = redis.call('TIME')";
/// Numbers of a reply before the first counter's.
const HEAD: usize = 4;
/// Numbers of a reply per counter.
const PER_COUNTER: usize = 4;

/// Appends what follows script or hash in `EVAL` and `EVALSHA`: number of keys, keys, arguments.
pub fn arguments<P: std::borrow::Borrow<Plan>>(plans: &[P], _credits: bool, command: &mut Cmd) {
    let Some(plan) = plans.first().map(std::borrow::Borrow::borrow) else { return };
    command.arg(plan.len());
    for (key, _) in plan.iter() {
        command.arg(key);
    }
    command.arg(match plan.purpose {
        Purpose::Spend => "spend",
        _ => "look",
    });
    command.arg(plan.n);
    for (_, counter) in plan.iter() {
        let (need, ttl) = lifetimes_ms(counter);
        let numbers = &counter.numbers;
        command.arg(counter.cost).arg(numbers.burst).arg(numbers.grains_per_token).arg(numbers.grains_per_tick);
        command.arg(numbers.tick_us).arg(u8::from(counter.enforce)).arg(need).arg(ttl);
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

/// Reads the script's reply to a plan of `counters` counters.
pub fn parse<P: std::borrow::Borrow<Plan>>(value: &Value, plans: &[P]) -> Result<Vec<Replies>, StoreError> {
    let counters = plans.iter().map(|plan| plan.borrow().len()).sum::<usize>();
    let Value::Array(items) = value else {
        return Err(StoreError::BadReply);
    };
    if items.len() != HEAD + PER_COUNTER * counters {
        return Err(StoreError::BadReply);
    }
    let mut numbers = SmallVec::<[u64; 16]>::new();
    for item in items {
        match item {
            Value::Int(v) => numbers.push(u64::try_from(*v).map_err(|_| StoreError::BadReply)?),
            _ => return Err(StoreError::BadReply),
        }
    }
    let (head, rest) = numbers.split_at(HEAD);
    Ok(vec![Replies {
        granted: head[0],
        now_us: head[1],
        corrupt: head[2],
        clock_steps: head[3],
        counters: rest
            .chunks_exact(PER_COUNTER)
            .map(|c| CounterReply {
                room: c[0],
                tokens: c[1],
                retry_us: c[2],
                reset_us: c[3],
                ..CounterReply::default()
            })
            .collect(),
    }])
}
