//! `redis` and `cache_redis`: where counters live.

use edgequota_policy::GoDuration;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{PeerTls, secret};

/// Topology of Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    /// One server.
    #[default]
    Single,
    /// Several servers, the master is found by `ROLE`.
    Replication,
    /// The endpoints are Sentinels that know the master by `master_name`.
    Sentinel,
    /// Redis Cluster.
    Cluster,
    /// No Redis: counters live in this process.
    Embedded,
}

/// Where counters live. A change moves to a new connection without a restart.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-hot" = true))]
pub struct Redis {
    /// Servers (with `sentinel`: the Sentinels) as `host:port`.
    pub endpoints: Vec<String>,
    /// Topology. `embedded` needs no Redis: it is exact for one process, and refused together with
    /// `control_plane.address`, because N data planes would allow N times each limit.
    pub mode: RedisMode,
    /// Name of the master that Sentinel watches.
    pub master_name: String,
    /// User of an ACL. Empty: the default user.
    pub username: String,
    /// Password.
    #[serde(deserialize_with = "secret::read", serialize_with = "secret::redact")]
    #[schemars(schema_with = "secret::schema")]
    pub password: SecretString,
    /// File that holds the password, instead of the password itself. It is watched, so that a rotated password needs
    /// no restart (an environment variable of a running pod never changes).
    pub password_file: String,
    /// Number of the database. Must be 0 with `cluster`.
    #[schemars(range(min = 0))]
    pub db: i64,
    /// Most connections per endpoint that one process opens.
    #[schemars(range(min = 1, max = 10_000))]
    pub pool_size: usize,
    /// Longest time in which a connection must be made.
    pub dial_timeout: GoDuration,
    /// Nothing received for this long while calls are outstanding: a new connection is made. `0` is off.
    pub read_timeout: GoDuration,
    /// Nothing could be sent for this long: a new connection is made. `0` is off.
    pub write_timeout: GoDuration,
    /// Longest wait of one request for a counter; then the limit's failure policy decides.
    pub deadline: GoDuration,
    /// User at the Sentinels.
    pub sentinel_username: String,
    /// Password at the Sentinels.
    #[serde(deserialize_with = "secret::read", serialize_with = "secret::redact")]
    #[schemars(schema_with = "secret::schema")]
    pub sentinel_password: SecretString,
    /// File that holds the password at the Sentinels, instead of the password itself; watched.
    pub sentinel_password_file: String,
    /// TLS towards Redis.
    pub tls: PeerTls,
    /// TLS towards the Sentinels. Unset: as `tls`.
    pub sentinel_tls: Option<PeerTls>,
}

impl Redis {
    /// Whether both say the same, secrets included.
    pub fn same_as(&self, other: &Redis) -> bool {
        let shown = |redis: &Redis| serde_json::to_value(redis).ok();
        self.password.expose_secret() == other.password.expose_secret()
            && self.sentinel_password.expose_secret() == other.sentinel_password.expose_secret()
            && shown(self) == shown(other)
    }
}

impl Default for Redis {
    fn default() -> Self {
        Redis {
            endpoints: vec!["localhost:6379".to_owned()],
            mode: RedisMode::Single,
            master_name: String::new(),
            username: String::new(),
            password: SecretString::default(),
            password_file: String::new(),
            db: 0,
            pool_size: 10,
            dial_timeout: GoDuration::secs(5),
            read_timeout: GoDuration::secs(3),
            write_timeout: GoDuration::secs(3),
            deadline: GoDuration::millis(100),
            sentinel_username: String::new(),
            sentinel_password: SecretString::default(),
            sentinel_password_file: String::new(),
            tls: PeerTls::default(),
            sentinel_tls: None,
        }
    }
}
