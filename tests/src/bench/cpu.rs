//! CPU time and memory of a process with its children, from `/proc`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// Clock ticks a second, as `/proc` counts: fixed by the kernel's interface to user space.
const TICKS: f64 = 100.0;

/// `pid` and all its descendants that live.
pub fn family(pid: u32) -> Vec<u32> {
    related(pid, &everyone()).into_iter().collect()
}

/// Seconds of CPU (user and system, all threads) that `pid` and its children have used so far.
pub fn seconds(pid: u32) -> f64 {
    let all = everyone();
    let family = related(pid, &all);
    all.iter().filter(|(pid, ..)| family.contains(pid)).map(|(.., ticks)| ticks / TICKS).sum()
}

/// Seconds of CPU of each thread of `pid` (not of its children), by name; threads of one name together.
pub fn by_thread(pid: u32) -> BTreeMap<String, f64> {
    let mut threads = BTreeMap::new();
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return threads;
    };
    for path in entries.filter_map(|e| Some(e.ok()?.path())) {
        let (Ok(name), Ok(text)) = (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("stat")))
        else {
            continue;
        };
        if let Some((_, ticks)) = fields(&text) {
            *threads.entry(name.trim().to_owned()).or_default() += ticks / TICKS;
        }
    }
    threads
}

/// Memory of a process with its children, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident: what counts against a container, pages of files included.
    pub resident: u64,
    /// The same with each shared page divided among those that share it: what several processes of one server use
    /// together.
    pub proportional: u64,
    /// Of the proportional: what is in no file, so neither binary nor libraries.
    pub anonymous: u64,
}

/// Memory of `pid` and its children now.
pub fn memory(pid: u32) -> Memory {
    let mut sum = Memory::default();
    for pid in family(pid) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
        };
        sum.resident += field("Rss");
        sum.proportional += field("Pss");
        sum.anonymous += field("Pss_Anon");
    }
    sum
}

fn everyone() -> Vec<(u32, u32, f64)> {
    fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).filter_map(stat).collect()
}

fn related(pid: u32, all: &[(u32, u32, f64)]) -> BTreeSet<u32> {
    let mut family = BTreeSet::from([pid]);
    loop {
        let before = family.len();
        family.extend(
            all.iter().filter(|(_, parent, _)| family.contains(parent)).map(|(pid, ..)| *pid).collect::<Vec<_>>(),
        );
        if family.len() == before {
            return family;
        }
    }
}

/// Process, parent, ticks of user and system time.
fn stat(pid: u32) -> Option<(u32, u32, f64)> {
    let (parent, ticks) = fields(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some((pid, parent, ticks))
}

/// Parent, and ticks of user and system time.
fn fields(stat: &str) -> Option<(u32, f64)> {
    // The name is in parentheses and may contain anything; what follows the last one is regular.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((fields.get(1)?.parse().ok()?, ticks))
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

    #[test]
    fn memory_and_threads_of_this_process_are_seen() {
        let me = std::process::id();
        let memory = memory(me);
        assert!(memory.resident >= memory.proportional && memory.proportional >= memory.anonymous, "{memory:?}");
        assert!(memory.anonymous > 1 << 16, "{memory:?}");
        assert!(!by_thread(me).is_empty() && family(me).contains(&me));
    }
}
