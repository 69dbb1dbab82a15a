//! How slowly a client may send its body.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use crate::timer::Deadline;

/// Bytes a second below which a client only pretends to send.
const LEAST_RATE: u64 = 64;

/// The client is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// Watches one body. Only the time that we wait for the client counts: a slow backend is not the client's fault.
#[derive(Debug)]
pub(crate) struct Pace {
    patience: Option<Duration>,
    waiting_since: Option<Instant>,
    waited: Duration,
    received: u64,
    deadline: Deadline,
}

impl Pace {
    /// `patience` is `server.read_timeout`: the longest pause, and the window of the least rate.
    pub(crate) fn new(patience: Option<Duration>) -> Pace {
        Pace { patience, waiting_since: None, waited: Duration::ZERO, received: 0, deadline: Deadline::default() }
    }

    /// From here on it may be as slow as it likes: the answer has begun, so both sides talk.
    pub(crate) fn exempt(&mut self) {
        self.patience = None;
    }

    /// `n` bytes came.
    pub(crate) fn progress(&mut self, n: usize) -> Result<(), TooSlow> {
        let Some(patience) = self.patience else { return Ok(()) };
        self.received += n as u64;
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
        if self.waited < patience {
            return Ok(());
        }
        let enough = self.received >= LEAST_RATE * self.waited.as_secs().max(1);
        self.waited = Duration::ZERO;
        self.received = 0;
        if enough { Ok(()) } else { Err(TooSlow) }
    }

    /// Nothing came: ready when that has gone on for too long.
    pub(crate) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        if self.waiting_since.is_none() {
            self.waiting_since = Some(Instant::now());
            self.deadline.set(self.patience);
        }
        if self.patience.is_none() {
            return Poll::Pending;
        }
        self.deadline.poll(cx).map(|()| TooSlow)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    async fn wait(pace: &mut Pace, time: Duration) -> bool {
        tokio::time::timeout(time, poll_fn(|cx| pace.poll_wait(cx))).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_cut_and_a_flow_is_not() {
        let mut pace = Pace::new(Some(Duration::from_secs(10)));
        for _ in 0..100 {
            assert!(!wait(&mut pace, Duration::from_secs(9)).await);
            assert_eq!(pace.progress(2000), Ok(()));
        }
        assert!(wait(&mut pace, Duration::from_secs(11)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn dripping_is_cut() {
        let mut pace = Pace::new(Some(Duration::from_secs(10)));
        let mut last = Ok(());
        for _ in 0..11 {
            assert!(!wait(&mut pace, Duration::from_secs(1)).await);
            last = pace.progress(1);
            if last.is_err() {
                break;
            }
        }
        assert_eq!(last, Err(TooSlow));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_slow_backend_does_not_count() {
        let mut pace = Pace::new(Some(Duration::from_secs(10)));
        for _ in 0..100 {
            tokio::time::advance(Duration::from_secs(60)).await;
            assert_eq!(pace.progress(1), Ok(()));
        }
    }
}
