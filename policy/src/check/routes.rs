//! `routes`.

use std::collections::{HashMap, HashSet};

use super::{Report, header_name, limits::check_limit, shown};
use crate::{
    PolicySpec,
    route::{
        condition, overlap,
        pattern::{HostKey, MOST_REGEX_BYTES, PathKey},
        regexes,
    },
    spec::{DEFAULT, HeaderMatchSpec, MatchSpec, RouteSpec},
};

/// More patterns than this are refused.
const MOST_REGEXES: usize = 1_000;

pub(super) fn check(spec: &PolicySpec, report: &mut Report) {
    let backends: HashSet<&str> = spec.backends.iter().map(|named| named.name.as_str()).collect();
    let mut names: HashMap<&str, usize> = HashMap::with_capacity(spec.routes.len());
    for (i, route) in spec.routes.iter().enumerate() {
        let path = format!("routes[{i}]");
        report.name(format!("{path}.name"), &route.name);
        if let Some(first) = names.get(route.name.as_str()) {
            let what = format_args!("{} is already the name of routes[{first}]", shown(&route.name));
            report.at(format!("{path}.name"), what);
        } else if !route.name.is_empty() {
            names.insert(&route.name, i);
        }
        if !route.backend.is_empty() && route.backend != DEFAULT && !backends.contains(route.backend.as_str()) {
            let near = report.nearest(&route.backend, backends.iter().copied());
            let message = format!("{path}.backend: unknown backend {}{near}", shown(&route.backend));
            report.add(format!("{path}.backend"), message);
        }
        check_match(&format!("{path}.match"), &route.r#match, report);
        check_limits(&path, route, spec, report);
    }
    check_regexes(spec, report);
    for (earlier, later) in overlap::find(&spec.routes) {
        let name = |i: usize| spec.routes.get(i).map_or("", |route| route.name.as_str());
        let message = format!(
            "routes[{later}].match: routes {:?} (routes[{earlier}]) and {:?} are equally specific and can both match a \
             request: make one of them more specific",
            name(earlier),
            name(later)
        );
        report.add(format!("routes[{later}].match"), message);
    }
}

fn check_limits(path: &str, route: &RouteSpec, spec: &PolicySpec, report: &mut Report) {
    if let Some(limit) = &route.rate_limit {
        check_limit(&format!("{path}.rate_limit"), limit, &spec.rate_limit, report);
    }
    for (j, limit) in route.limits.iter().enumerate() {
        let path = format!("{path}.limits[{j}]");
        report.name(format!("{path}.name"), &limit.name);
        if let Some(first) = route.limits.iter().take(j).position(|other| other.name == limit.name) {
            let what = format_args!("{} is already the name of limits[{first}] of this route", shown(&limit.name));
            report.at(format!("{path}.name"), what);
        }
        check_limit(&path, &limit.plain(), &spec.rate_limit, report);
    }
}

fn check_match(path: &str, spec: &MatchSpec, report: &mut Report) {
    for (i, host) in spec.hosts.iter().enumerate() {
        if let Err(what) = HostKey::parse(host) {
            report.add(format!("{path}.hosts[{i}]"), format!("invalid {path}.hosts[{i}] {}: {what}", shown(host)));
        }
    }
    let paths =
        [("path_exact", &spec.path_exact), ("path_prefix", &spec.path_prefix), ("path_regex", &spec.path_regex)];
    let written: Vec<&str> = paths.iter().filter(|(_, text)| !text.is_empty()).map(|(name, _)| *name).collect();
    if written.len() > 1 {
        let message = format!("{path}: {} exclude each other: keep one of them", written.join(" and "));
        report.add(path, message);
    }
    if let (Err(error), Some(field)) = (PathKey::of(spec), written.first()) {
        let text = paths.iter().find(|(name, _)| name == field).map_or("", |(_, text)| text);
        report.add(format!("{path}.{field}"), format!("invalid {path}.{field} {}: {error}", shown(text)));
    }
    for (i, method) in spec.methods.iter().enumerate() {
        if condition::method(method).is_none() {
            report.at(format!("{path}.methods[{i}]"), "must be a method such as GET");
        }
    }
    for (i, header) in spec.headers.iter().enumerate() {
        check_header(&format!("{path}.headers[{i}]"), header, report);
    }
}

fn check_header(path: &str, header: &HeaderMatchSpec, report: &mut Report) {
    if header.name.is_empty() {
        report.at(format!("{path}.name"), "is required");
    } else if let Err(what) = header_name(&header.name) {
        report.at(format!("{path}.name"), what);
    }
    match (&header.exact, header.present) {
        (None, None) | (Some(_), Some(_)) => {
            report.add(path, format!("{path}: exactly one of exact and present is required"))
        }
        (Some(value), None) if http::HeaderValue::from_str(value).is_err() => {
            report.at(format!("{path}.exact"), "must be a header value");
        }
        _ => {}
    }
}

fn check_regexes(spec: &PolicySpec, report: &mut Report) {
    let patterns = spec.routes.iter().enumerate().filter_map(|(i, route)| {
        let pattern = route.r#match.path_regex.as_str();
        (!pattern.is_empty()).then_some((i, pattern))
    });
    let mut count = 0;
    let mut checked: HashSet<&str> = HashSet::new();
    for (i, pattern) in patterns {
        count += 1;
        if count > MOST_REGEXES || !checked.insert(pattern) {
            continue;
        }
        let problem = if pattern.len() > MOST_REGEX_BYTES {
            Some(format!("at most {MOST_REGEX_BYTES} bytes"))
        } else {
            regexes::problem(pattern)
        };
        if let Some(problem) = problem {
            let path = format!("routes[{i}].match.path_regex");
            let message = format!("invalid {path} {}: {problem}", shown(pattern));
            report.add(path, message);
        }
    }
    if count > MOST_REGEXES {
        let message = format!("routes: {count} routes have a path_regex, at most {MOST_REGEXES} may: use path_prefix");
        report.add("routes", message);
    }
}
