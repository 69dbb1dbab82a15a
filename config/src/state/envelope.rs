//! The form of a state file: a line that says what follows, and the canonical bytes.

use edgequota_policy::{Hash, Snapshot, Version};
use serde::{Deserialize, Serialize};

/// Most bytes of the line.
pub(super) const MAX_HEAD: usize = 1024;

const FORMAT: &str = "edgequota-policy/1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    generation: u64,
    hash: String,
    length: usize,
    /// Hash of the other fields: a flipped bit in the generation would otherwise go unnoticed.
    seal: String,
}

fn seal(generation: u64, hash: &str, length: usize) -> String {
    Hash::of(format!("{FORMAT} {generation} {hash} {length}").as_bytes()).to_string()
}

/// The line, with its end.
pub(super) fn head(snapshot: &Snapshot) -> String {
    line(snapshot.version, snapshot.bytes.len())
}

fn line(version: Version, length: usize) -> String {
    let (generation, hash) = (version.generation, version.hash.to_string());
    let seal = seal(generation, &hash, length);
    let head = Head { format: FORMAT.to_owned(), generation, hash, length, seal };
    // A struct of texts and numbers always serialises; an empty line would be refused when read.
    format!("{}\n", serde_json::to_string(&head).unwrap_or_default())
}

/// The snapshot in a file; `Err` says why there is none.
pub(super) fn open(bytes: &[u8]) -> Result<Snapshot, String> {
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    let end = bytes.iter().take(MAX_HEAD).position(|b| *b == b'\n').ok_or("has no head line")?;
    let (first, body) = (&bytes[..=end], &bytes[end + 1..]);
    let head: Head = serde_json::from_slice(first).map_err(|_| "has a damaged head line".to_owned())?;
    if head.format != FORMAT {
        return Err("has a format that this version does not know".to_owned());
    }
    if body.len() != head.length {
        return Err(format!("holds {} bytes of policy instead of {}", body.len(), head.length));
    }
    let version = Version { generation: head.generation, hash: Hash::of(body) };
    // Written again, it must be the same to the last byte; that covers hash, seal, and spelling.
    if line(version, body.len()).as_bytes() != first {
        return Err("has a wrong hash".to_owned());
    }
    Ok(Snapshot { version, bytes: body.into() })
}
