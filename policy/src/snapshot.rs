//! A policy on the wire or on disk.

use std::fmt;

/// SHA-256 of a policy's canonical bytes: equality of policies is equality of this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Hash of canonical bytes.
    pub fn of(_bytes: &[u8]) -> Hash {
        todo!()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// `<generation>-<first 8 hex digits of the hash>`. A data plane applies only a larger generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// max(unix milliseconds, highest issued or seen + 1).
    pub generation: u64,
    /// Of the content.
    pub hash: Hash,
}
// STUB: Display, Ord by generation is NOT derived on purpose.

/// Version and canonical bytes. Bounds: 16 MiB plain, 4 MiB compressed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Of these bytes.
    pub version: Version,
    /// Canonical bytes of the resolved spec.
    pub bytes: std::sync::Arc<[u8]>,
}
/// Most bytes of a plain snapshot.
pub const MAX_PLAIN: usize = 16 << 20;
/// Most bytes of a compressed snapshot.
pub const MAX_COMPRESSED: usize = 4 << 20;
