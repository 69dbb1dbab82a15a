//! What is measured, and the measuring.

use super::{
    count::{self, Counted},
    cpu,
    nginx::Nginx,
    options::Options,
    servers::{Contender, Job, Setup},
    wrk::{Keys, Load, Seen},
};

/// One kind of work.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Short name, for `--only`.
    pub name: &'static str,
    /// Title in the table.
    pub title: &'static str,
    /// What we aim at, in words; empty: nothing is said.
    pub aim: &'static str,
    job: Job,
    keys: Keys,
    haproxy: bool,
}

/// All of them.
pub fn all() -> [Case; 6] {
    let case = |name, title, aim, job, keys| Case { name, title, aim, job, keys, haproxy: job == Job::Forward };
    [
        case("forward", "forward, no limit", "1.0", Job::Forward, Keys::One),
        case("leased", "leased limit, one hot key", "1.1", Job::Leased, Keys::One),
        case("hot", "exact limit, one hot key", "1.5 with Redis, 0.25 calls", Job::HotKey, Keys::One),
        case("many", "exact limit, 10,000 keys", "", Job::ManyKeys, Keys::TenThousand),
        case("flood", "refusing a flood on one key", "1.2, 0.001 calls", Job::Flood, Keys::One),
        case("seed", "the seed's ConfigMap as it stands", "1.2", Job::Seed, Keys::TenThousand),
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

/// All rounds of one contender.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// Its name.
    pub name: &'static str,
    /// One sample a round.
    pub samples: Vec<Sample>,
    /// From the pass that counts; None: this machine does not.
    pub counted: Option<Counted>,
}

/// All rounds of one case.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Title.
    pub title: &'static str,
    /// Aim of ours.
    pub aim: &'static str,
    /// By contender, nginx first.
    pub contenders: Vec<Rounds>,
    /// Measurements that did not do the job they claim.
    pub complaints: Vec<String>,
}

/// Starts the contenders of a case and measures them in turn, round by round; then counts their system calls.
#[allow(clippy::print_stdout)]
pub async fn measure(case: &Case, options: &Options) -> Measured {
    let setup = Setup::default();
    let origin = Nginx::origin(setup.others()).await;
    let mut contenders = vec![Contender::nginx(origin.addr, case.job, setup).await];
    if case.haproxy {
        contenders.push(Contender::haproxy(origin.addr).await);
    }
    contenders.push(Contender::edgequota(origin.addr, case.job, setup).await);
    let rounds = |c: &Contender| Rounds { name: c.name(), samples: Vec::new(), counted: None };
    let mut measured = Measured {
        title: case.title,
        aim: case.aim,
        contenders: contenders.iter().map(rounds).collect(),
        complaints: Vec::new(),
    };
    let load =
        Load { keys: case.keys, connections: options.connections, seconds: options.seconds, cpu: setup.others() };
    for contender in &contenders {
        run(contender, Load { seconds: 1, ..load }, Vec::new()).await;
    }
    for round in 1..=options.rounds {
        for (n, contender) in contenders.iter().enumerate() {
            let (sample, seen) = sample(contender, load).await;
            println!(
                "   round {round} {:10} {:7.2} us + redis {:6.2} us, {:.4} calls a request, {:8.0} requests/s, {} refused",
                contender.name(),
                sample.proxy,
                sample.redis,
                sample.calls,
                sample.rate,
                seen.refused
            );
            if let Some(words) = complaint(case.job, &seen) {
                measured.complaints.push(format!("round {round}, {}: {words}", contender.name()));
            }
            measured.contenders[n].samples.push(sample);
        }
    }
    if count::available().is_ok() {
        for (contender, rounds) in contenders.iter().zip(&mut measured.contenders) {
            rounds.counted = counted(contender, load).await;
            let shown = rounds.counted.as_ref().map_or(0.0, |c| c.syscalls);
            println!("   counted {:10} {shown:7.2} system calls a request", contender.name());
        }
    }
    measured
}

/// Drives a contender once.
pub async fn sample(contender: &Contender, load: Load) -> (Sample, Seen) {
    let (before, calls) = (contender.cpu(), contender.calls().await);
    let seen = run(contender, load, Vec::new()).await;
    let (after, called) = (contender.cpu(), contender.calls().await - calls);
    let requests = seen.requests as f64;
    let sample = Sample {
        proxy: (after.0 - before.0) * 1e6 / requests,
        redis: (after.1 - before.1) * 1e6 / requests,
        calls: called / requests,
        rate: requests / seen.seconds,
    };
    (sample, seen)
}

async fn counted(contender: &Contender, load: Load) -> Option<Counted> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("counted");
    let seen = run(contender, load, count::wrapper(&cpu::family(contender.pid()), &file)).await;
    count::read(&file, seen.requests)
}

async fn run(contender: &Contender, load: Load, wrapper: Vec<String>) -> Seen {
    let addr = contender.addr();
    tokio::task::spawn_blocking(move || load.run(addr, &wrapper)).await.unwrap()
}

/// Why a run did not do this job; None: it did.
pub fn complaint(job: Job, seen: &Seen) -> Option<String> {
    let refused = seen.refused as f64 / seen.requests as f64;
    if seen.errors > 0 {
        Some(format!("{} socket errors", seen.errors))
    } else if job == Job::Flood {
        (refused < 0.99).then(|| format!("only {:.1} % were refused", refused * 100.0))
    } else {
        (refused > 0.0).then(|| format!("{} of {} were refused", seen.refused, seen.requests))
    }
}
