//! The task of a watch: when to read, and when to report.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use super::{Content, Pace, Target, notice::Notices, read};

pub(super) struct Run {
    targets: Arc<[Target]>,
    pace: Pace,
    poke: Arc<Notify>,
    notices: Notices,
    out: watch::Sender<Arc<Content>>,
}

/// A change that has been noticed and not yet reported.
#[derive(Clone, Copy)]
struct Pending {
    first: Instant,
    last: Instant,
}

impl Run {
    pub(super) async fn start(
        targets: Vec<Target>,
        pace: Pace,
        poke: Arc<Notify>,
        notices: bool,
    ) -> (Run, Arc<Content>, watch::Receiver<Arc<Content>>) {
        // Before the first read: an edit in between is then noticed.
        let notices = Notices::start(&targets, notices);
        let targets: Arc<[Target]> = targets.into();
        let first = Arc::new(read_all(&targets).await.unwrap_or_default());
        let (out, seen) = watch::channel(first.clone());
        (Run { targets, pace, poke, notices, out }, first, seen)
    }

    pub(super) async fn run(mut self) {
        let poll = self.pace.poll.max(Duration::from_millis(1));
        let mut tick = interval_at(Instant::now() + poll, poll);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pending: Option<Pending> = None;
        loop {
            let due = pending.map(|p| (p.last + self.pace.quiet).min(p.first + self.pace.most));
            tokio::select! {
                // The order matters: a due report is not put off for ever by notices.
                biased;
                () = self.poke.notified() => {
                    self.notices.renew();
                    pending = None;
                    self.report(read_all(&self.targets).await);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    pending = self.look(pending).await;
                }
                () = self.notices.next() => pending = Some(noticed(pending)),
                _ = tick.tick() => {
                    self.notices.renew();
                    if pending.is_none() && self.differs(&read_all(&self.targets).await) {
                        pending = Some(noticed(None));
                    }
                }
            }
        }
    }

    /// Reads and reports. A notice that came while it was reading may mean that old and new files were mixed: then
    /// once more, unless the time is up.
    async fn look(&mut self, pending: Option<Pending>) -> Option<Pending> {
        // The change may have been another directory in the place of a watched one.
        self.notices.renew();
        let content = read_all(&self.targets).await;
        if self.notices.take() {
            let again = noticed(pending);
            if Instant::now() < again.first + self.pace.most {
                return Some(again);
            }
            self.report(content);
            // What that notice was about is still to be looked at.
            return Some(noticed(None));
        }
        self.report(content);
        None
    }

    fn differs(&self, content: &Option<Content>) -> bool {
        content.as_ref().is_some_and(|content| *content != **self.out.borrow())
    }

    fn report(&self, content: Option<Content>) {
        let Some(content) = content else { return };
        self.out.send_if_modified(|seen| {
            let differs = **seen != content;
            if differs {
                *seen = Arc::new(content);
            }
            differs
        });
    }
}

fn noticed(pending: Option<Pending>) -> Pending {
    let now = Instant::now();
    Pending { first: pending.map_or(now, |pending| pending.first), last: now }
}

/// File I/O blocks: not on a thread that has other work. `None` when it could not be done at all (the runtime ends):
/// that must not look like files that are gone.
async fn read_all(targets: &Arc<[Target]>) -> Option<Content> {
    let targets = targets.clone();
    tokio::task::spawn_blocking(move || read::all(&targets)).await.ok()
}
