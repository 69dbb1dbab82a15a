//! `admin`: probes, metrics and the API.

use edgequota_policy::GoDuration;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::secret;

/// The admin port: probes, metrics and the API.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address of the admin port. `:9090` listens on IPv6 and IPv4.
    pub address: String,
    /// Longest time in which an admin request must have been read. `0` is off.
    pub read_timeout: GoDuration,
    /// Longest time in which an admin answer must have been written. `0` is off.
    pub write_timeout: GoDuration,
    /// How long a kept-alive admin connection may stay idle. `0` is off.
    pub idle_timeout: GoDuration,
    /// Bearer token that changing calls of the API need. With none configured they answer 403.
    #[serde(deserialize_with = "secret::read", serialize_with = "secret::redact")]
    #[schemars(schema_with = "secret::schema")]
    pub token: SecretString,
    /// File that holds the token, instead of `admin.token`; watched.
    pub token_file: String,
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            address: ":9090".to_owned(),
            read_timeout: GoDuration::secs(5),
            write_timeout: GoDuration::secs(10),
            idle_timeout: GoDuration::secs(30),
            token: SecretString::default(),
            token_file: String::new(),
        }
    }
}
