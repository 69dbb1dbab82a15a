//! Quiet moments: nobody is there, and everything must be given back.

use std::{fmt, time::Duration};

use crate::{Edgequota, Fleet, Origin, bench::cpu, eventually};

const SETTLED: Duration = Duration::from_secs(120);
/// How much a process may hold: percent of what it held after the warm-up, and some pages of an allocator.
const GROWTH: u64 = 115;
const ROOM: u64 = 8 << 20;
/// Descriptors that may differ: a connection that is being replaced at the moment of looking.
const DESCRIPTORS: usize = 2;

/// Of every process, the control plane first.
#[derive(Clone, Debug)]
pub(super) struct Quiet(Vec<Held>);

#[derive(Clone, Copy, Debug)]
struct Held {
    memory: u64,
    descriptors: usize,
    threads: usize,
}

/// Waits until all connections are closed and descriptors and memory are back where they were (at rest, and after the
/// warm-up), or will not come; then looks.
///
/// # Panics
/// When a connection does not go.
pub(super) async fn moment(fleet: &Fleet, origin: &Origin, before: Option<&[Quiet]>) -> Quiet {
    for plane in &fleet.planes {
        eventually("no client connection is counted any more", SETTLED, || async {
            (plane.metrics().await.get("edgequota_connections") == Some(0.0)).then_some(())
        })
        .await;
    }
    eventually("connections to the origin are closed", SETTLED, || async { (origin.open() == 0).then_some(()) }).await;
    let start = std::time::Instant::now();
    loop {
        let now = Quiet(processes(fleet).map(held).collect());
        let complaints = before.map(|before| now.complaints(before)).unwrap_or_default();
        if complaints.is_empty() || start.elapsed() > SETTLED {
            return now;
        }
        crate::eventually::scripted_delay(Duration::from_millis(500)).await;
    }
}

fn processes(fleet: &Fleet) -> impl Iterator<Item = &Edgequota> {
    std::iter::once(fleet.control()).chain(&fleet.planes)
}

fn held(process: &Edgequota) -> Held {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().count();
    Held { memory: cpu::memory(process.pid()).resident, descriptors: process.descriptors(), threads }
}

impl Quiet {
    /// What is more than it was.
    fn complaints(&self, before: &[Quiet]) -> Vec<String> {
        let mut words = Vec::new();
        let Some(rest) = before.first() else { return words };
        for (n, held) in self.0.iter().enumerate() {
            let name = if n == 0 { "control plane".to_owned() } else { format!("data plane {n}") };
            if held.descriptors > rest.0[n].descriptors + DESCRIPTORS {
                words.push(format!("{name}: {} descriptors, {} at rest", held.descriptors, rest.0[n].descriptors));
            }
            let Some(warm) = before.get(1) else { continue };
            let most = warm.0[n].memory / 100 * GROWTH + ROOM;
            if held.memory > most {
                words.push(format!("{name}: {} bytes resident, {} after the warm-up", held.memory, warm.0[n].memory));
            }
            // Tokio's blocking threads come and go.
            if held.threads > warm.0[n].threads + 8 {
                words.push(format!("{name}: {} threads, {} after the warm-up", held.threads, warm.0[n].threads));
            }
        }
        words
    }

    /// # Panics
    /// When the last moment holds more than the ones before allow.
    pub(super) fn compare(moments: &[Quiet]) {
        for (n, moment) in moments.iter().enumerate().skip(1) {
            let complaints = moment.complaints(&moments[..n]);
            assert!(complaints.is_empty(), "after cycle {n}: {complaints:?}; all moments: {moments:#?}");
        }
    }
}

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, held) in self.0.iter().enumerate() {
            let name = if n == 0 { "control plane" } else { "; data plane" };
            let mib = held.memory as f64 / f64::from(1 << 20);
            write!(f, "{name} {mib:.1} MiB, {} descriptors, {} threads", held.descriptors, held.threads)?;
        }
        Ok(())
    }
}
