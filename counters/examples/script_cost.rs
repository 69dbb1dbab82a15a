//! What a decision costs Redis: CPU time of a redis-server of its own, as the kernel counts it, for calls of one plan and
//! of batches, pipelined. With names of files: the same for other versions of the script that take the same arguments, in
//! turn with the one that ships.
//!
//! `cargo run --release -p edgequota-counters --example script_cost [other.lua ...]` (needs `redis-server`)
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use edgequota_counters::store::{Counter, Plan, Purpose, script};
use edgequota_policy::Numbers;

const SUBJECTS: u64 = 1000;
const COUNTERS_A_ROUND: u64 = 100_000;
const ROUNDS: usize = 5;
const CALLS_A_PIPELINE: u64 = 32;

fn main() {
    let (mut server, port) = start();
    let client = redis::Client::open(("127.0.0.1", port)).expect("an address");
    let mut connection = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        client.get_connection().ok()
    });
    let connection = connection.as_mut().expect("redis-server answers");
    let mut sources = vec![("as it ships".to_owned(), script::SOURCE.to_owned())];
    sources.extend(std::env::args().skip(1).map(|path| {
        let text = std::fs::read_to_string(&path).expect("a readable script");
        (path, text)
    }));
    let hashes: Vec<String> = sources
        .iter()
        .map(|(_, text)| redis::cmd("SCRIPT").arg("LOAD").arg(text).query(connection).expect("the script compiles"))
        .collect();
    println!("us of Redis's CPU a counter, {ROUNDS} rounds each, least and median:");
    for batch in [1, 8, 16, 32] {
        let mut costs = vec![Vec::new(); sources.len()];
        for round in 0..=ROUNDS {
            for (hash, costs) in hashes.iter().zip(&mut costs) {
                let cost = measure(connection, server.id(), hash, batch);
                // The first makes the counters.
                if round > 0 {
                    costs.push(cost);
                }
            }
        }
        for ((name, _), costs) in sources.iter().zip(&mut costs) {
            costs.sort_by(f64::total_cmp);
            println!("{batch:>3} in a call  {:.2} {:.2}  {name}", costs[0], costs[costs.len() / 2]);
        }
    }
    server.kill().expect("it ends");
    server.wait().expect("it ends");
}

fn start() -> (Child, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let server = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    (server, port)
}

/// Microseconds that the process was on a CPU.
fn cpu_us(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("a kernel that counts");
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds") / 1000.0
}

fn plan_of(subject: u64) -> Plan {
    let numbers = Numbers::new(1_000_003, 1_000_000, Duration::from_secs(1)).expect("can be counted");
    let counter = Counter { cost: 1, numbers, enforce: true, min_ttl_ms: 0 };
    let mut plan = Plan::new(Purpose::Spend, String::new());
    plan.push(counter, |key| key.push_str(&format!("rl:edgequota:tenant-{subject}")));
    plan
}

#[allow(clippy::cast_precision_loss)]
fn measure(connection: &mut redis::Connection, pid: u32, hash: &str, batch: u64) -> f64 {
    let calls = COUNTERS_A_ROUND / batch;
    let mut pipelines = Vec::new();
    let mut subject = 0;
    while pipelines.len() < usize::try_from(calls / CALLS_A_PIPELINE).expect("few") {
        let mut pipeline = redis::pipe();
        for _ in 0..CALLS_A_PIPELINE {
            let plans: Vec<Plan> = (0..batch).map(|i| plan_of((subject + i) % SUBJECTS)).collect();
            subject += batch;
            let mut command = redis::cmd("EVALSHA");
            command.arg(hash);
            script::arguments(&plans, true, &mut command);
            pipeline.add_command(command);
        }
        pipelines.push(pipeline);
    }
    let before = cpu_us(pid);
    for pipeline in &pipelines {
        pipeline.exec(connection).expect("the script runs");
    }
    (cpu_us(pid) - before) / (pipelines.len() as u64 * CALLS_A_PIPELINE * batch) as f64
}
