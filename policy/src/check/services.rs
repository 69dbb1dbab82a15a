//! `auth`, `events` and `rate_limit.external`.

use super::{Report, backends::check_service_url, header_name};
use crate::{
    GoDuration, PolicySpec,
    spec::{CircuitBreakerSpec, EventsSpec, HeaderFilterSpec, Secret},
};

pub(super) fn check(spec: &PolicySpec, report: &mut Report) {
    let external = &spec.rate_limit.external;
    let path = "rate_limit.external";
    endpoints(path, &external.http.url, &external.grpc.address, report);
    if external.enabled {
        if external.http.url.is_empty() && external.grpc.address.is_empty() {
            report.add(path, "rate_limit.external requires http.url or grpc.address");
        }
        report.at_least(path, "max_concurrent_requests", external.max_concurrent_requests, 1);
        breaker(path, &external.circuit_breaker, report);
    }
    filter(path, &external.header_filter, report);

    let auth = &spec.auth;
    endpoints("auth", &auth.http.url, &auth.grpc.address, report);
    if auth.enabled {
        if auth.http.url.is_empty() && auth.grpc.address.is_empty() {
            report.add("auth", "auth.http.url or auth.grpc.address is required");
        }
        breaker("auth", &auth.circuit_breaker, report);
    }
    names("auth.allowed_injection_headers", &auth.allowed_injection_headers, report);
    filter("auth", &auth.header_filter, report);

    events(&spec.events, report);
}

/// Headers that a post of events needs for itself, or that belong to the connection.
const RESTRICTED: [&str; 11] = [
    "Host",
    "Content-Type",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Te",
    "Upgrade",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Keep-Alive",
    "Trailer",
];

fn events(events: &EventsSpec, report: &mut Report) {
    endpoints("events", &events.http.url, &events.grpc.address, report);
    if events.enabled {
        if events.http.url.is_empty() && events.grpc.address.is_empty() {
            report.add("events", "events.http.url or events.grpc.address is required");
        }
        report.at_least("events", "batch_size", events.batch_size, 1);
        report.at_least("events", "buffer_size", events.buffer_size, 1);
        if events.flush_interval == GoDuration::ZERO {
            report.at("events.flush_interval", "must be more than 0");
        }
    }
    let http = &events.http;
    for (name, value) in &http.headers {
        let path = format!("events.http.headers.{name}");
        restricted(&path, "events.http.headers", name, report);
        if value.literal().is_some_and(|text| http::HeaderValue::from_str(text).is_err()) {
            report.at(&path, "must be a header value");
        }
        reference(&path, value, report);
    }
    if !http.auth_token.is_empty() {
        restricted("events.http.auth_header", "events.http.auth_header", &http.auth_header, report);
        reference("events.http.auth_token", &http.auth_token, report);
    }
    filter("events", &events.header_filter, report);
}

fn restricted(path: &str, setting: &str, name: &str, report: &mut Report) {
    if RESTRICTED.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        report.add(path, format!("{setting}: {name:?} is a restricted header and cannot be set"));
    } else if header_name(name).is_err() {
        report.add(path, format!("{setting}: {name:?} is no header name"));
    }
}

fn reference(path: &str, secret: &Secret, report: &mut Report) {
    let empty = match secret {
        Secret::Literal(_) => false,
        Secret::Env(name) | Secret::File(name) => name.is_empty(),
    };
    if empty {
        report.at(path, "must name an environment variable or a file");
    }
}

fn endpoints(path: &str, url: &str, address: &str, report: &mut Report) {
    check_service_url(&format!("{path}.http.url"), url, report);
    if !address.is_empty() && !is_host_port(address) {
        report.at(format!("{path}.grpc.address"), "must be host:port");
    }
    if !url.is_empty() && !address.is_empty() {
        report.add(path, format!("{path}.http.url and {path}.grpc.address exclude each other: keep one of them"));
    }
}

fn is_host_port(address: &str) -> bool {
    // A scheme is what gRPC targets of other languages begin with (dns:///...); it has no meaning here.
    let url = format!("http://{address}");
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    has_port && crate::backend::url::parse(&url).is_ok_and(|found| found.path.is_empty() && found.query.is_empty())
}

fn breaker(path: &str, breaker: &CircuitBreakerSpec, report: &mut Report) {
    report.at_least(path, "circuit_breaker.threshold", breaker.threshold, 1);
}

fn filter(path: &str, filter: &HeaderFilterSpec, report: &mut Report) {
    names(&format!("{path}.header_filter.allow_list"), &filter.allow_list, report);
    names(&format!("{path}.header_filter.deny_list"), &filter.deny_list, report);
}

fn names(path: &str, list: &[String], report: &mut Report) {
    for (i, name) in list.iter().enumerate() {
        if let Err(what) = header_name(name) {
            report.at(format!("{path}[{i}]"), what);
        }
    }
}
