//! The written form of a policy. `deny_unknown_fields` everywhere; canonical bytes are JSON of the *resolved* spec.

use crate::{Problem, snapshot::Hash};

/// The written form: backends, routes, limits, overrides, auth, events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicySpec {}

impl PolicySpec {
    /// Every semantic mistake, at once. Structure (types, unknown keys) is checked by whoever parsed it.
    pub fn problems(&self) -> Vec<Problem> {
        todo!()
    }
    /// Things worth a warning (`trusted_ip_depth: -1`, deprecated fields).
    pub fn warnings(&self) -> Vec<Problem> {
        todo!()
    }
    /// Features that are enabled here but not built yet, each naming itself. A process refuses to start with them.
    pub fn not_built(&self) -> Vec<Problem> {
        todo!()
    }
    /// Writes inherited values out, so that the canonical form depends on no default of the reader.
    pub fn resolved(self) -> PolicySpec {
        todo!()
    }
    /// Canonical bytes: compact JSON of `self`, which must be resolved. A field is left out only where absent and
    /// default mean the same.
    pub fn canonical(&self) -> Vec<u8> {
        todo!()
    }
    /// Reads canonical bytes; an unknown field is an error (`unsupported`).
    pub fn from_canonical(_bytes: &[u8]) -> Result<PolicySpec, Problem> {
        todo!()
    }
    /// Whether a secret stands in it literally (not `{env}` or `{file}`).
    pub fn has_literal_secrets(&self) -> bool {
        todo!()
    }
    /// A JSON value for people: secrets as `[REDACTED]`.
    pub fn redacted(&self) -> serde_json::Value {
        todo!()
    }
    /// SHA-256 of the canonical bytes.
    pub fn hash(&self) -> Hash {
        todo!()
    }
}
