//! The default limit, and what all limits have in common.

use super::{Report, header_name, shown};
use crate::{
    GoDuration,
    limit::{numbers, parse_net},
    spec::{KeyPatchSpec, KeyStrategySpec, KeyType, LimitMode, LimitSpec, LimitValues, RateLimitSpec},
};

pub(super) fn check_default(limit: &RateLimitSpec, report: &mut Report) {
    let path = "rate_limit";
    if limit.average < 0 {
        report.at("rate_limit.average", "must be >= 0");
    } else if limit.average > 0 {
        check_numbers(path, limit.average, limit.burst.max(1), limit.period, report);
    }
    let burst = (limit.average > 0).then_some(limit.burst.max(1));
    check_cost(path, limit.cost, burst, "", report);
    report.code("rate_limit.failure_code".into(), limit.failure_code);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
    let prefix = &limit.key_prefix;
    if prefix.len() > 64 || !prefix.bytes().all(allowed) {
        report.at("rate_limit.key_prefix", "must be at most 64 of A-Z a-z 0-9 . _ - :");
    } else if prefix == "extcache" || prefix.starts_with("extcache:") {
        report.at("rate_limit.key_prefix", "cannot be \"extcache\": answers of the external service are kept there");
    }
    check_key("rate_limit.key_strategy", &limit.key_strategy, report);
}

/// A limit of a route.
pub(super) fn check_limit(path: &str, limit: &LimitSpec, base: &RateLimitSpec, report: &mut Report) {
    let values = LimitValues::of(limit, base);
    if limit.mode == LimitMode::Disabled && limit.average.is_none() {
        // Nothing to count.
    } else if limit.average.is_none() {
        report.at(format!("{path}.average"), "is required (mode: disabled for no limit)");
    } else if values.average < 1 {
        report.at(format!("{path}.average"), NOT_ZERO);
    } else if values.burst < 1 {
        report.at(format!("{path}.burst"), "must be at least 1");
    } else {
        check_numbers(path, values.average, values.burst, values.period, report);
    }
    let counted = values.average >= 1 && values.burst >= 1;
    let inherited = if limit.burst.is_none() { ", which is average where it is left out" } else { "" };
    check_cost(path, limit.cost, counted.then_some(values.burst), inherited, report);
    if let Some(code) = limit.failure_code {
        report.code(format!("{path}.failure_code"), code);
    }
    // What is wrong with the default limit's strategy is said there.
    if limit.key_strategy != KeyPatchSpec::default() {
        check_key(&format!("{path}.key_strategy"), &values.key, report);
    }
}

pub(super) const NOT_ZERO: &str =
    "must be at least 1; for no limit set mode: disabled, to refuse subjects use an override with block: true";

pub(super) fn check_numbers(path: &str, average: i64, burst: i64, period: GoDuration, report: &mut Report) {
    if period == GoDuration::ZERO {
        report.at(format!("{path}.period"), "must be more than 0");
    } else if let Err(error) = numbers(average, burst, period) {
        report.add(path, format!("{path}: {error}"));
    }
}

/// `burst`: None where nothing is counted, or where it is wrong itself.
fn check_cost(path: &str, cost: i64, burst: Option<i64>, inherited: &str, report: &mut Report) {
    if cost < 1 {
        let what = "must be at least 1, the tokens that one request takes; for no limit set mode: disabled";
        report.at(format!("{path}.cost"), what);
    } else if let Some(burst) = burst.filter(|burst| cost > *burst) {
        let what = format_args!(
            "is {cost}, more than {path}.burst ({burst}{inherited}): no request could ever pass; lower cost or raise burst"
        );
        report.at(format!("{path}.cost"), what);
    }
}

fn check_key(path: &str, key: &KeyStrategySpec, report: &mut Report) {
    if matches!(key.r#type, KeyType::Header | KeyType::Composite) {
        let place = format!("{path}.header_name");
        if key.header_name.is_empty() {
            report.at(place, format_args!("is required with type {}: header_name is required", key.r#type));
        } else if let Err(what) = header_name(&key.header_name) {
            report.at(place, what);
        }
    }
    if key.r#type == KeyType::Global && (key.global_key.is_empty() || key.global_key.len() > 256) {
        report.at(format!("{path}.global_key"), "must be 1 to 256 bytes");
    }
    for (i, text) in key.trusted_proxies.iter().enumerate() {
        if parse_net(text).is_none() {
            let place = format!("{path}.trusted_proxies[{i}]");
            let message =
                format!("{place}: invalid trusted_proxies CIDR {}: write 10.0.0.0/8 or 10.0.0.1", shown(text));
            report.add(place, message);
        }
    }
    if !(-1..=1_000).contains(&key.trusted_ip_depth) {
        report.at(format!("{path}.trusted_ip_depth"), "must be -1 to 1000");
    }
    if !(1..=128).contains(&key.ipv6_prefix) {
        report.at(format!("{path}.ipv6_prefix"), "must be 1 to 128");
    }
    report.code(format!("{path}.missing_code"), key.missing_code);
}
