//! What a process is told about itself. One file a block under `settings/`.
use ipnet::IpNet;
use secrecy::SecretString;
use edgequota_policy::GoDuration;

/// All settings, validated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `server`
    pub server: Server,
    /// `admin`
    pub admin: Admin,
    /// `control_plane`
    pub control_plane: ControlPlane,
    /// `redis`
    pub redis: Redis,
    /// `cache_redis`; None: use `redis`.
    pub cache_redis: Option<Redis>,
    /// `logging`
    pub logging: Logging,
    /// `tracing`
    pub tracing: Tracing,
}
impl Settings {
    /// Features that are enabled but not built yet.
    pub fn not_built(&self) -> Vec<edgequota_policy::Problem> { todo!() }
    /// Redacted JSON for `/v1/config`.
    pub fn redacted(&self) -> serde_json::Value { todo!() }
    /// Paths whose change needs a restart and differs between the two.
    pub fn needs_restart(&self, _newer: &Settings) -> Vec<&'static str> { todo!() }
}
/// `server`. Durations: zero = off.
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct Server {
    pub address: String, pub workers: usize, pub trusted_proxies: Vec<IpNet>, pub health_path: String,
    pub max_header_bytes: usize, pub max_headers: usize,
    pub read_timeout: GoDuration, pub read_header_timeout: GoDuration, pub write_timeout: GoDuration, pub idle_timeout: GoDuration,
    pub drain_delay: GoDuration, pub drain_timeout: GoDuration, pub request_timeout: GoDuration, pub max_connection_age: GoDuration,
    pub max_concurrent_requests: usize, pub max_connections: usize,
    pub allowed_websocket_origins: Vec<String>, pub max_websocket_conns_per_key: usize, pub max_websocket_transfer_bytes: u64, pub websocket_idle_timeout: GoDuration,
    pub tls: ServerTls,
}
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct ServerTls { pub enabled: bool, pub cert_file: String, pub key_file: String, pub http3_enabled: bool, pub http3_advertise_port: u16, pub min_version: String, pub client_ca_file: String }
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct Admin { pub address: String, pub read_timeout: GoDuration, pub write_timeout: GoDuration, pub idle_timeout: GoDuration, pub token: SecretString, pub token_file: String }
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct ControlPlane {
    pub address: String, pub listen: String, pub policy_path: String, pub state_dir: String, pub initial_wait: GoDuration,
    pub allow_insecure: bool, pub node_id: String, pub token: SecretString, pub token_file: String, pub tls: PeerTls,
}
/// TLS towards or for a peer: both client and server material.
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct PeerTls { pub enabled: bool, pub cert_file: String, pub key_file: String, pub ca_file: String, pub server_name: String, pub insecure_skip_verify: bool }
/// Topology of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RedisMode { Single, Replication, Sentinel, Cluster, Embedded }
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct Redis {
    pub endpoints: Vec<String>, pub mode: RedisMode, pub master_name: String, pub username: String, pub password: SecretString, pub password_file: String,
    pub db: i64, pub pool_size: usize, pub dial_timeout: GoDuration, pub read_timeout: GoDuration, pub write_timeout: GoDuration, pub deadline: GoDuration,
    pub sentinel_username: String, pub sentinel_password: SecretString, pub sentinel_password_file: String, pub tls: PeerTls,
}
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct Logging { pub level: LogLevel, pub format: LogFormat, pub access_log_enabled: bool }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogLevel { Debug, Info, Warn, Error }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogFormat { Json, Text }
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct Tracing { pub enabled: bool, pub endpoint: String, pub service_name: String, pub sample_rate: f64 }
