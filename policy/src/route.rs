//! Compiled routing.

pub(crate) mod choices;
pub(crate) mod condition;
pub(crate) mod overlap;
pub(crate) mod pattern;
pub(crate) mod regexes;
pub(crate) mod router;
pub(crate) mod table;

use std::sync::Arc;

use crate::{Backend, Limit};

/// What a request matched.
#[derive(Debug)]
pub struct Matched<'p> {
    /// Name of the route; None: the default backend.
    pub route: Option<&'p Arc<str>>,
    /// Where it goes.
    pub backend: &'p Arc<Backend>,
    /// Limits in order: the route's own (or the default), then its further ones. Disabled ones are absent.
    pub limits: &'p [Arc<Limit>],
    /// `server.*`-independent per-route things come here later (auth, rewrites).
    pub why: MatchedBy,
}

/// Why this route: for `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchedBy {
    /// exact | wildcard | any | default
    pub host: &'static str,
    /// exact | prefix | regex | any
    pub path: &'static str,
    /// Number of further conditions (methods, headers).
    pub conditions: usize,
}
