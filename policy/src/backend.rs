//! A compiled backend.

pub(crate) mod url;

use std::{sync::Arc, time::Duration};

use crate::{path, spec::BackendSpec};

/// Which protocol is spoken to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendProtocol {
    /// As the client came (http), by ALPN (https).
    Auto,
    /// HTTP/1.1.
    H1,
    /// HTTP/2 (h2c over http).
    H2,
    /// HTTP/3.
    H3,
}

/// Where requests go. Equality is equality of definition: pools are keyed by it, so an edit elsewhere keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    /// `default`, or its name.
    pub name: Arc<str>,
    /// As shown to people: scheme, host, explicit port, path prefix.
    pub url: Arc<str>,
    /// https.
    pub tls: bool,
    /// Host name or address, brackets dropped.
    pub host: Arc<str>,
    /// Explicit.
    pub port: u16,
    /// Path prefix without trailing slash; empty for none.
    pub path_prefix: Arc<str>,
    /// Protocol.
    pub protocol: BackendProtocol,
    /// From the last byte of the request sent to the response headers.
    pub timeout: Option<Duration>,
    /// Idle connections kept per process.
    pub max_idle_conns: usize,
    /// Most connections per process; None: unlimited.
    pub max_conns: Option<usize>,
    /// How long an idle connection is kept.
    pub idle_conn_timeout: Option<Duration>,
    /// 413 above; None: unlimited.
    pub max_request_body_size: Option<u64>,
    /// Connecting.
    pub dial_timeout: Duration,
    /// TCP keep-alive interval.
    pub dial_keep_alive: Option<Duration>,
    /// How long a body waits for `100 Continue`.
    pub expect_continue_timeout: Option<Duration>,
    /// How often the name is resolved again.
    pub dns_refresh: Duration,
    /// A connection is not reused when older.
    pub max_connection_age: Option<Duration>,
    /// HTTP/2: silence after which a ping is sent.
    pub h2_read_idle_timeout: Option<Duration>,
    /// HTTP/2: how long the answer to a ping may take.
    pub h2_ping_timeout: Option<Duration>,
}

impl Backend {
    /// None when the URL is empty or no URL: [`crate::check`] says so.
    pub(crate) fn compile(name: &str, spec: &BackendSpec) -> Option<Backend> {
        let url = url::parse(&spec.url).ok()?;
        let prefix = prefix(url.path)?;
        let transport = &spec.transport;
        let shown = url::Url { path: &prefix, query: "", ..url.clone() }.with_port();
        Some(Backend {
            name: name.into(),
            url: shown.into(),
            tls: url.tls,
            host: url.host.to_ascii_lowercase().into(),
            port: url.port,
            path_prefix: prefix.into(),
            protocol: transport.backend_protocol,
            timeout: spec.timeout.non_zero(),
            max_idle_conns: count(spec.max_idle_conns),
            max_conns: (spec.max_conns > 0).then(|| count(spec.max_conns)),
            idle_conn_timeout: spec.idle_conn_timeout.non_zero(),
            max_request_body_size: (spec.max_request_body_size > 0).then_some(spec.max_request_body_size),
            dial_timeout: transport.dial_timeout.get(),
            dial_keep_alive: transport.dial_keep_alive.non_zero(),
            expect_continue_timeout: transport.expect_continue_timeout.non_zero(),
            dns_refresh: transport.dns_refresh.get(),
            max_connection_age: transport.max_connection_age.non_zero(),
            h2_read_idle_timeout: transport.h2_read_idle_timeout.non_zero(),
            h2_ping_timeout: transport.h2_ping_timeout.non_zero(),
        })
    }
}

/// The path of a backend's URL as a prefix: normalised, without trailing slash. None when it cannot be normalised.
pub(crate) fn prefix(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(String::new());
    }
    let normal = path::normalise(path).ok()?;
    Some(normal.trim_end_matches('/').to_owned())
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
