//! Hash slots of a cluster, as its specification defines them: CRC-16 (XMODEM) of the hash tag, modulo 16384.

/// How many there are.
pub(super) const SLOTS: u16 = 16_384;

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

/// The slot of a key.
pub(super) fn of(key: &str) -> u16 {
    crc16(tag(key).as_bytes()) % SLOTS
}

/// What stands between the first `{` and the next `}`, unless that is nothing; else the whole key.
fn tag(key: &str) -> &str {
    let Some((_, rest)) = key.split_once('{') else { return key };
    match rest.split_once('}') {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_specification_says() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(of("{user1000}.following"), of("{user1000}.followers"));
        assert_eq!(tag("foo{}{bar}"), "foo{}{bar}");
        assert_eq!(tag("foo{{bar}}zap"), "{bar");
        assert_eq!(tag("foo{bar}{zap}"), "bar");
        assert_eq!(of("foo"), 12182);
    }

    #[test]
    fn all_counters_of_a_subject_share_a_slot() {
        assert_eq!(of("rl:edgequota:acme"), of("{rl:edgequota:acme}:per-day"));
    }
}
