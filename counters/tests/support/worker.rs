//! A worker of a data plane: a thread with a runtime of its own, as the product has it.

use std::thread;

use edgequota_counters::{Ask, Counters, Decision, Verdict};
use tokio::{
    sync::{mpsc, oneshot},
    task::{LocalSet, spawn_local},
};

enum Job {
    Spend(Vec<Ask>, oneshot::Sender<Decision>),
    Close(oneshot::Sender<()>),
}

/// Ends with its thread when it is dropped.
pub struct Worker {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Worker {
    pub fn start(counters: &Counters, index: usize) -> Worker {
        let (jobs, mut received) = mpsc::channel(16_384);
        let counters = counters.clone();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, async move {
                let spender = std::rc::Rc::new(counters.spender(index));
                drop(counters);
                ready.send(()).expect("somebody waits");
                while let Some(job) = received.recv().await {
                    let spender = std::rc::Rc::clone(&spender);
                    spawn_local(async move {
                        match job {
                            Job::Spend(asks, mut answer) => {
                                let decision = tokio::select! {
                                    decision = spender.spend(&asks) => decision,
                                    () = answer.closed() => return,
                                };
                                let _ = answer.send(decision);
                            }
                            Job::Close(done) => {
                                spender.close().await;
                                let _ = done.send(());
                            }
                        }
                    });
                }
            });
        });
        started.recv().expect("the worker starts");
        Worker { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Dropped before it is ready, the request is cancelled.
    pub async fn spend(&self, asks: &[Ask]) -> Decision {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Spend(asks.to_vec(), answer)).await;
        answered.await.expect("the worker decides")
    }

    pub async fn verdict(&self, asks: &[Ask]) -> Verdict {
        self.spend(asks).await.verdict
    }

    /// Gives back its leases.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        self.send(Job::Close(done)).await;
        closed.await.expect("the worker closes");
    }

    async fn send(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("there until it is dropped");
        assert!(jobs.send(job).await.is_ok(), "the worker lives");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the worker panicked");
        }
    }
}
