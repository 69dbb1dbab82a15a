//! A policy on the wire or on disk.

use std::fmt;

use sha2::{Digest, Sha256};

/// SHA-256 of a policy's canonical bytes: equality of policies is equality of this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Hash of canonical bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    /// Reads 64 hex digits of either case; None for anything else.
    pub fn from_hex(text: &str) -> Option<Hash> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut out = [0u8; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        Some(Hash(out))
    }

    /// The first 8 hex digits, as versions show them.
    pub fn short(&self) -> String {
        self.0.iter().take(4).map(|b| format!("{b:02x}")).collect()
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
///
/// Not ordered on purpose: "newer" is a larger generation, "the same" is an equal hash, and the two disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// max(unix milliseconds, highest issued or seen + 1).
    pub generation: u64,
    /// Of the content.
    pub hash: Hash,
}

impl Version {
    /// Generation and short hash of a shown version; None when the text is none. (The whole hash cannot be read back.)
    pub fn parse_parts(text: &str) -> Option<(u64, &str)> {
        let (generation, short) = text.split_once('-')?;
        let is_short = short.len() == 8 && short.bytes().all(|b| b.is_ascii_hexdigit());
        let is_number = !generation.is_empty() && generation.bytes().all(|b| b.is_ascii_digit());
        (is_short && is_number).then(|| generation.parse().ok().map(|g| (g, short))).flatten()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.generation)?;
        self.hash.0.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_hash_reads_back_from_hex() {
        let hash = Hash::of(b"{}");
        assert_eq!(hash.to_string(), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
        assert_eq!(Hash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(Hash::from_hex(&hash.to_string().to_uppercase()), Some(hash));
        assert_eq!(Hash::from_hex("44"), None);
        assert_eq!(Hash::from_hex(&"zz".repeat(32)), None);
    }

    #[test]
    fn a_version_shows_generation_and_short_hash() {
        let version = Version { generation: 1_763_990_000_123, hash: Hash::of(b"{}") };
        assert_eq!(version.to_string(), "1763990000123-44136fa3");
        assert_eq!(Version::parse_parts(&version.to_string()), Some((1_763_990_000_123, "44136fa3")));
        assert_eq!(version.hash.short(), "44136fa3");
        for text in ["", "1", "1-", "1-44136fa", "x-44136fa3", "1-44136fag", "+1-44136fa3", "-44136fa3"] {
            assert_eq!(Version::parse_parts(text), None, "{text}");
        }
    }
}
