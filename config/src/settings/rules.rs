//! What must hold across the fields of settings, beyond the types and ranges that the schema states.

mod address;

use edgequota_policy::{GoDuration, Problem};
use secrecy::SecretString;

use super::{PeerTls, Redis, RedisMode, Server, Settings, secret::is_set};
use crate::{Role, problems::shown};

/// Collects problems, leaving out those that only follow from a value that is already known to be bad.
struct Rules<'a> {
    bad: &'a [String],
    problems: Vec<Problem>,
}

impl Rules<'_> {
    /// A problem at `path`, unless structure complained about `path` itself.
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        if !self.is_bad(&path) {
            self.problems.push(Problem {
                path,
                message: message.into(),
            });
        }
    }

    fn is_bad(&self, path: &str) -> bool {
        self.bad
            .iter()
            .any(|bad| crate::schema::path::covers(bad, path))
    }

    fn both_or_none(&mut self, block: &str, cert: &str, key: &str) {
        if cert.is_empty() != key.is_empty() {
            let (have, lack) = if cert.is_empty() {
                ("key_file", "cert_file")
            } else {
                ("cert_file", "key_file")
            };
            self.add(
                format!("{block}.{lack}"),
                format!("{block}.{lack} is required with {block}.{have}"),
            );
        }
    }

    fn one_secret(&mut self, path: &str, literal: &SecretString, file: &str) {
        if is_set(literal) && !file.is_empty() {
            self.add(
                format!("{path}_file"),
                format!("{path} and {path}_file are both set: keep one of them"),
            );
        }
    }

    fn positive(&mut self, path: String, value: GoDuration) {
        if value.non_zero().is_none() {
            let message = format!("{path} must be > 0");
            self.add(path, message);
        }
    }

    fn listen_address(&mut self, path: &str, value: &str) {
        if !address::is_listen(value) {
            self.add(
                path,
                format!(
                    "invalid {path} {}: host:port or :port is expected",
                    shown(value)
                ),
            );
        }
    }

    fn url(&mut self, path: &str, value: &str) {
        if !address::is_http_url(value) {
            self.add(
                path,
                format!(
                    "invalid {path} {}: scheme and host are required (http:// or https://)",
                    shown(value)
                ),
            );
        }
    }
}

pub(super) fn problems(settings: &Settings, bad: &[String]) -> Vec<Problem> {
    let mut rules = Rules {
        bad,
        problems: Vec::new(),
    };
    server(&mut rules, &settings.server);
    rules.listen_address("admin.address", &settings.admin.address);
    rules.one_secret(
        "admin.token",
        &settings.admin.token,
        &settings.admin.token_file,
    );
    control_plane(&mut rules, settings);
    redis(&mut rules, "redis", &settings.redis);
    if let Some(cache) = &settings.cache_redis {
        redis(&mut rules, "cache_redis", cache);
    }
    tracing(&mut rules, settings);
    rules.problems
}

fn server(rules: &mut Rules<'_>, server: &Server) {
    rules.listen_address("server.address", &server.address);
    let path = &server.health_path;
    if !path.is_empty()
        && (!path.starts_with('/')
            || path.contains(|c: char| c == '?' || c == '#' || c.is_whitespace()))
    {
        let message = format!(
            "invalid server.health_path {}: a path that begins with / and has no query is expected",
            shown(path)
        );
        rules.add("server.health_path", message);
    }
    let tls = &server.tls;
    if tls.enabled && (tls.cert_file.is_empty() || tls.key_file.is_empty()) {
        let lack = if tls.cert_file.is_empty() {
            "server.tls.cert_file"
        } else {
            "server.tls.key_file"
        };
        rules.add(
            lack,
            "server.tls.cert_file and server.tls.key_file are required",
        );
    }
    if tls.http3_enabled && !tls.enabled && !rules.is_bad("server.tls.enabled") {
        rules.add(
            "server.tls.http3_enabled",
            "server.tls.http3_enabled requires server.tls.enabled",
        );
    }
    if tls_version(&tls.min_version).is_none() {
        let message = format!(
            "invalid server.tls.min_version {}: 1.2 or 1.3 is expected",
            shown(&tls.min_version)
        );
        rules.add("server.tls.min_version", message);
    }
}

