//! Reads the content of targets, within bounds.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use super::{Content, Target};
use crate::yaml::MAX_TEXT;

/// Most policy files in a directory.
pub(crate) const MAX_FILES: usize = 1_000;
/// How often a directory is read again because it was swapped meanwhile.
const SWAPS: usize = 5;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("the file is larger than {} MiB", MAX_TEXT >> 20)]
    TooLarge,
    #[error("not valid UTF-8 at line {line}, column {column}: save the file as UTF-8")]
    NotUtf8 { line: usize, column: usize },
    #[error("more than {MAX_FILES} files: put several documents' worth of routes into one file")]
    TooMany,
    #[error("the files are larger than {} MiB together", MAX_TEXT >> 20)]
    TooLargeTogether,
}

/// Content of all targets, in their order.
pub(super) fn all(targets: &[Target]) -> Content {
    let mut files = Vec::new();
    for target in targets {
        match target {
            Target::File(path) => {
                files.extend(file(path).map_err(|e| e.to_string()).transpose().map(|text| (path.clone(), text)))
            }
            Target::Directory(path) => match directory(path) {
                Ok(found) => files.extend(found),
                Err(error) => files.push((path.clone(), Err(error.to_string()))),
            },
        }
    }
    Content { files }
}

/// The text of a file; `None` when there is none. A directory that is missing is a missing file, too.
pub(crate) fn file(path: &Path) -> Result<Option<String>, ReadError> {
    let missing = |kind| matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory);
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        // A device never ends, and opening a FIFO blocks until somebody writes to it.
        Ok(_) => return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is not a regular file").into()),
        Err(error) if missing(error.kind()) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if missing(error.kind()) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_TEXT {
        return Err(ReadError::TooLarge);
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line_start = good.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        // What is good is UTF-8, so characters can be counted by the bytes that begin one.
        let column = good[line_start..].iter().filter(|b| (**b & 0xC0) != 0x80).count() + 1;
        ReadError::NotUtf8 { line: good.iter().filter(|b| **b == b'\n').count() + 1, column }
    })
}

/// As in [`Content`].
type Files = Vec<(PathBuf, Result<String, String>)>;

/// The kubelet swaps all files of a directory at once by renaming the link `..data`. A swap in the middle of reading
/// would mix two policies, so the link must be the same before and after.
fn directory(path: &Path) -> Result<Files, ReadError> {
    let link = || fs::read_link(path.join("..data")).ok();
    for _ in 1..SWAPS {
        let before = link();
        let files = read_directory(path);
        if before == link() {
            return files;
        }
    }
    read_directory(path)
}

fn read_directory(path: &Path) -> Result<Files, ReadError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if is_policy_file(&name) {
            names.push(name);
        }
        if names.len() > MAX_FILES {
            return Err(ReadError::TooMany);
        }
    }
    names.sort();
    let mut total = 0;
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let path = path.join(name);
        if path.is_dir() {
            continue;
        }
        let text = match file(&path) {
            // Truncated by somebody who is about to write it, most likely: its limits must not vanish meanwhile.
            Ok(Some(text)) if text.trim().is_empty() => Err("the file is empty: fill it or remove it".to_owned()),
            Ok(Some(text)) => Ok(text),
            Ok(None) if path.is_symlink() => Err("it is a link to a file that is not there".to_owned()),
            Ok(None) => continue,
            Err(error) => Err(error.to_string()),
        };
        total += text.as_ref().map_or(0, String::len);
        if total > MAX_TEXT {
            return Err(ReadError::TooLargeTogether);
        }
        files.push((path, text));
    }
    Ok(files)
}

/// `*.yaml` and `*.yml`; not hidden ones, which are the kubelet's links and editors' temporary files.
pub(super) fn is_policy_file(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"))
}
