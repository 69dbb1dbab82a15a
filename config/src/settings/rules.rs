//! What must hold across the fields of settings, beyond the types and ranges that the schema states.

mod address;
mod advice;
mod redis;
mod role;

use edgequota_policy::{GoDuration, Problem};
use secrecy::SecretString;

pub(super) use self::{
    advice::{not_built, warnings},
    role::for_role,
};
use super::{Server, Settings, secret::is_set};
use crate::{check::Bad, problems::shown};

/// Collects problems, leaving out those that only follow from a value that is already known to be bad.
struct Rules<'a> {
    bad: &'a Bad,
    problems: Vec<Problem>,
}

impl Rules<'_> {
    /// A problem at `path`, unless it only follows from one that structure has already found.
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let problem = Problem { path: path.into(), message: message.into() };
        if !self.bad.explains(&problem) {
            self.problems.push(problem);
        }
    }

    fn both_or_none(&mut self, block: &str, cert: &str, key: &str) {
        if cert.is_empty() != key.is_empty() {
            let (have, lack) = if cert.is_empty() { ("key_file", "cert_file") } else { ("cert_file", "key_file") };
            self.add(format!("{block}.{lack}"), format!("{block}.{lack} is required with {block}.{have}"));
        }
    }

    fn one_secret(&mut self, path: &str, literal: &SecretString, file: &str) {
        if is_set(literal) && !file.is_empty() {
            self.add(format!("{path}_file"), format!("{path} and {path}_file are both set: keep one of them"));
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
            self.add(path, format!("invalid {path} {}: host:port or :port is expected", shown(value)));
        }
    }

    fn url(&mut self, path: &str, value: &str) {
        if !address::is_http_url(value) {
            self.add(
                path,
                format!("invalid {path} {}: scheme and host are required (http:// or https://)", shown(value)),
            );
        }
    }
}

pub(super) fn problems(settings: &Settings, bad: &Bad) -> Vec<Problem> {
    let mut rules = Rules { bad, problems: Vec::new() };
    server(&mut rules, &settings.server);
    rules.listen_address("admin.address", &settings.admin.address);
    rules.one_secret("admin.token", &settings.admin.token, &settings.admin.token_file);
    control_plane(&mut rules, settings);
    redis::check(&mut rules, "redis", &settings.redis);
    if let Some(cache) = &settings.cache_redis {
        redis::check(&mut rules, "cache_redis", cache);
    }
    tracing(&mut rules, settings);
    rules.problems
}

fn server(rules: &mut Rules<'_>, server: &Server) {
    rules.listen_address("server.address", &server.address);
    let path = &server.health_path;
    if !path.is_empty()
        && (!path.starts_with('/') || path.contains(|c: char| c == '?' || c == '#' || c.is_whitespace()))
    {
        let message = format!(
            "invalid server.health_path {}: a path that begins with / and has no query is expected",
            shown(path)
        );
        rules.add("server.health_path", message);
    }
    let tls = &server.tls;
    if tls.enabled && (tls.cert_file.is_empty() || tls.key_file.is_empty()) {
        let lack = if tls.cert_file.is_empty() { "server.tls.cert_file" } else { "server.tls.key_file" };
        rules.add(lack, "server.tls.cert_file and server.tls.key_file are required");
    }
    if tls.http3_enabled && !tls.enabled {
        rules.add("server.tls.http3_enabled", "server.tls.http3_enabled requires server.tls.enabled");
    }
    if tls_version(&tls.min_version).is_none() {
        let message = format!("invalid server.tls.min_version {}: 1.2 or 1.3 is expected", shown(&tls.min_version));
        rules.add("server.tls.min_version", message);
    }
}

fn control_plane(rules: &mut Rules<'_>, settings: &Settings) {
    let plane = &settings.control_plane;
    rules.listen_address("control_plane.listen", &plane.listen);
    if !plane.address.is_empty() {
        rules.url("control_plane.address", &plane.address);
        if plane.tls.enabled && plane.address.to_ascii_lowercase().starts_with("http://") {
            let message =
                "control_plane.tls.enabled is true, but control_plane.address would not be encrypted: write https://";
            rules.add("control_plane.address", message);
        }
    }
    rules.one_secret("control_plane.token", &plane.token, &plane.token_file);
    rules.both_or_none("control_plane.tls", &plane.tls.cert_file, &plane.tls.key_file);
    if plane.node_id.len() > 253 || plane.node_id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        rules.add("control_plane.node_id", "invalid control_plane.node_id: at most 253 characters, no white space");
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
