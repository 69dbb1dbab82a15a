//! From an edit of the policy file to its enforcement on every data plane, and many subscribers at once.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{cpu, machine, nginx::Nginx, options::Options, paced::Line, report::spread};
use crate::{
    edgequota::Edgequota,
    eventually::{eventually, scripted_delay},
    fake_plane::FakePlane,
    fleet::Fleet,
    redis_server::Redis,
};

/// Edits that are timed.
const EDITS: usize = 25;
/// Edits before them, after which every process has done everything once.
const WARM_UP: usize = 5;
/// What the file watch waits after a change for another one.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How often each data plane is asked.
const STEP: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(20);
/// Routes and overrides of the policy beside the one that changes.
const ROUTES: usize = 100;
const OVERRIDES: usize = 1_000;
/// Clients that subscribe at once, how often, and the size of the policy that they get.
const SUBSCRIBERS: usize = 500;
const TIMES: usize = 5;
const LARGE: usize = 1 << 20;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    planes: usize,
    policy_bytes: usize,
    /// From the change of the file to the first answer by it, less the debounce; every edit on every data plane.
    latencies: Vec<f64>,
    memory_each: u64,
    large_bytes: u64,
    /// From the first connect until all subscribers had acknowledged, and until the control plane had all of it.
    acked: Vec<f64>,
    in_step: Vec<f64>,
}

/// Measures both.
pub async fn measure(options: &Options) -> Seen {
    let mut seen = edits(options.planes).await;
    (seen.large_bytes, seen.acked, seen.in_step) = subscribers().await;
    seen
}

/// A policy in which version `n` answers `/v<n>`, and nothing else without a known prefix has a route.
fn policy(origin: std::net::SocketAddr, n: usize) -> String {
    let mut text = format!("backends:\n- {{ name: b, url: \"http://{origin}\" }}\n");
    text.push_str(
        "rate_limit: { average: 1000, burst: 1000, key_strategy: { type: header, header_name: X-Tenant-Id } }\n",
    );
    let _ = write!(text, "routes:\n- {{ name: version, match: {{ path_exact: /v{n} }}, backend: b }}\n");
    for route in 0..ROUTES {
        let _ = writeln!(
            text,
            "- {{ name: r{route}, match: {{ hosts: [h{route}.example.com], path_prefix: /api }}, backend: b, rate_limit: \
             {{ average: {} }} }}",
            route + 1
        );
    }
    text.push_str("overrides:\n");
    for tenant in 0..OVERRIDES {
        let _ = writeln!(text, "- {{ keys: [tenant-{tenant}], limit: default, average: {} }}", tenant + 1);
    }
    text
}

#[allow(clippy::print_stdout)]
async fn edits(planes: usize) -> Seen {
    let (origin, redis) = (Nginx::origin(None).await, Redis::start().await);
    let settings = format!("{}server: {{ workers: 1 }}\nlogging: {{ access_log_enabled: false }}\n", redis.yaml(&[]));
    let first = policy(origin.addr, 0);
    let fleet = Fleet::start(planes, &settings, &first).await;
    println!("   {planes} data planes are ready");
    let mut latencies = Vec::new();
    for n in 1..=WARM_UP + EDITS {
        // Quiet first: the acknowledgements of the edit before, and the pollers' own connections.
        fleet.in_step(LONGEST).await;
        let mut lines = Vec::new();
        for plane in &fleet.planes {
            let mut line = Line::open(plane.proxy(), &format!("/v{n}"), "t").await.unwrap();
            assert_eq!(line.ask().await.unwrap(), 404, "version {n} is there before its edit");
            lines.push(line);
        }
        fleet.edit(&policy(origin.addr, n));
        let changed = Instant::now();
        scripted_delay(DEBOUNCE).await;
        let mut tasks = JoinSet::new();
        for (plane, mut line) in lines.into_iter().enumerate() {
            tasks.spawn(async move {
                scripted_delay(STEP.mul_f64(plane as f64 / planes as f64)).await;
                loop {
                    let status = line.ask().await.unwrap();
                    let took = changed.elapsed();
                    match status {
                        200 => return took,
                        404 => assert!(took < LONGEST, "data plane {plane} does not enforce edit {n}"),
                        other => panic!("{other} on data plane {plane}"),
                    }
                    scripted_delay(STEP).await;
                }
            });
        }
        let took: Vec<f64> =
            tasks.join_all().await.iter().map(|t| t.saturating_sub(DEBOUNCE).as_secs_f64() * 1e3).collect();
        println!("   edit {n}: last data plane after {:.0} ms beside the debounce", spread(took.clone())[2]);
        if n > WARM_UP {
            latencies.extend(took);
        }
    }
    let memory: Vec<u64> = fleet.planes.iter().map(|p| cpu::memory(p.pid()).proportional).collect();
    Seen {
        planes,
        policy_bytes: first.len(),
        latencies,
        memory_each: memory.iter().sum::<u64>() / memory.len() as u64,
        large_bytes: 0,
        acked: Vec::new(),
        in_step: Vec::new(),
    }
}

