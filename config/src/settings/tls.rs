//! TLS material towards or for a peer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS towards or for a peer: both client and server material.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PeerTls {
    /// Whether TLS is spoken.
    pub enabled: bool,
    /// PEM file with our certificate chain. Watched.
    pub cert_file: String,
    /// PEM file with our private key. Watched.
    pub key_file: String,
    /// PEM file with the authorities that the other side's certificate must come from. Empty: the system's. Watched.
    pub ca_file: String,
    /// Name that the other side's certificate must carry. Empty: the host of the address.
    pub server_name: String,
    /// Accept any certificate. For tests only: anyone on the way can read and change what is sent.
    pub insecure_skip_verify: bool,
}
