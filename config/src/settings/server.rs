//! `server`: the proxy port.

use edgequota_policy::GoDuration;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cidr;

/// The proxy port of a data plane: addresses, bounds and timers. Durations: zero is "off".
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address of the proxy port: TCP, and UDP with HTTP/3. `:8080` listens on IPv6 and IPv4.
    pub address: String,
    /// Worker threads, each with its own listener, upstream pools and Redis connection. `0` is the smallest of the
    /// CPU quota rounded up (without one: the usable cores), `redis.pool_size - 1`, and 16; at least 1.
    #[schemars(range(max = 1024))]
    pub workers: usize,
    /// Networks (or bare addresses) whose forwarding headers are believed. Also used for client keys of limits that
    /// have no `key_strategy.trusted_proxies` of their own. When set, peers outside of it have their `X-Forwarded-*`
    /// overwritten.
    #[serde(deserialize_with = "cidr::read")]
    #[schemars(schema_with = "cidr::schema", extend("x-hot" = true))]
    pub trusted_proxies: Vec<IpNet>,
    /// A path on the proxy port that answers readiness, for load balancers that can only ask there. Never limited,
    /// never forwarded. Empty: none.
    #[schemars(extend("x-hot" = true))]
    pub health_path: String,
    /// Most bytes of a request's header section, the same for HTTP/1.1, HTTP/2 and HTTP/3; above it the answer is 431.
    #[schemars(range(min = 1024, max = 16_777_216), extend("x-hot" = true))]
    pub max_header_bytes: usize,
    /// Most header lines of a request; above it the answer is 431.
    #[schemars(range(min = 1, max = 10_000), extend("x-hot" = true))]
    pub max_headers: usize,
    /// Longest pause while a request body is read (with a least rate against dripping). Never a total: an upload that
    /// flows is not cut. `0` is off.
    #[schemars(extend("x-hot" = true))]
    pub read_timeout: GoDuration,
    /// Longest time from the first byte of a request to the end of its headers. `0` is off.
    #[schemars(extend("x-hot" = true))]
    pub read_header_timeout: GoDuration,
    /// Longest stall of a response towards the client. Never cuts a stream that makes progress. `0` is off.
    #[schemars(extend("x-hot" = true))]
    pub write_timeout: GoDuration,
    /// How long a kept-alive connection may stay idle. `0` is off.
    #[schemars(extend("x-hot" = true))]
    pub idle_timeout: GoDuration,
    /// How long connections and requests are still accepted after SIGTERM while `/readyz` is already 503, so that
    /// load balancers notice first.
    pub drain_delay: GoDuration,
    /// How long requests in flight may take after the delay before they are cut. The pod's
    /// `terminationGracePeriodSeconds` must be at least `drain_delay + drain_timeout + 5s`.
    pub drain_timeout: GoDuration,
    /// Longest time of a whole request, from auth to its last byte; it ends at the 101/200 of a WebSocket. Empty or
    /// `0` is none.
    #[schemars(extend("x-hot" = true))]
    pub request_timeout: GoDuration,
    /// Connections are closed gracefully at this age (give or take 10 %), which moves long-lived ones to other workers
    /// and to new pods. `0` is off.
    #[schemars(extend("x-hot" = true))]
    pub max_connection_age: GoDuration,
    /// Most requests in flight in this process; above it the answer is 503 `overloaded`. `0` is unlimited.
    #[schemars(extend("x-hot" = true))]
    pub max_concurrent_requests: usize,
    /// Most client connections of this process. `0` is derived from the descriptor and memory limits.
    #[schemars(extend("x-hot" = true))]
    pub max_connections: usize,
    /// `Origin` values from which a WebSocket may be opened (403 otherwise). Empty: any.
    #[schemars(extend("x-hot" = true))]
    pub allowed_websocket_origins: Vec<String>,
    /// Most open WebSockets of one rate-limit key in this process; above it the answer is 429. `0` is unlimited.
    #[schemars(extend("x-hot" = true))]
    pub max_websocket_conns_per_key: usize,
    /// Most bytes of one WebSocket in each direction; then it is closed with a close frame. `0` is unlimited.
    #[schemars(extend("x-hot" = true))]
    pub max_websocket_transfer_bytes: u64,
    /// A WebSocket without a message in either direction for this long is closed. `0` is off.
    #[schemars(extend("x-hot" = true))]
    pub websocket_idle_timeout: GoDuration,
    /// TLS on the proxy port.
    pub tls: ServerTls,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            address: ":8080".to_owned(),
            workers: 0,
            trusted_proxies: Vec::new(),
            health_path: String::new(),
            max_header_bytes: 65_536,
            max_headers: 200,
            read_timeout: GoDuration::secs(30),
            read_header_timeout: GoDuration::secs(10),
            write_timeout: GoDuration::secs(30),
            idle_timeout: GoDuration::secs(120),
            drain_delay: GoDuration::secs(5),
            drain_timeout: GoDuration::secs(30),
            request_timeout: GoDuration::secs(0),
            max_connection_age: GoDuration::secs(600),
            max_concurrent_requests: 0,
            max_connections: 0,
            allowed_websocket_origins: Vec::new(),
            max_websocket_conns_per_key: 0,
            max_websocket_transfer_bytes: 0,
            websocket_idle_timeout: GoDuration::secs(300),
            tls: ServerTls::default(),
        }
    }
}

/// TLS on the proxy port. The files are watched: a renewed certificate is used without a restart.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTls {
    /// Whether the proxy port speaks TLS (ALPN `h2` and `http/1.1`).
    pub enabled: bool,
    /// PEM file with the certificate chain.
    #[schemars(extend("x-hot" = true))]
    pub cert_file: String,
    /// PEM file with the private key.
    #[schemars(extend("x-hot" = true))]
    pub key_file: String,
    /// Whether HTTP/3 is served on the same port over UDP and announced by `Alt-Svc`.
    pub http3_enabled: bool,
    /// Port that `Alt-Svc` announces, when it differs from the one listened on. `0` is the same.
    pub http3_advertise_port: u16,
    /// Least TLS version: `1.2`, `tls1.2`, `tls12`, `1.3`, `tls1.3` or `tls13`. Empty is 1.2.
    pub min_version: String,
    /// PEM file with the authorities whose client certificates are demanded. Empty: clients need none.
    #[schemars(extend("x-hot" = true))]
    pub client_ca_file: String,
}
