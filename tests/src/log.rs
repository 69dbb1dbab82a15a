//! What a process writes, line by line.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

use crate::eventually::eventually;

/// Lines that are kept; older ones are forgotten.
const KEPT: usize = 100_000;

/// Captured output of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Log {
    /// Reads `from` on a thread until it ends.
    pub fn follow(&self, from: impl Read + Send + 'static) -> std::thread::JoinHandle<()> {
        let log = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(from);
            let mut raw = Vec::new();
            while reader.read_until(b'\n', &mut raw).is_ok_and(|n| n > 0) {
                let line = String::from_utf8_lossy(&raw).trim_end().to_owned();
                raw.clear();
                let mut lines = log.lines.lock().unwrap();
                if lines.len() == KEPT {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        })
    }

    /// All lines kept.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().iter().cloned().collect()
    }

    /// Everything as one text.
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Whether a line contains `needle`.
    pub fn contains(&self, needle: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|l| l.contains(needle))
    }

    /// Lines that are JSON objects.
    pub fn json(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    /// JSON lines with this `msg`.
    pub fn with_msg(&self, msg: &str) -> Vec<Value> {
        self.json().into_iter().filter(|v| v["msg"] == msg).collect()
    }

    /// Waits until a line contains `needle`, at most `limit`.
    pub async fn until(&self, needle: &str, limit: Duration) {
        eventually(&format!("log line with {needle:?}"), limit, || async { self.contains(needle).then_some(()) }).await;
    }

    /// Prints the last lines, for a failed test.
    pub fn print_tail(&self, name: &str) {
        let lines = self.lines();
        let from = lines.len().saturating_sub(150);
        eprintln!("--- last lines of {name} ---");
        for line in &lines[from..] {
            eprintln!("{line}");
        }
    }
}
