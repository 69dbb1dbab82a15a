//! From one worker to two: what a request costs then, and whether both have work.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    cases::{Sample, complaint, sample},
    machine,
    nginx::Nginx,
    options::Options,
    report::{shown, spread},
    servers::{Contender, Job, Setup},
    wrk::{Keys, Load},
};
use crate::{
    body,
    client::{H2, request},
};

/// HTTP/2 connections, and requests under way on each.
const CONNECTIONS: usize = 3;
const STREAMS: usize = 32;

/// One contender with one worker and with two.
#[derive(Clone, Debug)]
pub struct Scaled {
    title: &'static str,
    name: &'static str,
    one: Vec<Sample>,
    two: Vec<Sample>,
    /// Of the second: share of the busier worker in the CPU time of both; empty: not ours.
    shares: Vec<f64>,
}

/// Both workers under a few HTTP/2 connections.
#[derive(Clone, Debug)]
pub struct FewConnections {
    shares: Vec<f64>,
    rates: Vec<f64>,
}

/// The results of this part.
#[derive(Clone, Debug)]
pub struct Scaling {
    scaled: Vec<Scaled>,
    few: FewConnections,
    /// Measurements that did not do the job they claim.
    pub complaints: Vec<String>,
}

/// Measures all of it in interleaved rounds.
#[allow(clippy::print_stdout)]
pub async fn measure(options: &Options) -> Scaling {
    let setup = |workers| Setup { workers, pinned: false, ..Setup::default() };
    let origin = Nginx::origin(None).await;
    let mut pairs = Vec::new();
    for (title, job) in [
        ("forward, no limit", Job::Forward),
        ("leased limit, one hot key", Job::Leased),
        ("exact limit, one hot key", Job::HotKey),
    ] {
        if job == Job::Forward {
            let nginx = [
                Contender::nginx(origin.addr, job, setup(1)).await,
                Contender::nginx(origin.addr, job, setup(2)).await,
            ];
            pairs.push((title, job, nginx));
        }
        let ours = [
            Contender::edgequota(origin.addr, job, setup(1)).await,
            Contender::edgequota(origin.addr, job, setup(2)).await,
        ];
        pairs.push((title, job, ours));
    }
    let mut complaints = Vec::new();
    let mut scaled: Vec<Scaled> = pairs
        .iter()
        .map(|(title, _, [one, _])| Scaled { title, name: one.name(), one: vec![], two: vec![], shares: vec![] })
        .collect();
    let load = Load { keys: Keys::One, connections: options.connections, seconds: options.seconds, cpu: None };
    for (.., [one, two]) in &pairs {
        sample(one, Load { seconds: 1, ..load }).await;
        sample(two, Load { seconds: 1, ..load }).await;
    }
    for round in 1..=options.rounds {
        for ((title, job, [one, two]), scaled) in pairs.iter().zip(&mut scaled) {
            let (first, seen) = sample(one, load).await;
            complaints.extend(complaint(*job, &seen).map(|c| format!("{title}, one worker: {c}")));
            let before = two.by_worker();
            let (second, seen) = sample(two, load).await;
            complaints.extend(complaint(*job, &seen).map(|c| format!("{title}, two workers: {c}")));
            scaled.shares.extend(busier(&before, &two.by_worker()));
            println!(
                "   round {round} {title}, {}: {:.2} -> {:.2} us, {:.0} -> {:.0} requests/s",
                scaled.name, first.proxy, second.proxy, first.rate, second.rate
            );
            scaled.one.push(first);
            scaled.two.push(second);
        }
    }
    drop(pairs);
    let few = few_connections(options, &Contender::edgequota(origin.addr, Job::Forward, setup(2)).await).await;
    Scaling { scaled, few, complaints }
}

#[allow(clippy::print_stdout)]
async fn few_connections(options: &Options, ours: &Contender) -> FewConnections {
    let mut few = FewConnections { shares: Vec::new(), rates: Vec::new() };
    for _ in 0..options.rounds {
        let (before, start) = (ours.by_worker(), Instant::now());
        let length = Duration::from_secs(u64::from(options.seconds));
        let mut tasks = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let connection = std::sync::Arc::new(H2::connect(ours.addr()).await);
            for _ in 0..STREAMS {
                let connection = std::sync::Arc::clone(&connection);
                tasks.spawn(async move {
                    let mut answers = 0u32;
                    while start.elapsed() < length {
                        let answer = connection.send(request("GET", "bench", "/", &[], body::empty())).await.unwrap();
                        assert_eq!(answer.status, 200);
                        answers += 1;
                    }
                    answers
                });
            }
        }
        let answers: u32 = tasks.join_all().await.into_iter().sum();
        few.rates.push(f64::from(answers) / start.elapsed().as_secs_f64());
        few.shares.extend(busier(&before, &ours.by_worker()));
        println!("   {CONNECTIONS} h2 connections: busier worker {:.2}", few.shares.last().unwrap_or(&1.0));
    }
    few
}

/// Share of the busiest worker in the time of all; None: there are no workers to be told apart.
fn busier(before: &[f64], after: &[f64]) -> Option<f64> {
    let used: Vec<f64> = before.iter().zip(after).map(|(b, a)| a - b).collect();
    let all: f64 = used.iter().sum();
    (all > 0.0).then(|| used.iter().copied().fold(0.0, f64::max) / all)
}

/// Markdown.
pub fn table(result: &Scaling, options: &Options) -> String {
    let mut text = format!(
        "Measured on {}. {} rounds of {} s in turn, {} connections; nothing is pinned, so with two cores load, origin and \
         Redis compete with the proxy, and the requests a second say what this machine gives, not what two workers can. \
         CPU of the proxy in microseconds a request: median (least-most); the ratio is within the round.\n\n\
         | work | | one worker | two workers | two / one | requests/s, one | requests/s, two | busier worker's share |\n\
         |---|---|---|---|---|---|---|---|\n",
        machine::described(),
        options.rounds,
        options.seconds,
        options.connections
    );
    for scaled in &result.scaled {
        let cpu = |samples: &[Sample]| shown(spread(samples.iter().map(|s| s.proxy).collect()));
        let rate = |samples: &[Sample]| spread(samples.iter().map(|s| s.rate).collect())[1];
        let ratio = scaled.one.iter().zip(&scaled.two).map(|(one, two)| two.proxy / one.proxy).collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.0} | {:.0} | {} |",
            scaled.title,
            scaled.name,
            cpu(&scaled.one),
            cpu(&scaled.two),
            shown(spread(ratio)),
            rate(&scaled.one),
            rate(&scaled.two),
            if scaled.shares.is_empty() { String::new() } else { shown(spread(scaled.shares.clone())) },
        );
    }
    let _ = writeln!(
        text,
        "\n{CONNECTIONS} HTTP/2 connections with {STREAMS} requests under way on each, two workers: the busier worker has \
         {} of the CPU time of both (an even split of three connections is 0.67), at {:.0} requests/s.",
        shown(spread(result.few.shares.clone())),
        spread(result.few.rates.clone())[1]
    );
    text
}
