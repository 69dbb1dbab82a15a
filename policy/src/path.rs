//! Path normalisation: unreserved octets decoded, dot segments resolved, slashes merged.

use std::borrow::Cow;

/// Why a path cannot be normalised. Answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%2F`, `%5C`? or `/` hidden in an escape.
    #[error("the path holds an encoded slash")]
    EncodedSlash,
    /// `%00`.
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
pub fn normalise(_path: &str) -> Result<Cow<'_, str>, PathError> {
    todo!()
}
