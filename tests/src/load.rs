//! Steady load, and what came of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::Request;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    body::AnyBody,
    client::{Answer, H1},
};

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers by status.
    pub statuses: BTreeMap<u16, usize>,
    /// Failures below HTTP (reset, no answer), with their texts.
    pub failures: Vec<String>,
    /// Answers that the test's judge did not like, with its words (the first hundred).
    pub wrong: Vec<String>,
    /// From before the first request to after the last answer.
    pub took: Duration,
}

impl Tally {
    /// Answers with this status.
    pub fn status(&self, status: u16) -> usize {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// All answers.
    pub fn total(&self) -> usize {
        self.statuses.values().sum()
    }

    /// Fails the test unless every request was answered with one of `statuses` and liked.
    pub fn expect_only(&self, statuses: &[u16]) {
        assert!(self.failures.is_empty(), "failed requests: {:?}", &self.failures[..self.failures.len().min(10)]);
        assert!(self.wrong.is_empty(), "wrong answers: {:?}", self.wrong);
        let others: Vec<_> = self.statuses.iter().filter(|(s, _)| !statuses.contains(s)).collect();
        assert!(others.is_empty(), "unexpected statuses {others:?} beside {:?}", self.statuses);
        assert!(self.total() > 0, "no request was answered");
    }

    /// Adds another one.
    pub fn merge(&mut self, other: Tally) {
        for (status, n) in other.statuses {
            *self.statuses.entry(status).or_default() += n;
        }
        self.failures.extend(other.failures);
        self.wrong.extend(other.wrong);
        self.wrong.truncate(100);
        self.took = self.took.max(other.took);
    }
}

type Make = dyn Fn(usize) -> Request<AnyBody> + Send + Sync;
type Judge = dyn Fn(&Answer) -> Result<(), String> + Send + Sync;

/// Load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    tasks: JoinSet<Tally>,
    stop: CancellationToken,
    start: Instant,
}

impl Load {
    /// `connections` kept-alive HTTP/1.1 connections, spread over `targets`, each with one request after the other.
    /// A connection that the peer closed between two requests is opened again: that is no failure.
    pub fn start(
        targets: &[SocketAddr],
        connections: usize,
        make: impl Fn(usize) -> Request<AnyBody> + Send + Sync + 'static,
        judge: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Load {
        let (make, judge): (Arc<Make>, Arc<Judge>) = (Arc::new(make), Arc::new(judge));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for n in 0..connections {
            let target = targets[n % targets.len()];
            tasks.spawn(run(target, n, connections, Arc::clone(&make), Arc::clone(&judge), stop.clone()));
        }
        Load { tasks, stop, start: Instant::now() }
    }

    /// Stops after the requests under way.
    pub async fn stop(mut self) -> Tally {
        self.stop.cancel();
        let mut all = Tally::default();
        while let Some(one) = self.tasks.join_next().await {
            all.merge(one.unwrap());
        }
        all.took = self.start.elapsed();
        all
    }

    /// Runs for `duration`, then stops.
    pub async fn run_for(self, duration: Duration) -> Tally {
        crate::eventually::scripted_delay(duration).await;
        self.stop().await
    }
}

async fn run(
    target: SocketAddr,
    first: usize,
    step: usize,
    make: Arc<Make>,
    judge: Arc<Judge>,
    stop: CancellationToken,
) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<H1> = None;
    let mut n = first;
    while !stop.is_cancelled() {
        let mut connection = match kept.take().filter(|c| !c.is_closed()) {
            Some(connection) => connection,
            None => match H1::try_connect(target).await {
                Ok(connection) => connection,
                Err(e) => {
                    tally.failures.push(format!("connect: {e}"));
                    return tally;
                }
            },
        };
        match connection.send(make(n)).await {
            Ok(answer) => {
                *tally.statuses.entry(answer.status.as_u16()).or_default() += 1;
                if let Err(words) = judge(&answer)
                    && tally.wrong.len() < 100
                {
                    tally.wrong.push(words);
                }
                if !answer.header("connection").eq_ignore_ascii_case("close") {
                    kept = Some(connection);
                }
            }
            Err(e) => tally.failures.push(e),
        }
        n += step;
    }
    tally
}
