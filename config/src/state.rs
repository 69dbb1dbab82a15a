//! The last good policy on disk (`control_plane.state_dir`): the same envelope for both planes.
//!
//! `policy.json` is one line of JSON (generation, hash, length, seal) and then the canonical bytes as they are on the
//! wire; `policy.previous` is what it was before. A file counts only if every byte of it is right: the hash covers the
//! policy, the seal covers the line.

mod envelope;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use edgequota_policy::{Snapshot, snapshot::MAX_PLAIN};

const CURRENT: &str = "policy.json";
const PREVIOUS: &str = "policy.previous";
const TEMPORARY: &str = "policy.tmp-";

/// A state directory. All calls do blocking file I/O.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// Good (from the file or its previous copy).
    Good(Snapshot),
    /// Nothing there.
    Nothing,
    /// Neither file nor copy has a right hash; says why.
    Damaged(String),
}

impl StateDir {
    /// Creates the directory (mode 0700) when it is missing and tries that it can be written; an error when not.
    /// What an interrupted save has left there is removed. An empty setting means "no state": do not call this.
    pub fn open(path: &Path) -> io::Result<StateDir> {
        if path.as_os_str().is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "state_dir is empty"));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let dir = StateDir { path: path.to_owned() };
        for entry in fs::read_dir(path)?.flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY)) {
                // Whoever is just writing it (there should be no one) gets an error and saves again next time.
                let _ = fs::remove_file(entry.path());
            }
        }
        let (_, probe) = dir.temporary()?;
        fs::remove_file(probe)?;
        Ok(dir)
    }

    /// Written tmp + fsync + rename + fsync of the directory, mode 0600, the previous copy kept. What is there already
    /// is not written again. After an error the old files are as they were.
    pub fn save(&self, snapshot: &Snapshot) -> io::Result<()> {
        if snapshot.bytes.len() > MAX_PLAIN {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the policy is larger than 16 MiB"));
        }
        let current = self.path.join(CURRENT);
        let old = read(&current);
        if matches!(&old, Ok(Some(old)) if old.version == snapshot.version) {
            return Ok(());
        }
        let (mut file, temporary) = self.temporary()?;
        let written = (|| {
            file.write_all(envelope::head(snapshot).as_bytes())?;
            file.write_all(&snapshot.bytes)?;
            file.sync_all()?;
            // A damaged file must not take the place of a good copy.
            if matches!(old, Ok(Some(_))) {
                fs::rename(&current, self.path.join(PREVIOUS))?;
            }
            fs::rename(&temporary, &current)?;
            File::open(&self.path)?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// File, then its previous copy. Falling back to the copy is logged with the reason.
    pub fn load(&self) -> Found {
        let current = read(&self.path.join(CURRENT));
        if let Ok(Some(snapshot)) = current {
            return Found::Good(snapshot);
        }
        let previous = read(&self.path.join(PREVIOUS));
        match (current, previous) {
            (Ok(Some(snapshot)), _) => Found::Good(snapshot),
            (Ok(None), Ok(Some(snapshot))) => Found::Good(snapshot),
            (Err(reason), Ok(Some(snapshot))) => {
                tracing::warn!(dir = %self.path.display(), reason, "last good policy is damaged, its previous copy is used");
                Found::Good(snapshot)
            }
            (Ok(None), Ok(None)) => Found::Nothing,
            (Err(reason), Ok(None)) => Found::Damaged(format!("{CURRENT}: {reason}")),
            (Ok(None), Err(reason)) => Found::Damaged(format!("{PREVIOUS}: {reason}")),
            (Err(reason), Err(copy)) => Found::Damaged(format!("{CURRENT}: {reason}; {PREVIOUS}: {copy}")),
        }
    }

    /// A new file that nobody else writes to.
    fn temporary(&self) -> io::Result<(File, PathBuf)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{TEMPORARY}{}-{count}", std::process::id()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok((file, path))
    }
}

/// `None`: there is no such file. `Err`: why it does not count.
fn read(path: &Path) -> Result<Option<Snapshot>, String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be opened: {error}")),
    };
    let most = MAX_PLAIN + envelope::MAX_HEAD;
    let mut bytes = Vec::new();
    // Read to a bound, not by the length that the file system states.
    match (&mut file).take(most as u64 + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > most => Err("is larger than any policy can be".to_owned()),
        Ok(_) => envelope::open(&bytes).map(Some),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests;
