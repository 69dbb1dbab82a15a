//! `backend` and `backends`: where requests go.

use super::{
    BackendProtocol,
    written::{written, written_and_named},
};
use crate::GoDuration;

written_and_named! {
    /// The default backend: where requests go whose route names none, or that match no route.
    pub struct BackendSpec;
    /// One more backend. The fields are those of `backend`.
    pub struct NamedBackendSpec;
    {
        /// `scheme://host[:port][/prefix]`; http, https, ws or wss, port 80 or 443 when absent, no user information. Required, unless routes or the external service name a backend for everything.
        url: String = String::new(),
        /// From the last byte of the request sent to the response headers; never runs while the request body flows. Duration; 0 = none; default 30s.
        timeout: GoDuration = GoDuration::secs(30),
        /// Idle connections kept, per process. Default 100.
        max_idle_conns: u64 = 100,
        /// Most connections, per process. 0 = unlimited, the default.
        max_conns: u64 = 0,
        /// How long an idle connection is kept. Duration; 0 = for ever; default 90s.
        idle_conn_timeout: GoDuration = GoDuration::secs(90),
        /// Do not verify the backend's certificate. Default false.
        tls_insecure_skip_verify: bool = false,
        /// TLS towards the backend.
        tls: BackendTlsSpec = BackendTlsSpec::default(),
        /// Larger request bodies are answered with 413. Bytes; 0 = unlimited, the default.
        max_request_body_size: u64 = 0,
        /// Which backends the external limit service may name.
        url_policy: UrlPolicySpec = UrlPolicySpec::default(),
        /// Connections to the backend.
        transport: TransportSpec = TransportSpec::default(),
    }
}

written! {
    /// TLS towards a backend. Paths are paths on the data plane; the files are watched.
    pub struct BackendTlsSpec {
        /// PEM file with the authorities that sign the backend's certificate. Empty = those of the system.
        ca_file: String = String::new(),
        /// PEM file with the certificate shown to the backend. Empty = none.
        cert_file: String = String::new(),
        /// PEM file with that certificate's key.
        key_file: String = String::new(),
        /// Name that the backend's certificate must have. Empty = the host of the URL.
        server_name: String = String::new(),
    }
}

written! {
    /// Which `backend_url` answers of the external limit service are followed.
    pub struct UrlPolicySpec {
        /// Allowed schemes. Default http and https.
        allowed_schemes: Vec<String> = vec!["http".into(), "https".into()],
        /// Refuse private, loopback, link-local and metadata addresses unless the host is listed. Default true.
        deny_private_networks: bool = true,
        /// Allowed hosts. Empty = all that the other rules allow.
        allowed_hosts: Vec<String> = Vec::new(),
    }
}

written! {
    /// Connections to a backend.
    pub struct TransportSpec {
        /// auto | h1 | h2 | h3. auto: by ALPN over https; over http as the client came. Default auto.
        backend_protocol: BackendProtocol = BackendProtocol::Auto,
        /// Longest time to connect. Duration, more than 0; default 30s.
        dial_timeout: GoDuration = GoDuration::secs(30),
        /// Interval of TCP keep-alive probes. Duration; 0 = off; default 30s.
        dial_keep_alive: GoDuration = GoDuration::secs(30),
        /// Longest TLS handshake. Duration; 0 = none; default 10s.
        tls_handshake_timeout: GoDuration = GoDuration::secs(10),
        /// How long a body waits for `100 Continue`. Duration; 0 = it does not wait; default 1s.
        expect_continue_timeout: GoDuration = GoDuration::secs(1),
        /// How often the host name is resolved again. Duration, more than 0; default 5s.
        dns_refresh: GoDuration = GoDuration::secs(5),
        /// A connection is not reused when older. Duration; 0 = never too old; default 5m.
        max_connection_age: GoDuration = GoDuration::secs(300),
        /// HTTP/2: silence after which a ping is sent. Duration; 0 = never; default 30s.
        h2_read_idle_timeout: GoDuration = GoDuration::secs(30),
        /// HTTP/2: how long the answer to a ping may take. Duration; 0 = for ever; default 15s.
        h2_ping_timeout: GoDuration = GoDuration::secs(15),
        /// Longest time to connect for a WebSocket. Duration; 0 = `dial_timeout`; default 10s.
        websocket_dial_timeout: GoDuration = GoDuration::secs(10),
        /// HTTP/3: UDP receive buffer. Bytes; 0 = the system's, the default.
        h3_udp_receive_buffer_size: u64 = 0,
        /// HTTP/3: UDP send buffer. Bytes; 0 = the system's, the default.
        h3_udp_send_buffer_size: u64 = 0,
    }
}
