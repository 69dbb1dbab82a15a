//! What is wrong with a written policy, and where.

/// One mistake in a policy spec. `path` is in YAML terms, `routes[3].match.path_regex`; whoever read the file
/// turns it into file, line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, from the root of the spec; empty for the whole of it.
    pub path: String,
    /// What is wrong and what would be right. Never holds a secret.
    pub message: String,
}