/// Size of the policy, and the two times of each try in seconds.
#[allow(clippy::print_stdout)]
async fn subscribers() -> (u64, Vec<f64>, Vec<f64>) {
    let mut text =
        "redis: { mode: embedded }\nbackend: { url: \"http://backend\" }\nrate_limit: { average: 5, burst: 5, \
                    key_strategy: { type: header, header_name: X-Tenant-Id } }\noverrides:\n"
            .to_owned();
    for n in 0.. {
        if text.len() > LARGE + LARGE / 8 {
            break;
        }
        // Random names: one that compresses to nothing would make it easy.
        let name = format!("tenant-{:016x}-{:016x}-{n}", fastrand::u64(..), fastrand::u64(..));
        let _ = writeln!(text, "- {{ keys: [\"{name}\"], limit: default, average: {} }}", n + 1);
    }
    let control = Edgequota::controlplane().config(text).ready().await;
    let bytes = control.admin_json("/v1/policy").await["bytes"].as_u64().unwrap_or(0);
    assert!(bytes >= LARGE as u64, "the large policy has only {bytes} bytes");
    let (mut acked, mut in_step) = (Vec::new(), Vec::new());
    for time in 0..TIMES {
        let (addr, start) = (control.grpc(), Instant::now());
        let mut tasks = JoinSet::new();
        for n in 0..SUBSCRIBERS {
            tasks.spawn(async move {
                let mut plane = FakePlane::subscribe(addr, &format!("fake-{time}-{n}"), None).await;
                let snapshot = plane.snapshot(LONGEST).await;
                plane.ack(snapshot.version).await;
                plane
            });
        }
        let planes = tasks.join_all().await;
        acked.push(start.elapsed().as_secs_f64());
        eventually("the control plane has every acknowledgement", LONGEST, || async {
            (control.admin_json("/v1/dataplanes").await["in_step"] == SUBSCRIBERS).then_some(())
        })
        .await;
        in_step.push(start.elapsed().as_secs_f64());
        println!("   {SUBSCRIBERS} subscribers: acknowledged after {:.2} s", acked[time]);
        drop(planes);
        eventually("all are gone", LONGEST, || async {
            (control.admin_json("/v1/dataplanes").await["connected"] == 0).then_some(())
        })
        .await;
    }
    (bytes, acked, in_step)
}

fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent).div_ceil(100).clamp(1, sorted.len()) - 1]
}

/// Markdown.
pub fn table(seen: &Seen) -> String {
    let each = |percent| percentile(&seen.latencies, percent);
    let mut text = format!(
        "Measured on {}, everything on this one machine.\n\n| what | median | 99th percentile | most | aim |\n|---|---|---|---|---|\n",
        machine::described()
    );
    let _ = writeln!(
        text,
        "| edit to enforced, {} data planes, {EDITS} edits, less the debounce of {DEBOUNCE:?} | {:.0} ms | {:.0} ms | {:.0} ms | \
         99th percentile at most 100 ms |",
        seen.planes,
        each(50),
        each(99),
        each(100)
    );
    let row = |values: &[f64]| {
        let [_, median, most] = spread(values.to_vec());
        format!("{median:.2} s |  | {most:.2} s")
    };
    let _ = writeln!(
        text,
        "| {SUBSCRIBERS} clients subscribe at once to {:.2} MiB: all have acknowledged | {} | at most 2 s |",
        seen.large_bytes as f64 / f64::from(1 << 20),
        row(&seen.acked)
    );
    let _ = writeln!(text, "| and the control plane lists all of them in step | {} | |", row(&seen.in_step));
    let _ = writeln!(
        text,
        "\nThe edited policy has {ROUTES} routes and {OVERRIDES} overrides ({} KiB of YAML). Each data plane is a process \
         with one worker, asked every {STEP:?} by a request that only the new version has a route for, which is part of the \
         time and of the machine's load; each holds {:.1} MiB (shared pages divided). The clients acknowledge without \
         compiling, {TIMES} times.",
        seen.policy_bytes >> 10,
        seen.memory_each as f64 / f64::from(1 << 20)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_of_100_is_not_the_last() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((percentile(&values, 99), percentile(&values, 50), percentile(&values, 100)), (99.0, 50.0, 100.0));
    }
}
