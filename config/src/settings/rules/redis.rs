//! `redis` and `cache_redis`.

use super::{Rules, address};
use crate::{
    problems::shown,
    settings::{Redis, RedisMode},
};

pub(super) fn check(rules: &mut Rules<'_>, block: &str, redis: &Redis) {
    for (i, endpoint) in redis.endpoints.iter().enumerate() {
        if !address::is_endpoint(endpoint) {
            // What stands before an `@` may be a password, in a URL (which `shown` knows) and elsewhere.
            let address = endpoint.rsplit_once('@').filter(|(before, _)| !before.contains("://"));
            let address = address.map(|(_, address)| format!("[REDACTED]@{address}"));
            let written = shown(address.as_ref().unwrap_or(endpoint));
            let message = format!("invalid {block}.endpoints {written}: host:port is expected");
            rules.add(format!("{block}.endpoints[{i}]"), message);
        }
    }
    topology(rules, block, redis);
    rules.one_secret(&format!("{block}.password"), &redis.password, &redis.password_file);
    rules.one_secret(&format!("{block}.sentinel_password"), &redis.sentinel_password, &redis.sentinel_password_file);
    rules.positive(format!("{block}.dial_timeout"), redis.dial_timeout);
    rules.positive(format!("{block}.deadline"), redis.deadline);
    rules.both_or_none(&format!("{block}.tls"), &redis.tls.cert_file, &redis.tls.key_file);
    if let Some(tls) = &redis.sentinel_tls {
        rules.both_or_none(&format!("{block}.sentinel_tls"), &tls.cert_file, &tls.key_file);
    }
}

fn topology(rules: &mut Rules<'_>, block: &str, redis: &Redis) {
    if rules.bad.covers(&format!("{block}.mode")) {
        return;
    }
    let endpoints = format!("{block}.endpoints");
    let count = redis.endpoints.len();
    match redis.mode {
        RedisMode::Single if count != 1 => rules.add(endpoints, "single mode requires exactly one endpoint"),
        RedisMode::Replication if count < 2 => rules.add(endpoints, "replication mode requires at least 2 endpoints"),
        RedisMode::Sentinel if count == 0 => rules.add(endpoints, "sentinel mode requires at least 1 endpoint"),
        RedisMode::Cluster if count == 0 => rules.add(endpoints, "cluster mode requires at least 1 endpoint"),
        _ => {}
    }
    if redis.mode == RedisMode::Sentinel && redis.master_name.is_empty() {
        rules.add(format!("{block}.master_name"), format!("{block}.master_name is required for sentinel mode"));
    }
    if redis.mode == RedisMode::Cluster && redis.db != 0 {
        rules.add(format!("{block}.db"), format!("{block}.db must be 0 in cluster mode"));
    }
    if redis.mode == RedisMode::Embedded && block != "redis" {
        rules.add(
            format!("{block}.mode"),
            format!("invalid {block}.mode \"embedded\": only redis.mode may be embedded"),
        );
    }
}
