//! Path normalisation: unreserved octets decoded, dot segments resolved, slashes merged.
//!
//! One resource must have one spelling: a second one would escape a route or a limit. So octets that a path may hold
//! only in encoded form (spaces, quotes, braces, all that is not ASCII) are encoded when they come raw.

use std::borrow::Cow;

/// Why a path cannot be normalised. Answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%2F`, `%5C`, or a raw backslash, which some servers take for a slash.
    #[error("the path holds an encoded slash or a backslash")]
    EncodedSlash,
    /// `%00`, or a raw NUL.
    #[error("the path holds an encoded NUL")]
    EncodedNul,
    /// `%zz`.
    #[error("the path holds a malformed percent escape")]
    BadEscape,
    /// Does not begin with a slash, or climbs above the root.
    #[error("the path is not absolute")]
    NotAbsolute,
}

/// Normalises; borrows when nothing changes, which is the common case and allocates nothing.
///
/// A trailing slash stays; `/a/.` and `/a/b/..` end in one. The result is a fixed point: normalising it again changes
/// nothing.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    if is_normal(bytes)? {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(bytes)?;
    resolve(&decoded).map(Cow::Owned)
}

/// What one byte of a path asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself.
    Plain,
    /// Must be written as an escape.
    Encode,
    Slash,
    Dot,
    Percent,
    Backslash,
    Nul,
}

const CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [Class::Encode; 256];
    let plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~!$&'()*+,;=:@";
    let mut i = 0;
    while i < plain.len() {
        table[plain[i] as usize] = Class::Plain;
        i += 1;
    }
    table[b'/' as usize] = Class::Slash;
    table[b'.' as usize] = Class::Dot;
    table[b'%' as usize] = Class::Percent;
    table[b'\\' as usize] = Class::Backslash;
    table[0] = Class::Nul;
    table
}

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// Checks all of the path and says whether it is in normal form already.
fn is_normal(bytes: &[u8]) -> Result<bool, PathError> {
    let mut normal = true;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match class(byte) {
            Class::Plain => {}
            Class::Encode => normal = false,
            Class::Slash => normal &= !starts_dot_or_empty_segment(&bytes[at + 1..]),
            // Only a dot right after a slash matters; the slash looks ahead.
            Class::Dot => {}
            Class::Percent => {
                let octet = escaped(&bytes[at..])?;
                let upper = !bytes[at + 1].is_ascii_lowercase() && !bytes[at + 2].is_ascii_lowercase();
                normal &= upper && !is_unreserved(octet);
                at += 2;
            }
            Class::Backslash => return Err(PathError::EncodedSlash),
            Class::Nul => return Err(PathError::EncodedNul),
        }
        at += 1;
    }
    Ok(normal)
}

/// Whether what follows a slash is another slash, or `.` or `..` as a whole segment.
fn starts_dot_or_empty_segment(rest: &[u8]) -> bool {
    matches!(rest, [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..])
}

/// The octet of the escape that `bytes` begin with.
fn escaped(bytes: &[u8]) -> Result<u8, PathError> {
    let (Some(high), Some(low)) = (bytes.get(1).and_then(hex), bytes.get(2).and_then(hex)) else {
        return Err(PathError::BadEscape);
    };
    match high << 4 | low {
        b'/' | b'\\' => Err(PathError::EncodedSlash),
        0 => Err(PathError::EncodedNul),
        octet => Ok(octet),
    }
}

fn hex(digit: &u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

/// Unreserved escapes decoded, the others in upper case, raw octets that need one escaped.
fn decode(bytes: &[u8]) -> Result<String, PathError> {
    let mut out = String::with_capacity(bytes.len() + 8);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match class(byte) {
            Class::Percent => {
                let octet = escaped(&bytes[at..])?;
                if is_unreserved(octet) {
                    out.push(char::from(octet))
                } else {
                    push_escape(&mut out, octet)
                }
                at += 2;
            }
            Class::Encode => push_escape(&mut out, byte),
            _ => out.push(char::from(byte)),
        }
        at += 1;
    }
    Ok(out)
}

fn push_escape(out: &mut String, octet: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(octet >> 4)]));
    out.push(char::from(DIGITS[usize::from(octet & 15)]));
}

/// Dot segments resolved, empty segments dropped.
fn resolve(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut ends_in_slash = true;
    for segment in path.split('/') {
        match segment {
            "" | "." => ends_in_slash = true,
            ".." => {
                let parent = out.rfind('/').ok_or(PathError::NotAbsolute)?;
                out.truncate(parent);
                ends_in_slash = true;
            }
            _ => {
                out.push('/');
                out.push_str(segment);
                ends_in_slash = false;
            }
        }
    }
    if ends_in_slash {
        out.push('/');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_spelling_for_one_resource() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/b/../c", "/a/c"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a//../b", "/b"),
            ("/a/..", "/"),
            ("/%61%2d%7E", "/a-~"),
            ("/%2e%2e/a/%2E/b", ""),
            ("/a/%2e%2E/b", "/b"),
            ("/a%20b%3f", "/a%20b%3F"),
            ("/a b", "/a%20b"),
            ("/{x}", "/%7Bx%7D"),
            ("/%7bx%7D", "/%7Bx%7D"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/a..b", "/a..b"),
            ("/a;v=1/b", "/a;v=1/b"),
        ] {
            match normal {
                "" => assert_eq!(normalise(path), Err(PathError::NotAbsolute), "{path}"),
                _ => assert_eq!(normalise(path).unwrap(), normal, "{path}"),
            }
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for (path, error) in [
            ("/a%2fb", PathError::EncodedSlash),
            ("/a%2F..%2Fb", PathError::EncodedSlash),
            ("/a%5cb", PathError::EncodedSlash),
            ("/a\\b", PathError::EncodedSlash),
            ("/a%00", PathError::EncodedNul),
            ("/a\0", PathError::EncodedNul),
            ("/%zz", PathError::BadEscape),
            ("/%4", PathError::BadEscape),
            ("/%", PathError::BadEscape),
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("/..", PathError::NotAbsolute),
            ("/a/../../b", PathError::NotAbsolute),
            ("/%2e%2e/", PathError::NotAbsolute),
        ] {
            assert_eq!(normalise(path), Err(error), "{path}");
        }
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for path in ["/", "/v1/search/items", "/.well-known/acme", "/a%20b", "/a/..b/c.", "/x/"] {
            assert!(matches!(normalise(path), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_result_is_a_fixed_point(path in "/[a-z./%2eEF5C{} \u{e9}]{0,24}") {
            if let Ok(normal) = normalise(&path) {
                let again = normalise(&normal).unwrap();
                prop_assert!(matches!(again, Cow::Borrowed(_)), "{} -> {}", path, normal);
                prop_assert_eq!(&again, &normal);
            }
        }
        #[test]
        fn the_result_holds_nothing_ambiguous(path in "/(\\.|/|%2e|%2E|%61|[a-c]){0,12}") {
            if let Ok(normal) = normalise(&path) {
                prop_assert!(normal.starts_with('/'));
                prop_assert!(!normal.contains("//"));
                prop_assert!(normal.split('/').all(|s| s != "." && s != ".."), "{}", normal);
            }
        }
        #[test]
        fn any_text_is_answered(path in "\\PC{0,40}") {
            if let Ok(normal) = normalise(&path) {
                prop_assert!(normal.bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
