//! The token bucket as arithmetic: time is an argument. The Lua script and the embedded store compute the same.
//!
//! A level is counted in whole grains, S to a token; one tick adds G of them (`reference` names: `frac`, `s`).
//! `burst * S + G < 2^53` holds for every [`Numbers`], so nothing here overflows and Lua's doubles are exact too.

use edgequota_policy::Numbers;

/// A clock that went back by at most this many microseconds is waited for; further back it is a step.
pub const CLOCK_TOLERANCE_US: u64 = 1_000_000;
/// Above every integer that is exact as a double: what the store holds must be below.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The state of one counter. A counter that does not exist is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Microseconds of the store's clock up to which tokens were credited.
    pub last_us: u64,
    /// Whole tokens.
    pub tokens: u64,
    /// Grains on top of `tokens`, below `s`.
    pub frac: u64,
    /// Grains a token that `frac` is counted in.
    pub s: u64,
}

/// What the clock did between two uses of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockMove {
    /// Forwards, or back by no more than [`CLOCK_TOLERANCE_US`].
    Usual,
    /// Back by more: the new time was adopted without any credit.
    Stepped,
}

/// The fields of a counter as a store holds them, unread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    /// `last`
    pub last: Option<&'a str>,
    /// `tokens`
    pub tokens: Option<&'a str>,
    /// `frac`
    pub frac: Option<&'a str>,
    /// `s`
    pub s: Option<&'a str>,
}

impl Bucket {
    /// As many tokens as it holds, at `now_us`.
    pub fn full(numbers: &Numbers, now_us: u64) -> Bucket {
        Bucket { last_us: now_us, tokens: numbers.burst, frac: 0, s: numbers.grains_per_token }
    }

    /// No token, refilling from `now_us`: what replaces a counter that cannot be read. (A full one would be an
    /// open gate for whoever can spoil counters.)
    pub fn empty(numbers: &Numbers, now_us: u64) -> Bucket {
        Bucket { last_us: now_us, tokens: 0, frac: 0, s: numbers.grains_per_token }
    }

    /// Reads what a store holds; `None` when it is garbage. A fractional `tokens` was written by the Go original:
    /// it is rounded down. `frac` counts only beside the same S.
    pub fn read(fields: Fields<'_>, numbers: &Numbers) -> Option<Bucket> {
        let last = number(fields.last?)?;
        let tokens = number(fields.tokens?)?;
        let s = numbers.grains_per_token;
        let same_s = fields.s.and_then(number).is_some_and(|v| v == whole(s));
        let frac = match fields.frac {
            Some(text) if same_s && tokens.fract() == 0.0 => {
                let frac = number(text)?;
                if frac.fract() != 0.0 || frac >= whole(s) {
                    return None;
                }
                frac
            }
            _ => 0.0,
        };
        Some(Bucket { last_us: grains(last), tokens: grains(tokens), frac: grains(frac), s })
    }

    /// Brings the bucket under `numbers` (an edit may have changed them) and up to `now_us`.
    pub fn advance(&mut self, numbers: &Numbers, now_us: u64) -> ClockMove {
        if self.s != numbers.grains_per_token {
            self.s = numbers.grains_per_token;
            self.frac = 0;
        }
        let full = numbers.burst * self.s;
        // More tokens than the burst are possible after an edit.
        let level = if self.tokens >= numbers.burst { full } else { self.tokens * self.s + self.frac };
        if now_us < self.last_us {
            let stepped = self.last_us - now_us > CLOCK_TOLERANCE_US;
            if stepped {
                self.last_us = now_us;
            }
            self.set_level(level);
            return if stepped { ClockMove::Stepped } else { ClockMove::Usual };
        }
        let ticks = (now_us - self.last_us) / numbers.tick_us;
        let ticks_to_full = (full - level).div_ceil(numbers.grains_per_tick);
        if ticks >= ticks_to_full {
            // The rest of a begun tick is dropped with a full bucket: kept, it would be credited a second time
            // to tokens that are spent within this tick.
            self.set_level(full);
            self.last_us = now_us;
        } else {
            self.set_level(level + ticks * numbers.grains_per_tick);
            self.last_us += ticks * numbers.tick_us;
        }
        ClockMove::Usual
    }

    /// How many of `n` requests of `cost` tokens each it has room for.
    pub fn room(&self, cost: u64, n: u64) -> u64 {
        n.min(self.tokens / cost.max(1))
    }

