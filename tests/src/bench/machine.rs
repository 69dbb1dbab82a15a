//! What it was measured on and against.

use std::{fs, process::Command};

use crate::process::program;

/// Cores that may be used.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Cores, processor, memory, kernel, and the versions of the counterparts.
pub fn described() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpus.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("unknown CPU", |(_, m)| m);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} cores ({model}), {} GiB, Linux {}, nginx {}, haproxy {}, redis {}",
        cores(),
        kib.unwrap_or(0) >> 20,
        kernel.split('-').next().unwrap_or_default().trim(),
        version("nginx", "-v"),
        version("haproxy", "-v"),
        version("redis-server", "-v")
    )
}

fn version(name: &str, flag: &str) -> String {
    let output = Command::new(program(name)).arg(flag).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    text.split_whitespace()
        .find(|w| w.chars().filter(|c| *c == '.').count() >= 2 && w.contains(|c: char| c.is_ascii_digit()))
        .unwrap_or("?")
        .trim_start_matches("nginx/")
        .trim_start_matches("v=")
        .to_owned()
}
