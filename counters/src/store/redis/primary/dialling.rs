//! One attempt to connect at a time, and none too soon after one that failed.

use tokio::{
    sync::{Mutex, MutexGuard, Notify},
    time::{Instant, sleep_until},
};

use super::backoff::Backoff;

/// Shared by all that connect to one server.
#[derive(Debug, Default)]
pub(super) struct Dialling {
    turn: Mutex<Turn>,
    kick: Notify,
}

/// Leave to try now, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Turn {
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Turn {
    /// Nobody tries again for a while.
    pub(super) fn failed(&mut self) {
        self.not_before = Some(Instant::now() + self.backoff.delay());
    }

    pub(super) fn succeeded(&mut self) {
        *self = Turn::default();
    }
}

impl Dialling {
    /// Waits for a turn. Cancel safe.
    pub(super) async fn turn(&self) -> MutexGuard<'_, Turn> {
        loop {
            let kicked = self.kick.notified();
            tokio::pin!(kicked);
            kicked.as_mut().enable();
            let wait = {
                let turn = self.turn.lock().await;
                match turn.not_before {
                    Some(at) if at > Instant::now() => at,
                    _ => return turn,
                }
            };
            tokio::select! {
                () = sleep_until(wait) => {}
                () = kicked => self.forgive().await,
            }
        }
    }

    /// Somebody wants to know now: those who wait do not sit it out.
    pub(super) fn now(&self) {
        self.kick.notify_waiters();
    }

    /// What failed before says nothing any more.
    pub(super) async fn start_over(&self) {
        self.turn.lock().await.succeeded();
        self.now();
    }

    async fn forgive(&self) {
        self.turn.lock().await.not_before = None;
    }

    /// A connection did not live for long: as if it had not been made.
    pub(super) async fn short_lived(&self) {
        self.turn.lock().await.failed();
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn far(dialling: &Dialling) {
        let mut turn = dialling.turn.try_lock().expect("nobody else is here");
        turn.not_before = Some(Instant::now() + Duration::from_secs(3600));
    }

    async fn soon<T>(what: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_secs(2), what).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_nobody_tries_for_a_while() {
        let dialling = Dialling::default();
        dialling.turn().await.failed();
        assert!(soon(dialling.turn()).await.is_some(), "the first pause is at most a second");
        far(&dialling);
        assert!(soon(dialling.turn()).await.is_none());
        dialling.start_over().await;
        assert!(soon(dialling.turn()).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_a_kick_ends_the_waiting() {
        let dialling = Dialling::default();
        let first = dialling.turn().await;
        assert!(soon(dialling.turn()).await.is_none());
        drop(first);
        far(&dialling);
        let kick = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            dialling.now();
        };
        let (turn, ()) = tokio::join!(soon(dialling.turn()), kick);
        assert!(turn.is_some());
    }
}