    /// Takes `k` requests of `cost` tokens; `k` must be within [`Bucket::room`] (more takes all there is).
    pub fn take(&mut self, cost: u64, k: u64) {
        self.tokens = self.tokens.saturating_sub(k.saturating_mul(cost));
    }

    /// To be called before anything is taken or given. A begun tick that would fill the bucket is dropped: the bucket is
    /// taken to be where the end of the tick would find it full, so that what is taken within the tick does not come
    /// back at its end faster than the rate. With ticks of a microsecond none is ever begun.
    pub fn end_tick(&mut self, numbers: &Numbers, now_us: u64) {
        let level = self.tokens * self.s + self.frac;
        if self.last_us < now_us && level + numbers.grains_per_tick > numbers.burst * self.s {
            self.last_us = now_us;
        }
    }

    /// Gives back `tokens` that were taken at `taken_us` and not used, less what refilled since then (a begun
    /// tick counts as a whole one), up to the burst. Taken in a future that is more than [`CLOCK_TOLERANCE_US`] away: the clock went
    /// back, nothing is given.
    pub fn refund(&mut self, numbers: &Numbers, tokens: u64, taken_us: u64, now_us: u64) {
        if taken_us > now_us.saturating_add(CLOCK_TOLERANCE_US) {
            return;
        }
        let grains = tokens.min(numbers.burst) * self.s;
        // A `last` ahead of now was refilled up to there.
        let ticks = now_us.max(self.last_us).saturating_sub(taken_us).div_ceil(numbers.tick_us);
        let left = grains.saturating_sub(ticks.saturating_mul(numbers.grains_per_tick));
        let level = self.tokens * self.s + self.frac + left;
        self.set_level(level.min(numbers.burst * self.s));
    }

    /// An administrator sets it to so many tokens, at most the burst.
    pub fn set(&mut self, numbers: &Numbers, tokens: u64) {
        self.set_level(tokens.min(numbers.burst) * self.s);
    }

    /// An administrator adds so many tokens, or takes them away: never less than nothing, never more than the burst.
    pub fn add(&mut self, numbers: &Numbers, tokens: i64) {
        let grains = tokens.unsigned_abs().min(numbers.burst) * self.s;
        let level = self.tokens * self.s + self.frac;
        let level = if tokens < 0 { level.saturating_sub(grains) } else { level + grains };
        self.set_level(level.min(numbers.burst * self.s));
    }

    /// Microseconds until `cost` tokens are there; zero when they are. `cost` above the burst never comes true
    /// (the policy refuses it); the answer is then as for a full bucket.
    pub fn retry_after_us(&self, numbers: &Numbers, cost: u64, now_us: u64) -> u64 {
        self.until(numbers, cost.min(numbers.burst), now_us)
    }

    /// Microseconds until it is full.
    pub fn reset_after_us(&self, numbers: &Numbers, now_us: u64) -> u64 {
        self.until(numbers, numbers.burst, now_us)
    }

    fn until(&self, numbers: &Numbers, tokens: u64, now_us: u64) -> u64 {
        let wanted = tokens * self.s;
        let level = self.tokens * self.s + self.frac;
        if level >= wanted {
            return 0;
        }
        let ticks = (wanted - level).div_ceil(numbers.grains_per_tick);
        // A `last` ahead of now (the clock went back a little) lengthens the wait by itself.
        (self.last_us + ticks * numbers.tick_us).saturating_sub(now_us)
    }

    fn set_level(&mut self, level: u64) {
        self.tokens = level / self.s;
        self.frac = level % self.s;
    }
}

/// Microseconds an empty bucket takes until it is full.
pub fn time_to_full_us(numbers: &Numbers) -> u64 {
    (numbers.burst * numbers.grains_per_token).div_ceil(numbers.grains_per_tick) * numbers.tick_us
}

/// A decimal number, not negative, below 2^53; the same texts that the script accepts.
fn number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let value = plain.then(|| text.parse::<f64>().ok()).flatten()?;
    (0.0..EXACT).contains(&value).then_some(value)
}

#[allow(clippy::cast_precision_loss)] // grains and tokens are below 2^53
fn whole(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `number` bounds it; rounding down is meant
fn grains(value: f64) -> u64 {
    value as u64
}
