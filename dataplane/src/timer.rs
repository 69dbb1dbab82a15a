//! One timer a connection instead of one a request.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep},
};

/// A deadline that is moved far more often than it is reached. Moving it later is a store: the timer wakes at the
/// old time, sees that there is more to wait for, and sleeps on.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom the timer will wake.
    armed: Option<Waker>,
}

impl Deadline {
    pub(crate) fn after(wait: Option<Duration>) -> Deadline {
        let mut deadline = Deadline::default();
        deadline.set(wait);
        deadline
    }

    /// From now; `None`: never.
    pub(crate) fn set(&mut self, wait: Option<Duration>) {
        self.set_at(wait.and_then(|w| Instant::now().checked_add(w)));
    }

    pub(crate) fn set_at(&mut self, at: Option<Instant>) {
        self.at = at;
    }

    /// No later than `at`.
    pub(crate) fn limit(&mut self, at: Option<Instant>) {
        if let Some(at) = at {
            self.at = Some(self.at.map_or(at, |own| own.min(at)));
        }
    }

    /// Ready once it has passed. Stays pending, without a wake-up, when it is never.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if at < sleep.deadline() {
            sleep.as_mut().reset(at);
        } else if !sleep.is_elapsed() && self.armed.as_ref().is_some_and(|armed| armed.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        // Outside the cooperative budget, which could say "pending" without having set the timer.
        while Pin::new(&mut unconstrained(sleep.as_mut())).poll(cx).is_ready() {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
        self.armed = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Whether a time has come; `None` never does.
pub(crate) fn is_past(at: Option<Instant>) -> bool {
    at.is_some_and(|at| Instant::now() >= at)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::Instant;

    use super::Deadline;

    #[tokio::test(start_paused = true)]
    async fn it_can_move_both_ways() {
        let start = Instant::now();
        let mut deadline = Deadline::after(Some(Duration::from_secs(10)));
        assert!(futures_util::poll!(poll_fn(|cx| deadline.poll(cx))).is_pending());
        deadline.set(Some(Duration::from_secs(30)));
        assert!(tokio::time::timeout(Duration::from_secs(20), poll_fn(|cx| deadline.poll(cx))).await.is_err());
        deadline.set(Some(Duration::from_secs(1)));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(21));
        deadline.set(None);
        assert!(tokio::time::timeout(Duration::from_secs(3600), poll_fn(|cx| deadline.poll(cx))).await.is_err());
    }
}