fn control_plane(rules: &mut Rules<'_>, settings: &Settings) {
    let plane = &settings.control_plane;
    rules.listen_address("control_plane.listen", &plane.listen);
    if !plane.address.is_empty() {
        rules.url("control_plane.address", &plane.address);
    }
    rules.one_secret("control_plane.token", &plane.token, &plane.token_file);
    rules.both_or_none(
        "control_plane.tls",
        &plane.tls.cert_file,
        &plane.tls.key_file,
    );
    if plane.node_id.len() > 253
        || plane
            .node_id
            .chars()
            .any(|c| c.is_control() || c.is_whitespace())
    {
        rules.add(
            "control_plane.node_id",
            "invalid control_plane.node_id: at most 253 characters, no white space",
        );
    }
}

fn redis(rules: &mut Rules<'_>, block: &str, redis: &Redis) {
    for (i, endpoint) in redis.endpoints.iter().enumerate() {
        if !address::is_endpoint(endpoint) {
            let message = format!(
                "invalid {block}.endpoints {}: host:port is expected",
                shown(endpoint)
            );
            rules.add(format!("{block}.endpoints[{i}]"), message);
        }
    }
    topology(rules, block, redis);
    rules.one_secret(
        &format!("{block}.password"),
        &redis.password,
        &redis.password_file,
    );
    rules.one_secret(
        &format!("{block}.sentinel_password"),
        &redis.sentinel_password,
        &redis.sentinel_password_file,
    );
    rules.positive(format!("{block}.dial_timeout"), redis.dial_timeout);
    rules.positive(format!("{block}.deadline"), redis.deadline);
    rules.both_or_none(
        &format!("{block}.tls"),
        &redis.tls.cert_file,
        &redis.tls.key_file,
    );
}

fn topology(rules: &mut Rules<'_>, block: &str, redis: &Redis) {
    if rules.is_bad(&format!("{block}.mode")) {
        return;
    }
    let endpoints = format!("{block}.endpoints");
    let count = redis.endpoints.len();
    match redis.mode {
        RedisMode::Single if count != 1 => {
            rules.add(endpoints, "single mode requires exactly one endpoint")
        }
        RedisMode::Replication if count < 2 => {
            rules.add(endpoints, "replication mode requires at least 2 endpoints")
        }
        RedisMode::Sentinel if count == 0 => {
            rules.add(endpoints, "sentinel mode requires at least 1 endpoint")
        }
        RedisMode::Cluster if count == 0 => {
            rules.add(endpoints, "cluster mode requires at least 1 endpoint")
        }
        _ => {}
    }
    if redis.mode == RedisMode::Sentinel && redis.master_name.is_empty() {
        rules.add(
            format!("{block}.master_name"),
            format!("{block}.master_name is required for sentinel mode"),
        );
    }
    if redis.mode == RedisMode::Cluster && redis.db != 0 {
        rules.add(
            format!("{block}.db"),
            format!("{block}.db must be 0 in cluster mode"),
        );
    }
    if redis.mode == RedisMode::Embedded && block != "redis" {
        rules.add(
            format!("{block}.mode"),
            format!("invalid {block}.mode \"embedded\": only redis.mode may be embedded"),
        );
    }
}

fn tracing(rules: &mut Rules<'_>, settings: &Settings) {
    let tracing = &settings.tracing;
    if tracing.enabled && tracing.endpoint.is_empty() {
        rules.add("tracing.endpoint", "tracing.endpoint is required");
    } else if !tracing.endpoint.is_empty() {
        rules.url("tracing.endpoint", &tracing.endpoint);
    }
}

/// `1.2` or `1.3` for each accepted spelling, empty for empty (which means 1.2), `None` for anything else.
pub(super) fn tls_version(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "" => Some(""),
        "1.2" | "tls1.2" | "tls12" | "tlsv1.2" => Some("1.2"),
        "1.3" | "tls1.3" | "tls13" | "tlsv1.3" => Some("1.3"),
        _ => None,
    }
}

