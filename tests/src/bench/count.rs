//! System calls and instructions of a process while load runs, by Linux's `perf stat`.
//!
//! Counting costs time, so it has a pass of its own beside the rounds that are timed.

use std::{fs, path::Path, process::Command};

use crate::process::find_program;

/// System calls that are told apart; what a proxy under load makes.
const CALLS: &[&str] = &[
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "write",
    "writev",
    "sendto",
    "sendmsg",
    "splice",
    "epoll_wait",
    "epoll_ctl",
    "getsockopt",
    "setsockopt",
    "connect",
    "accept4",
    "close",
    "futex",
    "timerfd_settime",
];

const ALL: &str = "raw_syscalls:sys_enter";

/// Counted for one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// System calls.
    pub syscalls: f64,
    /// The most frequent of them by name, at least 0.01 a request, most first.
    pub calls: Vec<(String, f64)>,
    /// Instructions in user space and in the kernel; None: the machine (a virtual one, mostly) does not count them.
    pub instructions: Option<(f64, f64)>,
}

/// Whether this machine counts.
///
/// # Errors
/// Why it does not.
pub fn available() -> Result<(), String> {
    let perf = find_program("perf").ok_or("perf is not installed")?;
    let output = Command::new(perf).args(["stat", "-x,", "-e", ALL, "true"]).output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let counted =
        text.lines().any(|l| l.contains(ALL) && l.split(',').next().is_some_and(|n| n.parse::<u64>().is_ok()));
    if counted { Ok(()) } else { Err(text.lines().next().unwrap_or("perf says nothing").trim().to_owned()) }
}

/// What to put before a command so that `pids` are counted while it runs, into `file`.
pub fn wrapper(pids: &[u32], file: &Path) -> Vec<String> {
    let mut events = vec![ALL.to_owned(), "instructions:u".to_owned(), "instructions:k".to_owned()];
    events.extend(CALLS.iter().map(|call| format!("syscalls:sys_enter_{call}")));
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let perf = find_program("perf").unwrap_or_else(|| "perf".into());
    ["stat", "-x,", "-o", &file.display().to_string(), "-e", &events.join(","), "-p", &pids.join(","), "--"]
        .iter()
        .fold(vec![perf.display().to_string()], |mut words, word| {
            words.push((*word).to_owned());
            words
        })
}

/// Reads what was counted during `requests` requests; None: nothing was.
pub fn read(file: &Path, requests: u64) -> Option<Counted> {
    parse(&fs::read_to_string(file).ok()?, requests)
}

fn parse(text: &str, requests: u64) -> Option<Counted> {
    let count = |event: &str| {
        let fields = text.lines().map(|l| l.split(',').collect::<Vec<_>>()).find(|f| f.get(2) == Some(&event))?;
        fields[0].parse::<f64>().ok().map(|n| n / requests.max(1) as f64)
    };
    let mut calls: Vec<(String, f64)> = CALLS
        .iter()
        .filter_map(|call| Some(((*call).to_owned(), count(&format!("syscalls:sys_enter_{call}"))?)))
        .filter(|(_, n)| *n >= 0.01)
        .collect();
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    let instructions = count("instructions:u").zip(count("instructions:k"));
    Some(Counted { syscalls: count(ALL)?, calls, instructions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_perf_writes() {
        let text = "# started on Tue\n\n500,,raw_syscalls:sys_enter,1000,100.00,,\n<not supported>,,instructions:u,0,100.00,,\n\
                    <not supported>,,instructions:k,0,100.00,,\n200,,syscalls:sys_enter_recvfrom,1000,100.00,,\n\
                    300,,syscalls:sys_enter_writev,1000,100.00,,\n0,,syscalls:sys_enter_read,1000,100.00,,\n";
        let counted = parse(text, 100).unwrap();
        assert_eq!(counted.syscalls, 5.0);
        assert_eq!(counted.calls, [("writev".to_owned(), 3.0), ("recvfrom".to_owned(), 2.0)]);
        assert_eq!(counted.instructions, None);
        let text = text.replace("<not supported>", "70000");
        assert_eq!(parse(&text, 100).unwrap().instructions, Some((700.0, 700.0)));
        assert_eq!(parse("Error: no permission\n", 100), None);
    }
}
