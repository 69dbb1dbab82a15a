//! `rate_limit`, a route's `rate_limit` and `limits`, and what a subject is made of.

use super::{
    Accuracy, ExternalSpec, FailurePolicy, HeaderStyle, KeyType, LimitMode, OnMissing,
    written::{written, written_and_named},
};
use crate::GoDuration;

written! {
    /// The limit named `default`. It applies where a route has no `rate_limit` of its own.
    pub struct RateLimitSpec {
        /// Tokens per period. 0 = no limit (unless the external service names one), the default.
        average: i64 = 0,
        /// Room of the bucket in tokens: how many requests may come at once. Below 1 becomes 1; default 1.
        burst: i64 = 1,
        /// In which time `average` tokens come back. Duration, more than 0; default 1s.
        period: GoDuration = GoDuration::secs(1),
        /// Tokens that one request takes. At least 1, at most `burst`; default 1. Overrides keep it.
        cost: i64 = 1,
        /// enforce | shadow | disabled. Default enforce.
        mode: LimitMode = LimitMode::Enforce,
        /// Which header fields an answer carries: both | legacy (`X-RateLimit-*`) | ietf (`RateLimit*`) | none. Default both.
        headers: HeaderStyle = HeaderStyle::Both,
        /// exact: every decision is the store's; leased: data planes borrow tokens for a second. Default exact.
        accuracy: Accuracy = Accuracy::Exact,
        /// When the store does not answer: passThrough | failClosed | inMemoryFallback. Default passThrough.
        failure_policy: FailurePolicy = FailurePolicy::PassThrough,
        /// Status of a refusal by `failClosed`. 400 to 599; default 429.
        failure_code: i64 = 429,
        /// Least life of a counter in the store; it never shortens one. Duration; empty = none.
        min_ttl: GoDuration = GoDuration::ZERO,
        /// Counters are named `rl:<key_prefix>:<subject>`. At most 64 of `A-Z a-z 0-9 . _ : -`; empty = `edgequota`.
        key_prefix: String = String::new(),
        /// At most this many tenants have their own metric label. Default 1000.
        max_tenant_labels: u64 = 1_000,
        /// Most requests a second that passThrough lets through, per process; 429 above. 0 = no cap, the default.
        global_passthrough_rps: u64 = 0,
        /// Who is counted.
        key_strategy: KeyStrategySpec = KeyStrategySpec::default(),
        /// A service that names limits by subject.
        external: ExternalSpec = ExternalSpec::default(),
    }
}

written! {
    /// What a subject is made of.
    pub struct KeyStrategySpec {
        /// clientIP | header | composite (header and first path segment) | global. Default clientIP.
        r#type: KeyType = KeyType::ClientIp,
        /// Header whose value is the subject. Required for header and composite.
        header_name: String = String::new(),
        /// composite: add the first path segment. Default false.
        path_prefix: bool = false,
        /// global: the one subject. Default `global`.
        global_key: String = "global".into(),
        /// CIDRs of proxies whose forwarding headers are believed; a bare address is one host. Empty = `server.trusted_proxies`.
        trusted_proxies: Vec<String> = Vec::new(),
        /// Which entry of `X-Forwarded-For` is the client: 0 = the rightmost that is no trusted proxy, N = the Nth from the right, -1 = the leftmost, which any client can write. Default 0.
        trusted_ip_depth: i64 = 0,
        /// IPv6 clients are counted by this many leading bits. 1 to 128; default 64.
        ipv6_prefix: i64 = 64,
        /// When the header is missing or empty: error | client_ip | skip. Default error.
        on_missing: OnMissing = OnMissing::Error,
        /// Status of `on_missing: error`. 400 to 599; default 500.
        missing_code: i64 = 500,
        /// Show the value as a hash in logs, labels, events and API, as credential headers always are. Default false.
        hash: bool = false,
    }
}

written_and_named! {
    /// A route's own limit instead of the default one. What is left out of key strategy, failure policy, accuracy, header style and least life comes from the default limit.
    pub struct LimitSpec;
    /// A further limit of a route. All limits of a route must have a token.
    pub struct NamedLimitSpec;
    {
        /// Tokens per period. At least 1; required unless the mode is disabled.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "i64")]
        average: Option<i64> = None,
        /// Room of the bucket in tokens. At least 1; default: `average`.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "i64")]
        burst: Option<i64> = None,
        /// In which time `average` tokens come back. Duration, more than 0; default 1s.
        period: GoDuration = GoDuration::secs(1),
        /// Tokens that one request takes. At least 1, at most `burst`; default 1, whatever the default limit's. Overrides keep it.
        cost: i64 = 1,
        /// enforce | shadow | disabled. Default enforce.
        mode: LimitMode = LimitMode::Enforce,
        /// Which header fields an answer carries: both | legacy | ietf | none. Default: the default limit's.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "HeaderStyle")]
        headers: Option<HeaderStyle> = None,
        /// exact | leased. Default: the default limit's.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Accuracy")]
        accuracy: Option<Accuracy> = None,
        /// passThrough | failClosed | inMemoryFallback. Default: the default limit's.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "FailurePolicy")]
        failure_policy: Option<FailurePolicy> = None,
        /// Status of a refusal by `failClosed`. 400 to 599; default: the default limit's.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "i64")]
        failure_code: Option<i64> = None,
        /// Least life of a counter in the store. Duration; default: the default limit's.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "GoDuration")]
        min_ttl: Option<GoDuration> = None,
        /// Who is counted.
        key_strategy: KeyPatchSpec = KeyPatchSpec::default(),
    }
}

written! {
    /// What a subject is made of; each field that is left out comes from the default limit's `key_strategy`.
    pub struct KeyPatchSpec {
        /// clientIP | header | composite | global.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "KeyType")]
        r#type: Option<KeyType> = None,
        /// Header whose value is the subject.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String")]
        header_name: Option<String> = None,
        /// composite: add the first path segment.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "bool")]
        path_prefix: Option<bool> = None,
        /// global: the one subject.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String")]
        global_key: Option<String> = None,
        /// CIDRs of proxies whose forwarding headers are believed.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Vec<String>")]
        trusted_proxies: Option<Vec<String>> = None,
        /// Which entry of `X-Forwarded-For` is the client: 0, N or -1.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "i64")]
        trusted_ip_depth: Option<i64> = None,
        /// IPv6 clients are counted by this many leading bits. 1 to 128.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "i64")]
        ipv6_prefix: Option<i64> = None,
        /// When the header is missing or empty: error | client_ip | skip.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "OnMissing")]
        on_missing: Option<OnMissing> = None,
        /// Status of `on_missing: error`. 400 to 599.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "i64")]
        missing_code: Option<i64> = None,
        /// Show the value as a hash in logs, labels, events and API.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "bool")]
        hash: Option<bool> = None,
    }
}
