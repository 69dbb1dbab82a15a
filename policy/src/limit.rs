//! A compiled limit: numbers, overrides, key strategy.
use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::{Numbers, RequestView};

/// enforce | shadow (a disabled limit is not compiled).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Refuses.
    Enforce,
    /// Never refuses, has its own metric.
    Shadow,
}
/// exact | leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accuracy {
    /// Each decision is the store's.
    Exact,
    /// Tokens may be leased.
    Leased,
}
/// What happens when the store does not answer; ordered from loosest to strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailurePolicy {
    /// Allow.
    PassThrough,
    /// Count in the process.
    InMemoryFallback,
    /// Refuse with `failure_code`.
    FailClosed,
}
/// Which header fields an answer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderStyle {
    /// Both families.
    Both,
    /// `X-RateLimit-*`.
    Legacy,
    /// `RateLimit`, `RateLimit-Policy`.
    Ietf,
    /// None.
    None,
}

/// Who is counted: the extracted key, not yet escaped for the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Raw text.
    pub raw: String,
    /// Comes from a credential header: people see a hash.
    pub secret: bool,
}
impl Subject {
    /// What logs, labels and the API show.
    pub fn display(&self) -> std::borrow::Cow<'_, str> {
        todo!()
    }
}

/// Why no subject could be extracted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// `on_missing: error`.
    #[error("header {header} is missing or empty")]
    Missing {
        /// Header name.
        header: String,
        /// `missing_code`.
        code: u16,
    },
    /// More than one line: 400.
    #[error("header {header} stands on more than one line")]
    Repeated {
        /// Header name.
        header: String,
    },
    /// Not text.
    #[error("header {header} is not valid text")]
    NotText {
        /// Header name.
        header: String,
    },
}

/// What applies to one subject, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The numbers in force.
    pub numbers: Numbers,
    /// `block: true` in an override.
    pub blocked: bool,
    /// Index into the spec's `overrides`, when one matched.
    pub override_index: Option<usize>,
}

/// A limit.
#[derive(Debug)]
pub struct Limit {
    /// `default`, `search-api`, `search-api/per-day`.
    pub name: Arc<str>,
    /// Mode.
    pub mode: Mode,
    /// Accuracy.
    pub accuracy: Accuracy,
    /// Numbers without overrides.
    pub numbers: Numbers,
    /// Failure policy.
    pub failure_policy: FailurePolicy,
    /// 400..=599.
    pub failure_code: u16,
    /// Raises the TTL.
    pub min_ttl: Option<Duration>,
    /// Header fields.
    pub headers: HeaderStyle,
    /// Cap for passThrough; None: no cap. From the default limit's `global_passthrough_rps`.
    pub global_passthrough_rps: Option<u64>,
    // STUB: key strategy, overrides, key_prefix: private
}

impl Limit {
    /// Who is counted. `Ok(None)`: `on_missing: skip`.
    pub fn subject(&self, _request: &RequestView<'_>) -> Result<Option<Subject>, KeyError> {
        todo!()
    }
    /// Numbers for this subject.
    pub fn effective(&self, _subject: &Subject) -> Effective {
        todo!()
    }
    /// Writes the counter's key in the store: `rl:edgequota:<subject>` or `{rl:edgequota:<subject>}:<limit>`.
    pub fn counter_key(&self, _subject: &Subject, _out: &mut String) {
        todo!()
    }
}

/// The client's address by the rules of `clientIP` (also for logs and forwarding headers).
pub fn client_ip(_request: &RequestView<'_>, _trusted: &[ipnet::IpNet], _depth: i32) -> IpAddr {
    todo!()
}
