//! Secrets in settings: read from text, never written out.

use edgequota_policy::spec::REDACTED;
use schemars::{Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// Empty stays empty, so that people see whether a secret is set.
pub(super) fn redact<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if is_set(secret) { REDACTED } else { "" })
}

pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "x-secret": true })
}

/// Whether there is one.
pub(crate) fn is_set(secret: &SecretString) -> bool {
    !secret.expose_secret().is_empty()
}
