//! Files that change under a running process: certificates, keys, tokens.
//!
//! One thread looks at all of them every 10 s. It compares content, not times: a kubelet swaps symlinks, and a restored
//! file may be older than the one it replaces.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::{Mutex, Once, PoisonError, Weak},
    time::Duration,
};

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Something that was read from files.
pub(crate) trait Reload: Send + Sync {
    /// Reads again, and swaps when the content differs and is good. Must not panic; may block.
    fn reload(&self);
}

static WATCHED: Mutex<Vec<Weak<dyn Reload>>> = Mutex::new(Vec::new());

/// Looks at it every 10 s, until its last owner drops it.
#[allow(clippy::disallowed_methods, reason = "the sleep is on a thread of its own")]
pub(crate) fn watch(what: Weak<dyn Reload>) {
    static THREAD: Once = Once::new();
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    THREAD.call_once(|| {
        let spawned = std::thread::Builder::new().name("reload".to_owned()).spawn(|| {
            loop {
                std::thread::sleep(EVERY);
                now();
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "files cannot be watched, certificates and tokens are as they were at start");
        }
    });
}

/// Looks at every watched file now (SIGHUP). Reads files: not for a worker.
pub fn now() {
    let watched = {
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|what| what.strong_count() > 0);
        watched.clone()
    };
    for what in watched.iter().filter_map(Weak::upgrade) {
        what.reload();
    }
}

/// The whole file, at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(content)
}
