//! The written form of a policy. `deny_unknown_fields` everywhere; canonical bytes are JSON of the *resolved* spec.
//!
//! A released default is part of the wire contract: a field that equals it is left out of the canonical form, so a
//! reader with another default would enforce something else. A default that must change becomes a new field.

mod backend;
pub(crate) mod choice;
mod limit;
mod redact;
mod resolve;
mod route;
mod secret;
mod services;
mod unbuilt;
pub(crate) mod written;

pub(crate) use self::resolve::{LimitValues, further_name};
use self::written::{Wire, written};
pub use self::{
    backend::{BackendSpec, BackendTlsSpec, NamedBackendSpec, TransportSpec, UrlPolicySpec},
    choice::{AuthFailure, EventsFormat, ExternalFailure, KeyType, LimitMode, OnMissing},
    limit::{KeyPatchSpec, KeyStrategySpec, LimitSpec, NamedLimitSpec, RateLimitSpec},
    route::{HeaderMatchSpec, MatchSpec, OverrideSpec, RouteSpec},
    secret::{REDACTED, Secret},
    services::{
        AuthHttpSpec, AuthSpec, CircuitBreakerSpec, EventsGrpcSpec, EventsHttpSpec, EventsSpec, EventsTlsSpec,
        ExternalSpec, GrpcEndpointSpec, GrpcTlsSpec, HeaderFilterSpec, HttpEndpointSpec,
    },
};
use crate::{
    Problem, check,
    snapshot::{Hash, MAX_PLAIN},
};
pub use crate::{
    backend::BackendProtocol,
    limit::{Accuracy, FailurePolicy, HeaderStyle},
};

/// Name of the default backend and of the default limit.
pub const DEFAULT: &str = "default";

/// The top-level keys of a policy, in the order they are written.
pub const POLICY_KEYS: [&str; 7] = ["backend", "backends", "routes", "overrides", "rate_limit", "auth", "events"];

written! {
    /// A policy: backends, routes, limits, overrides, auth, events.
    pub struct PolicySpec {
        /// The default backend.
        backend: BackendSpec = BackendSpec::default(),
        /// Further backends, by name.
        backends: Vec<NamedBackendSpec> = Vec::new(),
        /// Routes; the most specific one wins.
        routes: Vec<RouteSpec> = Vec::new(),
        /// Other numbers for some subjects.
        overrides: Vec<OverrideSpec> = Vec::new(),
        /// The default limit.
        rate_limit: RateLimitSpec = RateLimitSpec::default(),
        /// Asks a service whether a request may pass.
        auth: AuthSpec = AuthSpec::default(),
        /// Sends usage events.
        events: EventsSpec = EventsSpec::default(),
    }
}

impl PolicySpec {
    /// Every semantic mistake, at once. Structure (types, unknown keys) is checked by whoever parsed it.
    pub fn problems(&self) -> Vec<Problem> {
        check::problems(self)
    }
    /// Things worth a warning (`trusted_ip_depth: -1`, deprecated fields).
    pub fn warnings(&self) -> Vec<Problem> {
        check::warnings(self)
    }
    /// Features that are enabled here but not built yet, each naming itself. A process refuses to start with them.
    pub fn not_built(&self) -> Vec<Problem> {
        unbuilt::not_built(self)
    }
    /// Writes inherited values out, so that the canonical form depends on no default of the reader. Doing it twice
    /// changes nothing more.
    pub fn resolved(self) -> PolicySpec {
        resolve::resolved(self)
    }
    /// Canonical bytes: compact JSON of `self`, which must be resolved. A field is left out only where absent and
    /// default mean the same.
    pub fn canonical(&self) -> Vec<u8> {
        let lean = resolve::without_released_defaults(self);
        // Writing strings, numbers and string-keyed maps into memory has no way to fail.
        serde_json::to_vec(&Wire(&*lean)).unwrap_or_default()
    }
    /// Reads canonical bytes, at most [`MAX_PLAIN`]; an unknown field is an error (`unsupported`). The result is resolved.
    pub fn from_canonical(bytes: &[u8]) -> Result<PolicySpec, Problem> {
        if bytes.len() > MAX_PLAIN {
            return Err(Problem { path: String::new(), message: format!("larger than {} MiB", MAX_PLAIN >> 20) });
        }
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let spec: PolicySpec = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let message = without_values(&error.into_inner().to_string());
            Problem { path: if path == "." { String::new() } else { path }, message }
        })?;
        let end = reader.end();
        end.map_err(|_| Problem { path: String::new(), message: "something stands after its end".to_owned() })?;
        Ok(spec.resolved())
    }
    /// Whether a secret stands in it literally (not `{env}` or `{file}`): a header of the events receiver, or an
    /// override for the value of a credential header.
    pub fn has_literal_secrets(&self) -> bool {
        redact::has_literal_secrets(self)
    }
    /// A JSON value for people, with all defaults: secrets as `[REDACTED]`, override keys of limits that count by a
    /// credential header as hashes.
    pub fn redacted(&self) -> serde_json::Value {
        redact::redacted(self)
    }
    /// [`Self::redacted`], with the secrets that differ from `previous` as `[REDACTED, changed]`.
    pub fn redacted_after(&self, previous: &PolicySpec) -> serde_json::Value {
        redact::redacted_after(self, previous)
    }
    /// SHA-256 of the canonical bytes.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.canonical())
    }
}

/// What a newer or broken writer sent goes into logs and answers, and any value may be a secret: only names are told.
fn without_values(message: &str) -> String {
    let told = message.split(" at line ").next().unwrap_or_default();
    let names_only = ["unknown field", "missing field", "duplicate field"];
    if names_only.iter().any(|start| told.starts_with(start)) {
        told.to_owned()
    } else {
        "a value that this version does not understand".to_owned()
    }
}
