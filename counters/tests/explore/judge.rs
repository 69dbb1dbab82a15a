//! Was more allowed than promised? For every pair of moments, in whole numbers.

use edgequota_policy::Numbers;

/// A use of a counter: a call (refused ones too: their numbers are in force) or a spend of leased tokens.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// Microseconds of the store's clock, without its jumps.
    pub at: u64,
    /// Tokens of requests that were allowed by it.
    pub allowed: u64,
    /// What the caller believed the limit to be.
    pub numbers: Numbers,
}

/// What is outside the promise, or only as good as the clocks.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    /// When the store's clock jumped: each adds a burst to the intervals that its leases reach.
    pub jumps: Vec<u64>,
    /// By how much two readings of the store's clock may lie wrongly to each other, microseconds.
    pub jitter: u64,
}

/// How long a lease that a jump made unknown can be spent after it.
const AFTER_A_JUMP: u64 = 1_200_000;

/// A tick that has begun before an edit is credited whole by the rate after it: nothing for ticks of a microsecond, of which
/// none is ever begun.
fn tick_of(first: &Use) -> u64 {
    if first.numbers.tick_us > 1 { first.numbers.tick_us } else { 0 }
}

/// Uses in order of time, all of one period and tick.
pub fn judge(uses: &[Use], allowance: &Allowance) -> Result<(), String> {
    for (i, first) in uses.iter().enumerate().filter(|(_, first)| first.allowed > 0) {
        let (mut allowed, mut burst, mut average, mut edited) = (0u128, 0u64, 0u64, false);
        for last in &uses[i..] {
            burst = burst.max(last.numbers.burst);
            average = average.max(last.numbers.average);
            allowed += u128::from(last.allowed);
            edited |= last.numbers != first.numbers;
            if last.allowed == 0 {
                continue;
            }
            let counts = |jump: &&u64| **jump + AFTER_A_JUMP >= first.at && **jump <= last.at;
            let bursts = 1 + allowance.jumps.iter().filter(counts).count() as u128;
            let elapsed = u128::from(last.at - first.at + allowance.jitter + if edited { tick_of(first) } else { 0 });
            let period = u128::from(last.numbers.period_us);
            if allowed * period > u128::from(burst) * bursts * period + u128::from(average) * elapsed {
                return Err(format!(
                    "{allowed} tokens within {} us, of a burst of {burst} and {average} in {period} us (from {}, {bursts} \
                     bursts)",
                    last.at - first.at,
                    first.at
                ));
            }
        }
    }
    Ok(())
}
