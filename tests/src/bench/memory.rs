//! How much memory a proxy holds: at rest, under load, after load, with idle connections.

use std::{fmt::Write, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    cpu::Memory,
    machine,
    nginx::Nginx,
    paced::{self, Paced},
    report::mib,
    servers::{Contender, Job, Setup},
};
use crate::eventually::scripted_delay;

/// Requests a second, and connections that they come over.
const RATE: f64 = 10_000.0;
const CONNECTIONS: usize = 1_000;
/// How long they come, and how long it is quiet afterwards.
const LOAD: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_secs(60);
/// Idle connections that we would like to hold.
const IDLE: usize = 10_000;
/// Descriptors that the harness needs beside them.
const OURS: usize = 500;

/// Memory of one contender in each state.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    name: &'static str,
    rest: Memory,
    load: Memory,
    seen: Paced,
    after: Memory,
    idle: Memory,
    idle_connections: usize,
}

/// Raises the soft limit of descriptors to the hard one: how many connections we can hold.
pub fn most_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let soft = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    IDLE.min(soft.saturating_sub(OURS))
}

/// Takes nginx and ours through all states, one after the other, doing the seed's job.
#[allow(clippy::print_stdout)]
pub async fn measure() -> Vec<Held> {
    let idle_connections = most_connections();
    let origin = Nginx::origin(None).await;
    let setup = Setup { workers: machine::cores(), pinned: false, connections: IDLE + 2_000 };
    let nginx = Contender::nginx(origin.addr, Job::Seed, setup).await;
    let nginx = held(nginx, idle_connections).await;
    // A file's worth of connections to the same origin port must not be in the way of the next contender's.
    let origin = Nginx::origin(None).await;
    let ours = Contender::edgequota(origin.addr, Job::Seed, Setup { workers: 0, ..setup }).await;
    vec![nginx, held(ours, idle_connections).await]
}

#[allow(clippy::print_stdout)]
async fn held(contender: Contender, idle_connections: usize) -> Held {
    let say = |state: &str, memory: Memory| {
        println!("   {:10} {state:10} {:>6} MiB resident", contender.name(), mib(memory.resident));
    };
    scripted_delay(Duration::from_secs(1)).await;
    let rest = contender.memory();
    say("rest", rest);

    let lines = paced::open(contender.addr(), CONNECTIONS).await.unwrap();
    let running = tokio::spawn(paced::run(lines, RATE, LOAD));
    let mut load = Memory::default();
    while !running.is_finished() {
        let now = contender.memory();
        if now.resident > load.resident {
            load = now;
        }
        scripted_delay(Duration::from_millis(500)).await;
    }
    let (lines, seen) = running.await.unwrap();
    drop(lines);
    say("load", load);

    scripted_delay(QUIET).await;
    let after = contender.memory();
    say("after", after);

    let mut lines = paced::open(contender.addr(), idle_connections).await.unwrap();
    for line in &mut lines {
        line.ask().await.unwrap();
    }
    scripted_delay(Duration::from_secs(2)).await;
    let idle = contender.memory();
    say("idle", idle);
    for line in &mut lines {
        line.ask().await.expect("an idle connection was lost");
    }
    Held { name: contender.name(), rest, load, seen, after, idle, idle_connections }
}

/// Markdown.
pub fn table(results: &[Held]) -> String {
    let mut text = format!(
        "Measured on {}. The seed's ConfigMap, as many workers as cores, access log to a file. In MiB: resident \
         (proportional, which divides pages that several processes share; of it in no file). Of nginx master and workers \
         together; both are told to make room for the idle connections (`server.max_connections`). Load: {LOAD:?} over {CONNECTIONS} connections at {RATE} requests/s; the largest value seen, twice a \
         second.\n\n",
        machine::described()
    );
    let names: Vec<_> = results.iter().map(|held| held.name).collect();
    let _ =
        writeln!(text, "| state | {} | aim of edgequota |\n|---|{}---|", names.join(" | "), "---|".repeat(names.len()));
    let idle = results.first().map_or(0, |held| held.idle_connections);
    let rest = format!("20; {:?} after load: at most 1.2 times rest", QUIET);
    for (state, memory, aim) in [
        ("at rest: ready, no request yet".to_owned(), (|held| held.rest) as fn(&Held) -> Memory, rest.as_str()),
        ("under load".to_owned(), |held| held.load, "45"),
        (format!("{QUIET:?} after load, its connections closed"), |held| held.after, ""),
        (format!("{idle} idle kept-alive connections, one request each"), |held| held.idle, ""),
    ] {
        let cells: Vec<_> = results.iter().map(memory).map(cell).collect();
        let _ = writeln!(text, "| {state} | {} | {aim} |", cells.join(" | "));
    }
    text.push('\n');
    for held in results {
        let grown = held.idle.proportional.saturating_sub(held.after.proportional);
        let _ = writeln!(
            text,
            "- {}: {:.0} requests/s came ({} answers, {} not 200, {} connections lost); after load {:.2} times rest; an \
             idle connection holds {:.1} KiB.",
            held.name,
            held.seen.rate,
            held.seen.good + held.seen.other,
            held.seen.other,
            held.seen.broken,
            held.after.resident as f64 / held.rest.resident as f64,
            grown as f64 / 1024.0 / held.idle_connections.max(1) as f64,
        );
    }
    if idle < IDLE {
        let _ = writeln!(text, "\nThis machine's limit of descriptors allows {idle} connections instead of {IDLE}.");
    }
    text
}

/// What was not as it should be.
pub fn complaints(results: &[Held]) -> Vec<String> {
    let bad = results.iter().filter(|held| held.seen.other + held.seen.broken > 0);
    bad.map(|held| format!("{}: {} answers not 200, {} connections lost", held.name, held.seen.other, held.seen.broken))
        .collect()
}

fn cell(memory: Memory) -> String {
    format!("{} ({}; {})", mib(memory.resident), mib(memory.proportional), mib(memory.anonymous))
}
