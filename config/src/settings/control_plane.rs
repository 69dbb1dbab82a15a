//! `control_plane`: the stream between the planes.

use edgequota_policy::GoDuration;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{PeerTls, secret};

/// The stream between the planes: where it is served, who may use it, where the last good policy is kept.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ControlPlane {
    /// Data plane: where the control plane is, `https://edgequota-controlplane:9091` (or `http://` without TLS).
    pub address: String,
    /// Control plane: address on which data planes are served.
    pub listen: String,
    /// Control plane: the policy to publish, a file or a directory of `*.yaml`. Empty: its own config file.
    pub policy_path: String,
    /// Both planes: directory in which the last good policy is kept. Empty: it is not kept.
    pub state_dir: String,
    /// Data plane: how long to wait for the first push before falling back to the last good policy, then to the policy
    /// in its own config file.
    pub initial_wait: GoDuration,
    /// Control plane: push policies that hold literal secrets even without TLS and an authenticated peer.
    pub allow_insecure: bool,
    /// Name under which a data plane is listed. Empty: the host name.
    pub node_id: String,
    /// Shared token of the stream, the simple alternative to client certificates. It opens nothing on the admin port.
    #[serde(deserialize_with = "secret::read", serialize_with = "secret::redact")]
    #[schemars(schema_with = "secret::schema")]
    pub token: SecretString,
    /// File that holds the token, instead of `control_plane.token`; watched.
    pub token_file: String,
    /// TLS of the stream: the control plane's certificate, the data plane's, and the authority of the other side.
    pub tls: PeerTls,
}

impl Default for ControlPlane {
    fn default() -> Self {
        ControlPlane {
            address: String::new(),
            listen: ":9091".to_owned(),
            policy_path: String::new(),
            state_dir: String::new(),
            initial_wait: GoDuration::secs(3),
            allow_insecure: false,
            node_id: String::new(),
            token: SecretString::default(),
            token_file: String::new(),
            tls: PeerTls::default(),
        }
    }
}
