//! A compiled limit: numbers, overrides, key strategy.

mod build;
mod client_ip;
mod counter_key;
mod key;
mod overrides;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};

pub use self::client_ip::client_ip;
pub(crate) use self::{
    build::{SubjectForm, numbers, override_numbers},
    client_ip::parse_net,
    key::shows_hash,
    overrides::Override,
};
use self::{counter_key::push_subject, key::KeyStrategy, overrides::Overrides};
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
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Raw text.
    pub raw: String,
    /// Comes from a credential header: people see a hash.
    pub secret: bool,
}
impl Subject {
    /// What logs, labels and the API show: the text, or `sha256:` and the first 16 hex digits of its hash.
    pub fn display(&self) -> Cow<'_, str> {
        if !self.secret {
            return Cow::Borrowed(&self.raw);
        }
        let digest = Sha256::digest(self.raw.as_bytes());
        let mut shown = String::with_capacity(7 + 16);
        shown.push_str("sha256:");
        counter_key::push_hex(&mut shown, &digest[..8]);
        Cow::Owned(shown)
    }
}
impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({:?})", self.display())
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

impl KeyError {
    /// Status and error code of the refusal.
    pub fn refusal(&self) -> (u16, &'static str) {
        match self {
            KeyError::Missing { code, .. } => (*code, "key_extraction_failed"),
            KeyError::Repeated { .. } | KeyError::NotText { .. } => (400, "bad_request"),
        }
    }
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
    /// Tokens that one request takes, 1..=burst.
    pub cost: u64,
    /// Raises the TTL.
    pub min_ttl: Option<Duration>,
    /// Header fields.
    pub headers: HeaderStyle,
    /// Cap for passThrough; None: no cap. From the default limit's `global_passthrough_rps`.
    pub global_passthrough_rps: Option<u64>,
    key: KeyStrategy,
    overrides: Overrides,
    /// `rl:<key_prefix>:`
    key_base: Box<str>,
    /// The default limit's counters stand under the bare key.
    is_default: bool,
}

impl Limit {
    /// Who is counted. `Ok(None)`: `on_missing: skip`.
    pub fn subject(&self, request: &RequestView<'_>) -> Result<Option<Subject>, KeyError> {
        self.key.subject(request)
    }
    /// The subject that somebody names by its text, as this limit would extract it: an address becomes the network that
    /// is counted. `None`: no request can ever have that subject here (the limit counts by address and this is none,
    /// it has one subject for all, or its subjects end with a path segment).
    pub fn subject_named(&self, text: &str) -> Option<Subject> {
        self.key.subject_named(text)
    }
    /// Subjects are credentials: people see hashes.
    pub fn shows_hash(&self) -> bool {
        self.key.is_secret()
    }
    /// Numbers for this subject: the override's, else the limit's.
    pub fn effective(&self, subject: &Subject) -> Effective {
        match self.overrides.get(&subject.raw) {
            Some(found) => {
                Effective { numbers: found.numbers, blocked: found.blocked, override_index: Some(found.index) }
            }
            None => Effective { numbers: self.numbers, blocked: false, override_index: None },
        }
    }
    /// Writes the counter's key in the store: `rl:edgequota:<subject>` or `{rl:edgequota:<subject>}:<limit>`. The braces
    /// are a Redis hash tag, so all counters of a subject share a slot.
    pub fn counter_key(&self, subject: &Subject, out: &mut String) {
        if self.is_default {
            out.push_str(&self.key_base);
            push_subject(&subject.raw, out);
            return;
        }
        out.push('{');
        out.push_str(&self.key_base);
        push_subject(&subject.raw, out);
        out.push_str("}:");
        out.push_str(&self.name);
    }
    /// How the subject is made: `clientIP`, `header`, `composite` or `global`.
    pub fn key_type(&self) -> &'static str {
        self.key.type_name()
    }
    /// Number of subjects with numbers of their own.
    pub fn overrides_len(&self) -> usize {
        self.overrides.len()
    }
}
