//! CPU time of a process with its children, from `/proc`.

use std::{collections::BTreeSet, fs};

/// Clock ticks a second, as `/proc` counts: fixed by the kernel's interface to user space.
const TICKS: f64 = 100.0;

/// Seconds of CPU (user and system, all threads) that `pid` and its children have used so far.
pub fn seconds(pid: u32) -> f64 {
    let mut family = BTreeSet::from([pid]);
    let all: Vec<(u32, u32, f64)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect();
    loop {
        let before = family.len();
        family.extend(
            all.iter().filter(|(_, parent, _)| family.contains(parent)).map(|(pid, ..)| *pid).collect::<Vec<_>>(),
        );
        if family.len() == before {
            break;
        }
    }
    all.iter().filter(|(pid, ..)| family.contains(pid)).map(|(.., ticks)| ticks / TICKS).sum()
}

/// Process, parent, ticks of user and system time.
fn stat(pid: u32) -> Option<(u32, u32, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain anything; what follows the last one is regular.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((pid, fields.get(1)?.parse().ok()?, ticks))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_of_this_process_is_seen() {
        let before = seconds(std::process::id());
        let start = Instant::now();
        let mut x = 1u64;
        while start.elapsed().as_millis() < 200 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let used = seconds(std::process::id()) - before;
        assert!(used > 0.05, "{used}");
    }
}
