//! All that is wrong with the files, each with its place.

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file; line and column count from 1.
    File {
        /// As the user named it.
        file: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// An environment variable.
    Env(String),
    /// No place (a default, or the whole file).
    Whole(String),
}

/// One problem: where, at which path, what, and the nearest known name if one is near.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where.
    pub place: Place,
    /// `redis.pool_size`, `routes[3].match.path_regex`.
    pub path: String,
    /// What is wrong and what is allowed; never a secret.
    pub message: String,
}
// STUB: Display: `config.yaml:12:5: rate_limit.bursst: unknown key, did you mean "burst"?`

/// Never empty when it stands in an `Err`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Located>);

impl std::fmt::Display for Problems {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
impl std::error::Error for Problems {}
