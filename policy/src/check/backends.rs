//! `backend` and `backends`.

use std::collections::HashMap;

use super::{Report, shown};
use crate::{
    GoDuration, PolicySpec, backend,
    backend::url::{self, UrlError},
    spec::{BackendSpec, DEFAULT},
};

pub(super) fn check(spec: &PolicySpec, report: &mut Report) {
    check_one("backend", &spec.backend, report);
    if spec.backend.url.is_empty() && needs_default(spec) {
        report.add("backend.url", "backend.url is required");
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (i, named) in spec.backends.iter().enumerate() {
        let path = format!("backends[{i}]");
        report.name(format!("{path}.name"), &named.name);
        if let Some(first) = seen.get(named.name.as_str()) {
            let what = format_args!("{:?} is already the name of backends[{first}]", named.name);
            report.at(format!("{path}.name"), what);
        } else if !named.name.is_empty() {
            seen.insert(&named.name, i);
        }
        if named.url.is_empty() {
            report.at(format!("{path}.url"), "is required");
        }
        check_one(&path, &named.plain(), report);
    }
}

/// Not where every route names a backend, nor where the external service may.
fn needs_default(spec: &PolicySpec) -> bool {
    let external = &spec.rate_limit.external;
    if external.enabled && !(external.http.url.is_empty() && external.grpc.address.is_empty()) {
        return false;
    }
    spec.routes.is_empty() || spec.routes.iter().any(|route| route.backend.is_empty() || route.backend == DEFAULT)
}

fn check_one(path: &str, spec: &BackendSpec, report: &mut Report) {
    check_url(&format!("{path}.url"), &spec.url, report);
    let tls = &spec.tls;
    if tls.cert_file.is_empty() != tls.key_file.is_empty() {
        let message = format!("{path}.tls.cert_file and {path}.tls.key_file are required together");
        report.add(format!("{path}.tls"), message);
    }
    for (i, scheme) in spec.url_policy.allowed_schemes.iter().enumerate() {
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            report.at(format!("{path}.url_policy.allowed_schemes[{i}]"), "must be http or https");
        }
    }
    let transport = &spec.transport;
    for (field, value) in [("dial_timeout", transport.dial_timeout), ("dns_refresh", transport.dns_refresh)] {
        if value == GoDuration::ZERO {
            report.at(format!("{path}.transport.{field}"), "must be more than 0");
        }
    }
}

fn check_url(path: &str, text: &str, report: &mut Report) {
    if text.is_empty() {
        return;
    }
    let reason = match url::parse(text) {
        Err(error) => error.to_string(),
        Ok(found) if !found.query.is_empty() => "a query is not allowed, only a path prefix".to_owned(),
        Ok(found) if backend::prefix(found.path).is_none() => "the path is not valid".to_owned(),
        Ok(_) => return,
    };
    report.add(path, invalid_url(path, text, &reason));
}

/// A URL with user information is not repeated.
pub(super) fn invalid_url(path: &str, text: &str, reason: &str) -> String {
    if text.contains('@') || text.contains('?') {
        format!("invalid {path}: {reason}")
    } else {
        format!("invalid {path} {}: {reason}", shown(text))
    }
}

/// The URL of a service that is asked or told: like a backend's, but http or https only, and a query may stand in it.
pub(super) fn check_service_url(path: &str, text: &str, report: &mut Report) {
    if text.is_empty() {
        return;
    }
    let reason = match url::parse(text) {
        Ok(found) if matches!(found.scheme, "http" | "https") => return,
        Ok(_) | Err(UrlError::Scheme) => "the scheme must be http or https".to_owned(),
        Err(error) => error.to_string(),
    };
    report.add(path, invalid_url(path, text, &reason));
}
