//! What a process is told about itself. One file a block under `settings/`.
//!
//! The types are read by serde, described by schemars (the structural check, the environment names and the reference
//! in `docs/configuration.md` all come from that description), and written by serde with every secret redacted.

mod admin;
pub(crate) mod cidr;
mod control_plane;
mod redis;
mod restart;
mod rules;
pub(crate) mod secret;
mod server;
mod telemetry;
mod tls;

use edgequota_policy::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

pub use edgequota_policy::spec::REDACTED;

pub use self::{
    admin::Admin,
    control_plane::ControlPlane,
    redis::{Redis, RedisMode},
    server::{Server, ServerTls},
    telemetry::{LogFormat, LogLevel, Logging, Tracing},
    tls::PeerTls,
};
use crate::{Role, check::Bad};

/// All settings, validated.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The proxy port.
    pub server: Server,
    /// The admin port.
    pub admin: Admin,
    /// The stream between the planes.
    pub control_plane: ControlPlane,
    /// Where counters live.
    pub redis: Redis,
    /// A Redis of its own for cached answers of the external limit service, same fields as `redis`. Empty: `redis` is
    /// used.
    #[serde(deserialize_with = "empty_is_none")]
    pub cache_redis: Option<Redis>,
    /// What is logged, and how.
    pub logging: Logging,
    /// Traces over OTLP.
    pub tracing: Tracing,
}

impl Settings {
    /// Features that are enabled but not built yet. A process refuses to start with them.
    pub fn not_built(&self) -> Vec<Problem> {
        rules::not_built(self)
    }

    /// What is wrong with these settings for a process of this role (rules that do not hold for a file as such).
    /// [`crate::load::load`] includes them.
    pub fn role_problems(&self, role: Role) -> Vec<Problem> {
        rules::for_role(self, role)
    }

    /// Things worth a warning at start.
    pub fn warnings(&self) -> Vec<Problem> {
        rules::warnings(self)
    }

    /// Redacted JSON for `/v1/config`: secrets as `[REDACTED]`, unset ones empty, user information of URLs taken out.
    pub fn redacted(&self) -> serde_json::Value {
        restart::redacted(self)
    }

    /// Paths whose change needs a restart and differs between the two.
    pub fn needs_restart(&self, newer: &Settings) -> Vec<&'static str> {
        restart::needed(self, newer)
    }

    /// All that is wrong across fields. `bad` are the paths that structure has already complained about: what only
    /// follows from them is left out.
    pub(crate) fn problems(&self, bad: &Bad) -> Vec<Problem> {
        rules::problems(self, bad)
    }

    /// Spellings that mean the same become one, so that nobody else has to know them.
    pub(crate) fn normalised(mut self) -> Settings {
        if let Some(version) = rules::tls_version(&self.server.tls.min_version) {
            self.server.tls.min_version = version.to_owned();
        }
        self
    }
}

/// `cache_redis: {}` is "use `redis`", not a Redis with default fields.
fn empty_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Redis>, D::Error> {
    let Some(fields) = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    if fields.is_empty() {
        return Ok(None);
    }
    Redis::deserialize(serde_json::Value::Object(fields)).map(Some).map_err(serde::de::Error::custom)
}