pub(super) fn for_role(settings: &Settings, role: Role) -> Vec<Problem> {
    let mut rules = Rules {
        bad: &[],
        problems: Vec::new(),
    };
    let plane = &settings.control_plane;
    if settings.redis.mode == RedisMode::Embedded && !plane.address.is_empty() {
        rules.add(
            "redis.mode",
            "redis.mode embedded is refused together with control_plane.address: each data plane would count on its \
             own, so N of them would allow N times each limit",
        );
    }
    let mut ports = vec![("admin.address", &settings.admin.address)];
    match role {
        Role::DataPlane if plane.address.is_empty() => {
            rules.add(
                "control_plane.address",
                "control_plane.address is required for a data plane",
            );
        }
        Role::ControlPlane => tls_of_listener(&mut rules, &plane.tls),
        Role::Standalone | Role::DataPlane => {}
    }
    match role {
        Role::ControlPlane => ports.push(("control_plane.listen", &plane.listen)),
        Role::Standalone | Role::DataPlane => {
            ports.push(("server.address", &settings.server.address))
        }
    }
    if let [(first, a), (second, b)] = ports.as_slice()
        && a == b
        && !a.ends_with(":0")
    {
        rules.add(
            *second,
            format!("{second} and {first} are the same address {}", shown(a)),
        );
    }
    rules.problems
}

fn tls_of_listener(rules: &mut Rules<'_>, tls: &PeerTls) {
    if tls.enabled && (tls.cert_file.is_empty() || tls.key_file.is_empty()) {
        let lack = if tls.cert_file.is_empty() {
            "control_plane.tls.cert_file"
        } else {
            "control_plane.tls.key_file"
        };
        rules.add(
            lack,
            "control_plane.tls.cert_file and control_plane.tls.key_file are required",
        );
    }
}

pub(super) fn warnings(settings: &Settings) -> Vec<Problem> {
    let mut found = Vec::new();
    let skips = [
        (
            "redis.tls.insecure_skip_verify",
            settings.redis.tls.insecure_skip_verify,
        ),
        (
            "cache_redis.tls.insecure_skip_verify",
            settings
                .cache_redis
                .as_ref()
                .is_some_and(|r| r.tls.insecure_skip_verify),
        ),
        (
            "control_plane.tls.insecure_skip_verify",
            settings.control_plane.tls.insecure_skip_verify,
        ),
    ];
    for (path, set) in skips {
        if set {
            let message =
                "certificates are not verified: anyone on the way can read and change what is sent";
            found.push(Problem {
                path: path.to_owned(),
                message: message.to_owned(),
            });
        }
    }
    found
}

pub(super) fn not_built(settings: &Settings) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |enabled: bool, path: &str, feature: &str| {
        if enabled {
            let message =
                format!("{feature} is not built yet; this version refuses to start with it");
            found.push(Problem {
                path: path.to_owned(),
                message,
            });
        }
    };
    add(
        settings.server.tls.enabled,
        "server.tls.enabled",
        "TLS on the proxy port (server.tls.enabled)",
    );
    add(
        settings.server.tls.http3_enabled,
        "server.tls.http3_enabled",
        "HTTP/3 (server.tls.http3_enabled)",
    );
    let mode = match settings.redis.mode {
        RedisMode::Replication => Some("replication"),
        RedisMode::Sentinel => Some("sentinel"),
        RedisMode::Cluster => Some("cluster"),
        RedisMode::Single | RedisMode::Embedded => None,
    };
    add(
        mode.is_some(),
        "redis.mode",
        &format!("redis.mode {}", mode.unwrap_or_default()),
    );
    add(
        settings.cache_redis.is_some(),
        "cache_redis",
        "a Redis of its own for caches (cache_redis)",
    );
    add(
        settings.tracing.enabled,
        "tracing.enabled",
        "tracing (tracing.enabled)",
    );
    found
}
