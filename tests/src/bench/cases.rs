//! What is measured, and the measuring.

use super::{
    options::Options,
    servers::{Contender, Job, Nginx},
    wrk::{self, Keys, Seen},
};

/// One kind of work.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Short name, for `--only`.
    pub name: &'static str,
    /// Title in the table.
    pub title: &'static str,
    job: Job,
    keys: Keys,
    haproxy: bool,
}

/// All of them.
pub fn all() -> [Case; 5] {
    let case = |name, title, job, keys| Case { name, title, job, keys, haproxy: job == Job::Forward };
    [
        case("forward", "forward, no limit", Job::Forward, Keys::One),
        case("hot", "exact limit, one hot key", Job::HotKey, Keys::One),
        case("many", "exact limit, 10,000 keys", Job::ManyKeys, Keys::TenThousand),
        case("flood", "refusing a flood on one key", Job::Flood, Keys::One),
        case("seed", "the seed's ConfigMap as it stands", Job::Seed, Keys::TenThousand),
    ]
}

/// One measurement of one contender.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// CPU of the proxy, microseconds a request.
    pub proxy: f64,
    /// CPU of its Redis, microseconds a request.
    pub redis: f64,
    /// Calls of Redis a request.
    pub calls: f64,
    /// Requests a second.
    pub rate: f64,
}

/// All rounds of one case.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Title.
    pub title: &'static str,
    /// By contender, nginx first; one sample a round.
    pub contenders: Vec<(&'static str, Vec<Sample>)>,
    /// Measurements that did not do the job they claim.
    pub complaints: Vec<String>,
    /// Resident bytes of our process before the first request and after the last round.
    pub memory: (u64, u64),
}

/// Starts the contenders of a case and measures them in turn, round by round.
#[allow(clippy::print_stdout)]
pub async fn measure(case: &Case, options: &Options) -> Measured {
    let origin = Nginx::origin().await;
    let mut contenders = vec![Contender::Nginx(Nginx::proxy(origin.addr, case.job).await)];
    if case.haproxy {
        contenders.push(Contender::haproxy(origin.addr).await);
    }
    contenders.push(Contender::edgequota(origin.addr, case.job).await);
    let mut measured = Measured {
        title: case.title,
        contenders: contenders.iter().map(|c| (c.name(), Vec::new())).collect(),
        complaints: Vec::new(),
        memory: (memory(&contenders), 0),
    };
    let dir = tempfile::tempdir().unwrap();
    for contender in &contenders {
        load(contender, case, options, 1, dir.path()).await;
    }
    for round in 1..=options.rounds {
        for (n, contender) in contenders.iter().enumerate() {
            let (before, calls) = (contender.cpu(), contender.calls().await);
            let seen = load(contender, case, options, options.seconds, dir.path()).await;
            let (after, called) = (contender.cpu(), contender.calls().await - calls);
            let requests = seen.requests as f64;
            let sample = Sample {
                proxy: (after.0 - before.0) * 1e6 / requests,
                redis: (after.1 - before.1) * 1e6 / requests,
                calls: called / requests,
                rate: requests / seen.seconds,
            };
            println!(
                "   round {round} {:10} {:7.2} us + redis {:6.2} us, {:.4} calls a request, {:8.0} requests/s, {} refused",
                contender.name(),
                sample.proxy,
                sample.redis,
                sample.calls,
                sample.rate,
                seen.refused
            );
            if let Some(words) = complaint(case, &seen) {
                measured.complaints.push(format!("round {round}, {}: {words}", contender.name()));
            }
            measured.contenders[n].1.push(sample);
        }
    }
    measured.memory.1 = memory(&contenders);
    measured
}

fn memory(contenders: &[Contender]) -> u64 {
    contenders.iter().map(Contender::memory).sum()
}

async fn load(contender: &Contender, case: &Case, options: &Options, seconds: u32, dir: &std::path::Path) -> Seen {
    let (addr, keys, connections, dir) = (contender.addr(), case.keys, options.connections, dir.to_owned());
    tokio::task::spawn_blocking(move || wrk::run(addr, keys, connections, seconds, &dir)).await.unwrap()
}

fn complaint(case: &Case, seen: &Seen) -> Option<String> {
    let refused = seen.refused as f64 / seen.requests as f64;
    if seen.errors > 0 {
        Some(format!("{} socket errors", seen.errors))
    } else if case.job == Job::Flood {
        (refused < 0.99).then(|| format!("only {:.1} % were refused", refused * 100.0))
    } else {
        (refused > 0.0).then(|| format!("{} of {} were refused", seen.refused, seen.requests))
    }
}
