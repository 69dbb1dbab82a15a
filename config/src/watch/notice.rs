//! Notices of the operating system that something in a directory has changed.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

use super::{Target, read::is_policy_file};

/// Notices for the directories of some targets. Many notices before one is taken are one.
pub(super) struct Notices {
    /// `None`: the operating system gives none; only polling is left.
    watcher: Option<RecommendedWatcher>,
    /// Directories, with the identity of what is watched there now.
    directories: BTreeMap<PathBuf, Option<Identity>>,
    changed: Arc<Notify>,
}

/// Device and inode: a directory that was removed and made again is another one.
type Identity = (u64, u64);

impl Notices {
    pub(super) fn start(targets: &[Target], wanted: bool) -> Notices {
        let changed = Arc::new(Notify::new());
        let directories: BTreeMap<PathBuf, Option<Identity>> =
            targets.iter().flat_map(directories_of).map(|path| (path, None)).collect();
        let mut notices = Notices { watcher: None, directories, changed: changed.clone() };
        if !wanted {
            return notices;
        }
        let wanted = Wanted::new(targets, notices.directories.keys().cloned().collect());
        let created = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| wanted.includes(&event)) {
                changed.notify_one();
            }
        });
        match created {
            Ok(watcher) => notices.watcher = Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "no notices of changed files from the operating system, files are only polled");
            }
        }
        notices.renew();
        notices
    }

    /// Watches directories that have appeared, or that are no longer the ones that are watched. A new watch is a
    /// notice, because what happened before it was not seen.
    pub(super) fn renew(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for (path, watched) in &mut self.directories {
            let now = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir).map(|m| (m.dev(), m.ino()));
            if now == *watched {
                continue;
            }
            if watched.take().is_some() {
                // Fails when the directory is gone, and the watch with it.
                let _ = watcher.unwatch(path);
            }
            if now.is_none() {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    *watched = now;
                    self.changed.notify_one();
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "directory cannot be watched, it is only polled");
                    // Not tried again until it is another directory: the warning would come with every poll.
                    *watched = now;
                }
            }
        }
    }

    /// Waits for the next notice. Cancel safe.
    pub(super) async fn next(&self) {
        self.changed.notified().await;
    }

    /// Whether there was one meanwhile.
    pub(super) fn take(&self) -> bool {
        let mut notified = std::pin::pin!(self.changed.notified());
        notified.as_mut().enable()
    }
}

/// The directory in which a target's files are, and the one in which that directory is: it may be a link of the
/// kubelet itself (`policy -> ..data/policy`), and it may come later than we do.
fn directories_of(target: &Target) -> Vec<PathBuf> {
    let directory = match target {
        Target::Directory(path) => path.clone(),
        Target::File(path) => parent_of(path),
    };
    let parent = parent_of(&directory);
    if parent == directory { vec![directory] } else { vec![directory, parent] }
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => path.to_owned(),
    }
}

/// Which names in which directory matter: a log file beside the config file must not cause reading all the time.
struct Wanted {
    /// Names of files and directories.
    names: Vec<OsString>,
    policy_files: bool,
    directories: Vec<PathBuf>,
}

impl Wanted {
    fn new(targets: &[Target], directories: Vec<PathBuf>) -> Wanted {
        let own = targets.iter().filter_map(|target| match target {
            Target::File(path) | Target::Directory(path) => path.file_name(),
        });
        let names = own.chain(directories.iter().filter_map(|path| path.file_name())).map(OsStr::to_owned).collect();
        let policy_files = targets.iter().any(|target| matches!(target, Target::Directory(_)));
        Wanted { names, policy_files, directories }
    }

    fn includes(&self, event: &notify::Event) -> bool {
        // Opening and reading are what we do ourselves.
        let only_read = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
        !only_read && (event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(|p| self.matters(p)))
    }

    fn matters(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else {
            return true;
        };
        let kubelet = name.to_str().is_some_and(|name| name.starts_with(".."));
        // An event of a directory itself carries the directory's path.
        kubelet
            || self.names.iter().any(|known| known == name)
            || (self.policy_files && is_policy_file(name))
            || self.directories.iter().any(|directory| directory == path)
    }
}
