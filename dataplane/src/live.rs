//! Settings as the request path reads them, remade whenever the file changes.

use std::time::Duration;

use edgequota_config::Settings;
use ipnet::IpNet;

/// Hot settings. `None` means "off" everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) health_path: Option<String>,
    pub(crate) max_header_bytes: usize,
    pub(crate) max_headers: usize,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) read_header_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) max_connection_age: Option<Duration>,
    pub(crate) max_concurrent_requests: usize,
    pub(crate) max_connections: usize,
    pub(crate) access_log: bool,
}

impl Live {
    /// `bearable`: what `max_connections: 0` stands for on this machine.
    pub(crate) fn new(settings: &Settings, bearable: usize) -> Live {
        let server = &settings.server;
        Live {
            trusted_proxies: server.trusted_proxies.clone(),
            health_path: (!server.health_path.is_empty()).then(|| server.health_path.clone()),
            max_header_bytes: server.max_header_bytes,
            max_headers: server.max_headers,
            read_timeout: server.read_timeout.non_zero(),
            read_header_timeout: server.read_header_timeout.non_zero(),
            write_timeout: server.write_timeout.non_zero(),
            idle_timeout: server.idle_timeout.non_zero(),
            request_timeout: server.request_timeout.non_zero(),
            max_connection_age: server.max_connection_age.non_zero(),
            max_concurrent_requests: server.max_concurrent_requests,
            max_connections: if server.max_connections == 0 { bearable } else { server.max_connections },
            access_log: settings.logging.access_log_enabled,
        }
    }
}
