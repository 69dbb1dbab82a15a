//! Watches files for changed *content*: parent directory, `..data` swaps, slow poll, debounce 300 ms after the last
//! change, at most 2 s after the first.
//!
//! Notices of the operating system only say when to look; what counts is the content. So a lost notice costs the
//! poll's interval, and an edit that changes nothing is no report.

mod mount;
mod notice;
pub(crate) mod read;
mod run;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One file.
    File(PathBuf),
    /// All `*.yaml` and `*.yml` in a directory (dot files are not read), not recursive. At most 1,000 files and
    /// 16 MiB together; above that the content is one error that says so, for the directory itself.
    Directory(PathBuf),
}

/// Content seen at one moment, by file name, sorted. A file that does not exist is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// (path as shown, text or why it could not be read)
    pub files: Vec<(PathBuf, Result<String, String>)>,
}

/// Times; `Default` is the contract's (300 ms, 2 s, poll 10 s).
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A change is reported when nothing has changed for this long,
    pub quiet: Duration,
    /// or at the latest this long after the first change.
    pub most: Duration,
    /// How often content is read without any notice.
    pub poll: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { quiet: Duration::from_millis(300), most: Duration::from_secs(2), poll: Duration::from_secs(10) }
    }
}

/// Reads targets once, with the same bounds.
pub fn read_now(targets: &[Target]) -> Content {
    read::all(targets)
}

/// Reads once now (returned), then reports every later change of content. `poke` (SIGHUP) makes it read at once.
/// The watch is in place before the first read, so an edit during start is not missed.
#[derive(Debug)]
pub struct Watch {
    seen: watch::Receiver<Arc<Content>>,
    /// What was handed out last.
    last: Arc<Content>,
    poke: Arc<Notify>,
}

impl Watch {
    /// Starts; the task ends with `stop`. Where the operating system gives no notices (its limits are used up), it
    /// only polls, and warns.
    pub async fn start(targets: Vec<Target>, pace: Pace, stop: CancellationToken) -> (Content, Watch) {
        Watch::start_with(targets, pace, stop, true).await
    }

    async fn start_with(targets: Vec<Target>, pace: Pace, stop: CancellationToken, notices: bool) -> (Content, Watch) {
        for path in targets.iter().filter_map(mount::never_changes) {
            tracing::warn!(
                path = %path.display(),
                "is a mount of its own (a subPath volume?): edits of the ConfigMap never reach it, mount its directory"
            );
        }
        let poke = Arc::new(Notify::new());
        let (run, first, seen) = run::Run::start(targets, pace, poke.clone(), notices).await;
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = run.run() => {}
            }
        });
        (first.as_ref().clone(), Watch { seen, last: first, poke })
    }

    /// The next content that differs from the last one reported. Only the newest is kept: a slow caller misses what
    /// was in between. After `stop` it never returns.
    ///
    /// # Cancel safety
    /// Cancel safe: what is not returned is returned by the next call.
    pub async fn changed(&mut self) -> Content {
        loop {
            if self.seen.changed().await.is_err() {
                // The watch was stopped: nothing changes any more.
                std::future::pending::<()>().await;
            }
            let now = self.seen.borrow_and_update().clone();
            if now != self.last {
                self.last = now;
                return self.last.as_ref().clone();
            }
        }
    }

    /// A handle that makes the watch read at once.
    pub fn poke(&self) -> Poke {
        Poke { poke: self.poke.clone() }
    }
}

/// See [`Watch::poke`].
#[derive(Clone, Debug)]
pub struct Poke {
    poke: Arc<Notify>,
}

impl Poke {
    /// Read now, without waiting for quiet.
    pub fn poke(&self) {
        self.poke.notify_one();
    }
}

#[cfg(test)]
mod tests;
