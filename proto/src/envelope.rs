//! Plain bytes to gzip and back, with bounds on both. Both planes do both: a policy is pushed down, and handed up
//! again when the control plane has lost its own.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};

/// Most bytes on either side of the compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most plain bytes.
    pub plain: usize,
    /// Most compressed bytes.
    pub compressed: usize,
}

/// Why bytes cannot travel, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The plain form is too large.
    #[error("the policy is {size} bytes, more than the {most} that may travel: split it or drop routes and overrides")]
    PlainTooLarge {
        /// Bytes found, or announced.
        size: u64,
        /// The bound.
        most: usize,
    },
    /// The compressed form is too large.
    #[error("the policy is {size} bytes when compressed, more than the {most} that may travel")]
    CompressedTooLarge {
        /// Bytes found.
        size: usize,
        /// The bound.
        most: usize,
    },
    /// It inflates to another size than was announced.
    #[error("the snapshot was announced with {announced} bytes and inflates to another size")]
    WrongSize {
        /// Bytes announced.
        announced: u64,
    },
    /// Not gzip, or cut short.
    #[error("the snapshot is no valid gzip: {0}")]
    Gzip(std::io::Error),
}

/// Compresses `plain`. Refused when either form breaks its bound.
pub fn pack(plain: &[u8], bounds: Bounds) -> Result<Bytes, EnvelopeError> {
    if plain.len() > bounds.plain {
        return Err(EnvelopeError::PlainTooLarge { size: plain.len() as u64, most: bounds.plain });
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8 + 64), Compression::default());
    let packed = encoder.write_all(plain).and_then(|()| encoder.finish()).map_err(EnvelopeError::Gzip)?;
    if packed.len() > bounds.compressed {
        return Err(EnvelopeError::CompressedTooLarge { size: packed.len(), most: bounds.compressed });
    }
    Ok(packed.into())
}

/// Inflates what a peer sent: never reads more than the bounds allow, whatever the peer announced or compressed.
pub fn unpack(gzip: &[u8], announced: u64, bounds: Bounds) -> Result<Vec<u8>, EnvelopeError> {
    if gzip.len() > bounds.compressed {
        return Err(EnvelopeError::CompressedTooLarge { size: gzip.len(), most: bounds.compressed });
    }
    let size = usize::try_from(announced).ok().filter(|size| *size <= bounds.plain);
    let Some(size) = size else {
        return Err(EnvelopeError::PlainTooLarge { size: announced, most: bounds.plain });
    };
    let mut plain = Vec::with_capacity(size);
    // One byte more than announced is enough to notice a lie, and bounds what a bomb can make us hold.
    GzDecoder::new(gzip).take(announced + 1).read_to_end(&mut plain).map_err(EnvelopeError::Gzip)?;
    if plain.len() != size {
        return Err(EnvelopeError::WrongSize { announced });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const BOUNDS: Bounds = Bounds { plain: 1 << 20, compressed: 1 << 16 };

    #[test]
    fn what_is_packed_is_unpacked() {
        let plain = b"policy ".repeat(1000);
        let packed = pack(&plain, BOUNDS).unwrap();
        assert!(packed.len() < plain.len() / 10);
        assert_eq!(unpack(&packed, plain.len() as u64, BOUNDS).unwrap(), plain);
    }

    #[test]
    fn a_bomb_is_cut_at_what_it_announced() {
        let bomb = pack(&vec![0; 1 << 20], BOUNDS).unwrap();
        assert!(matches!(unpack(&bomb, 1000, BOUNDS), Err(EnvelopeError::WrongSize { announced: 1000 })));
        assert!(matches!(unpack(&bomb, 1 << 30, BOUNDS), Err(EnvelopeError::PlainTooLarge { .. })));
    }

    #[test]
    fn a_cut_or_foreign_snapshot_is_refused() {
        let packed = pack(b"policy", BOUNDS).unwrap();
        assert!(matches!(unpack(&packed[..packed.len() - 4], 6, BOUNDS), Err(EnvelopeError::Gzip(_))));
        assert!(matches!(unpack(b"policy", 6, BOUNDS), Err(EnvelopeError::Gzip(_))));
    }

    #[test]
    fn too_large_in_either_form_is_refused() {
        assert!(matches!(pack(&vec![0; (1 << 20) + 1], BOUNDS), Err(EnvelopeError::PlainTooLarge { .. })));
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(200_000)
        .collect();
        assert!(matches!(pack(&noise, BOUNDS), Err(EnvelopeError::CompressedTooLarge { .. })));
    }
}
