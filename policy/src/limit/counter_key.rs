//! A subject as part of a key in the store: escaped, bounded, and different for different subjects.

use sha2::{Digest, Sha256};

/// Longest escaped subject that is written as it is.
const MOST_BYTES: usize = 256;
/// How much of a longer one is kept in front of its hash, for people who look into the store.
const KEPT_BYTES: usize = 128;
/// No escaped subject holds it: a percent sign is always followed by two hex digits there.
const MARK: &str = "%sha256:";

pub(super) fn push_subject(raw: &str, out: &mut String) {
    let start = out.len();
    // `t:` is where the tenants of the external service live.
    let rest = match raw.strip_prefix("t:") {
        Some(rest) => {
            out.push_str("t%3A");
            rest
        }
        None => raw,
    };
    let mut plain = 0;
    for (at, byte) in rest.bytes().enumerate() {
        let escape = match byte {
            b'{' => "%7B",
            b'}' => "%7D",
            b'%' => "%25",
            _ => continue,
        };
        out.push_str(&rest[plain..at]);
        out.push_str(escape);
        plain = at + 1;
    }
    out.push_str(&rest[plain..]);
    if out.len() - start > MOST_BYTES {
        let mut end = start + KEPT_BYTES;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
        out.push_str(MARK);
        push_hex(out, &Sha256::digest(raw.as_bytes()));
    }
}

pub(super) fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn written(raw: &str) -> String {
        let mut out = String::from("x:");
        push_subject(raw, &mut out);
        out.split_off(2)
    }

    /// What an unshortened key stands for.
    fn read(written: &str) -> String {
        let written = written.strip_prefix("t%3A").map_or(written.to_owned(), |rest| format!("t:{rest}"));
        written.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")
    }

    #[test]
    fn only_what_would_be_ambiguous_is_escaped() {
        for (raw, key) in [
            ("10.0.0.1", "10.0.0.1"),
            ("2001:db8::/64", "2001:db8::/64"),
            ("tenant:api", "tenant:api"),
            ("t:acme", "t%3Aacme"),
            ("at:acme", "at:acme"),
            ("{a}:b", "%7Ba%7D:b"),
            ("50%", "50%25"),
            ("t%3Aacme", "t%253Aacme"),
            ("sm\u{f8}rrebr\u{f8}d", "sm\u{f8}rrebr\u{f8}d"),
        ] {
            assert_eq!(written(raw), key);
        }
    }

    #[test]
    fn a_long_subject_keeps_its_beginning_and_gets_a_hash() {
        let long = "a".repeat(257);
        let key = written(&long);
        assert_eq!(key.len(), 128 + 8 + 64);
        assert!(key.starts_with(&format!("{}%sha256:", "a".repeat(128))), "{key}");
        assert_eq!(written(&"a".repeat(256)), "a".repeat(256));
        assert_ne!(written(&format!("{long}b")), written(&format!("{long}c")));
        // Multi-byte text is cut between characters.
        assert!(written(&format!("a{}", "\u{e9}".repeat(200))).starts_with(&format!("a{}%sha", "\u{e9}".repeat(63))));
    }

    #[test]
    fn a_subject_that_looks_like_a_shortened_one_is_no_collision() {
        let short = written(&"a".repeat(300));
        assert_ne!(written(&short), short);
    }

    proptest! {
        #[test]
        fn different_subjects_have_different_keys(raw in "(t:|t%3A|[{}%a:]){0,40}") {
            let key = written(&raw);
            let has_braces = key.contains(['{', '}']);
            prop_assert!(!has_braces);
            prop_assert!(!key.starts_with("t:"));
            prop_assert_eq!(read(&key), raw);
        }
        #[test]
        fn a_key_is_bounded(raw in "\\PC{0,400}") {
            prop_assert!(written(&raw).len() <= 256);
        }
    }
}
