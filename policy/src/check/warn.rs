//! What is allowed, and still worth a warning.

use std::{collections::HashMap, net::IpAddr};

use super::Report;
use crate::{
    PolicySpec, Problem,
    spec::{DEFAULT, KeyType, LimitMode, LimitValues, further_name},
};

pub(crate) fn warnings(spec: &PolicySpec) -> Vec<Problem> {
    let mut report = Report::default();
    const DEPTH: &str =
        "-1 takes the leftmost X-Forwarded-For entry, which any client can write: use 0, or the number of proxies";
    let base = &spec.rate_limit;
    if base.key_strategy.trusted_ip_depth == -1 {
        report.at("rate_limit.key_strategy.trusted_ip_depth", DEPTH);
    }
    for (i, route) in spec.routes.iter().enumerate() {
        let own = route.rate_limit.iter().map(|limit| (format!("routes[{i}].rate_limit"), &limit.key_strategy));
        let further = route.limits.iter().enumerate();
        let further = further.map(|(j, limit)| (format!("routes[{i}].limits[{j}]"), &limit.key_strategy));
        for (path, key) in own.chain(further) {
            // Inherited ones are written out in a resolved spec, and warned of once.
            if key.trusted_ip_depth == Some(-1) && base.key_strategy.trusted_ip_depth != -1 {
                report.at(format!("{path}.key_strategy.trusted_ip_depth"), DEPTH);
            }
        }
    }
    if !spec.events.http.auth_token.is_empty() {
        let what = "is deprecated: set events.http.headers, for example { Authorization: { env: NAME } }";
        report.at("events.http.auth_token", what);
    }
    if base.average == 0 && base.mode == LimitMode::Shadow {
        report.at("rate_limit.mode", "is shadow, but rate_limit.average is 0: there is no limit to watch");
    }
    keys_that_are_no_addresses(spec, &mut report);
    report.problems
}

/// An override for a limit that counts by address, whose key can never be a subject.
fn keys_that_are_no_addresses(spec: &PolicySpec, report: &mut Report) {
    if spec.overrides.is_empty() {
        return;
    }
    let base = &spec.rate_limit;
    let mut by_address = HashMap::from([(DEFAULT.to_owned(), base.key_strategy.r#type == KeyType::ClientIp)]);
    for route in &spec.routes {
        if let Some(limit) = &route.rate_limit {
            let key = LimitValues::of(limit, base).key;
            by_address.insert(route.name.clone(), key.r#type == KeyType::ClientIp);
        }
        for limit in &route.limits {
            let key = LimitValues::of(&limit.plain(), base).key;
            by_address.insert(further_name(&route.name, &limit.name), key.r#type == KeyType::ClientIp);
        }
    }
    for (i, over) in spec.overrides.iter().enumerate() {
        if !by_address.get(&over.limit).copied().unwrap_or(false) {
            continue;
        }
        let is_address = |key: &String| key.split('/').next().is_some_and(|host| host.trim().parse::<IpAddr>().is_ok());
        if let Some(j) = over.keys.iter().position(|key| !is_address(key)) {
            let what =
                format_args!("is no address, but limit {:?} counts by client address: it will never match", over.limit);
            report.at(format!("overrides[{i}].keys[{j}]"), what);
        }
    }
}
