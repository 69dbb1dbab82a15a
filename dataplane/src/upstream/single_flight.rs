//! One of several callers does the work, the others have its outcome.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
};

use tokio::sync::Notify;

/// Work that is worth doing once at a time: opening a connection, finding out what a backend speaks.
#[derive(Debug)]
pub(crate) struct SingleFlight<E> {
    round: Cell<u64>,
    busy: Cell<bool>,
    failed: RefCell<Option<(u64, E)>>,
    ended: Notify,
}

/// What falls to a caller.
pub(crate) enum Part<'a, E> {
    /// The work itself.
    Work(Work<'a, E>),
    /// Another's work has ended: look again, or take its failure.
    Ended(Result<(), E>),
}

impl<E: Clone> SingleFlight<E> {
    pub(crate) fn new() -> SingleFlight<E> {
        SingleFlight { round: Cell::new(0), busy: Cell::new(false), failed: RefCell::new(None), ended: Notify::new() }
    }

    /// Whether somebody is at it.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.get()
    }

    /// Takes the work, or waits for whoever has it. Cancel safe: work that is dropped ends, and a waiter takes it up.
    pub(crate) async fn join(&self) -> Part<'_, E> {
        if !self.busy.replace(true) {
            self.round.set(self.round.get() + 1);
            return Part::Work(Work(self));
        }
        let round = self.round.get();
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if !self.busy.get() || self.round.get() != round {
                break;
            }
            ended.await;
        }
        let failed = self.failed.borrow();
        match &*failed {
            Some((when, error)) if *when == round => Part::Ended(Err(error.clone())),
            _ => Part::Ended(Ok(())),
        }
    }
}

/// Held by whoever works.
pub(crate) struct Work<'a, E>(&'a SingleFlight<E>);

impl<E> Work<'_, E> {
    /// Those who wait for this work share its failure.
    pub(crate) fn fail(self, error: E) {
        *self.0.failed.borrow_mut() = Some((self.0.round.get(), error));
    }
}

impl<E> Drop for Work<'_, E> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use std::rc::Rc;

    use super::*;

    #[tokio::test]
    async fn waiters_share_the_outcome_and_take_up_what_was_dropped() {
        let flight = Rc::new(SingleFlight::<&str>::new());
        let Part::Work(work) = flight.join().await else { panic!("nobody else is at it") };
        let mut waiting = pin!(flight.join());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        work.fail("refused");
        assert!(matches!(waiting.await, Part::Ended(Err("refused"))));

        let Part::Work(work) = flight.join().await else { panic!("nobody else is at it") };
        let mut waiting = pin!(flight.join());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(work);
        assert!(matches!(waiting.await, Part::Ended(Ok(()))));
        assert!(matches!(flight.join().await, Part::Work(_)));
    }
}
