//! `routes` and `overrides`.

use super::{LimitSpec, NamedLimitSpec, written::written};
use crate::GoDuration;

written! {
    /// A route: which requests, where they go, what limits them. The most specific route wins, never the first.
    pub struct RouteSpec {
        /// Name: 1 to 64 of `A-Z a-z 0-9 . _ -`, not `default`. Required, unique. Its own limit has this name too.
        name: String = String::new(),
        /// Which requests; empty = all.
        r#match: MatchSpec = MatchSpec::default(),
        /// Name of an entry of `backends`, or `default`. Empty = the default backend.
        backend: String = String::new(),
        /// This route's own limit instead of the default one; `mode: disabled` for none.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "LimitSpec")]
        rate_limit: Option<LimitSpec> = None,
        /// Further limits, all of which must pass; named `<route>/<name>`.
        limits: Vec<NamedLimitSpec> = Vec::new(),
    }
}

written! {
    /// Which requests a route takes: all conditions must hold. At most one of the path conditions.
    pub struct MatchSpec {
        /// Host names without port; `*.example.com` matches any depth below; `*` or none = any host.
        hosts: Vec<String> = Vec::new(),
        /// Leading whole segments of the path: `/v1/search` is not `/v1/searching`. Begins with a slash.
        path_prefix: String = String::new(),
        /// The whole path. Begins with a slash.
        path_exact: String = String::new(),
        /// Regular expression over the whole path (it is anchored), ASCII classes, at most 1024 bytes. At most 1000 in a policy.
        path_regex: String = String::new(),
        /// Methods; none = any.
        methods: Vec<String> = Vec::new(),
        /// Conditions on headers, all of which must hold.
        headers: Vec<HeaderMatchSpec> = Vec::new(),
    }
}

written! {
    /// A condition on one header: exactly one of `exact` and `present`.
    pub struct HeaderMatchSpec {
        /// Name of the header. Required.
        name: String = String::new(),
        /// The header stands on exactly one line and has this value.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String")]
        exact: Option<String> = None,
        /// true: the header is there, whatever its value; false: it is not.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "bool")]
        present: Option<bool> = None,
    }
}

written! {
    /// Other numbers for some subjects of a limit. What is left out comes from the limit.
    pub struct OverrideSpec {
        /// Subjects as they are extracted: a tenant, an address, `tenant:segment`. At least one; a subject once per limit.
        keys: Vec<String> = Vec::new(),
        /// Which limit: `default`, a route's name, or `<route>/<name>`. Default `default`.
        limit: String = "default".into(),
        /// Tokens per period. At least 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "i64")]
        average: Option<i64> = None,
        /// Room of the bucket in tokens. At least 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "i64")]
        burst: Option<i64> = None,
        /// In which time `average` tokens come back. Duration, more than 0.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "GoDuration")]
        period: Option<GoDuration> = None,
        /// Refuse these subjects altogether. Default false.
        block: bool = false,
    }
}
