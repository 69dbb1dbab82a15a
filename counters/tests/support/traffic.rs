//! Requests without a break, while something happens to the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use edgequota_counters::{AllowedBy, Refusal, Verdict};
use edgequota_policy::limit::FailurePolicy;
use tokio::task::JoinSet;

use super::{
    asks::{ask, limit},
    eventually,
    world::{World, by_store},
};

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub all: usize,
    /// Those that the store did not decide.
    pub lost: usize,
    pub slowest: Duration,
    /// From the first that was lost to the last.
    pub outage: Duration,
    /// Of those that were lost, the time that one of a hundred exceeded.
    pub p99: Duration,
}

/// A task for each subject, which asks again when it is answered. Every limit is far away.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Tally>,
    done: Arc<AtomicUsize>,
    decided: Arc<AtomicUsize>,
}

impl Traffic {
    /// Of limits that close when the store fails.
    pub fn start(world: &World, subjects: &[&str]) -> Traffic {
        Traffic::under(world, subjects, FailurePolicy::FailClosed)
    }

    /// Of limits with this failure policy.
    pub fn under(world: &World, subjects: &[&str], policy: FailurePolicy) -> Traffic {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let decided = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for subject in subjects {
            let asks = [ask(limit("default", 100_000_000, policy), subject)];
            let (worker, stop, done) = (world.worker.clone(), Arc::clone(&stop), Arc::clone(&done));
            let decided = Arc::clone(&decided);
            tasks.spawn(async move {
                let mut tally = Tally::default();
                let mut first_lost = None;
                let mut waits = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let verdict = worker.verdict(&asks).await;
                    tally.all += 1;
                    tally.slowest = tally.slowest.max(began.elapsed());
                    if by_store(&verdict) {
                        decided.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let wanted = match policy {
                            FailurePolicy::FailClosed => Verdict::Refused(Refusal::Unavailable { code: 503 }),
                            FailurePolicy::PassThrough => Verdict::Allowed(AllowedBy::PassThrough),
                            FailurePolicy::InMemoryFallback => Verdict::Allowed(AllowedBy::Fallback),
                        };
                        assert_eq!(verdict, wanted);
                        tally.lost += 1;
                        waits.push(began.elapsed());
                        tally.outage = first_lost.get_or_insert(began).elapsed();
                        // It is answered at once: let others run.
                        super::pause(1).await;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                waits.sort_unstable();
                tally.p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or_default();
                tally
            });
        }
        Traffic { stop, tasks, done, decided }
    }

    /// Waits until some more were answered.
    pub async fn some(&self) {
        let before = self.done.load(Ordering::Relaxed);
        eventually("traffic flows", || async { self.done.load(Ordering::Relaxed) > before + 50 }).await;
    }

    /// Waits until some more were decided by the store.
    pub async fn decided(&self) {
        let before = self.decided.load(Ordering::Relaxed);
        eventually("the store decides", || async { self.decided.load(Ordering::Relaxed) > before + 50 }).await;
    }

    pub async fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let all = self.tasks.join_all().await;
        all.into_iter().fold(Tally::default(), |sum, one| Tally {
            all: sum.all + one.all,
            lost: sum.lost + one.lost,
            slowest: sum.slowest.max(one.slowest),
            outage: sum.outage.max(one.outage),
            p99: sum.p99.max(one.p99),
        })
    }
}
