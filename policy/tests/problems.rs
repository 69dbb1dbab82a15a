//! Every refusal of a policy, with its words and its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use edgequota_policy::{Policy, PolicySpec};
use serde_json::{Value, json};

/// A policy that is fine, with some values replaced.
fn with(pairs: &[(&str, Value)]) -> PolicySpec {
    let mut value = json!({ "backend": { "url": "http://b" }, "rate_limit": { "average": 10 } });
    for (path, new) in pairs {
        let mut place = &mut value;
        for key in path.split('.') {
            place = &mut place[key];
        }
        *place = new.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn found(pairs: &[(&str, Value)]) -> Vec<(String, String)> {
    with(pairs).problems().into_iter().map(|p| (p.path, p.message)).collect()
}

#[track_caller]
fn refused(path: &str, value: Value, place: &str, message: &str) {
    assert_eq!(found(&[(path, value)]), [(place.to_owned(), message.to_owned())]);
}

#[test]
fn a_plain_policy_has_no_problems() {
    assert_eq!(found(&[]), []);
    assert!(Policy::compile(&with(&[]).resolved()).is_ok());
}

#[test]
fn the_backend_url() {
    refused("backend.url", json!(""), "backend.url", "backend.url is required");
    for (url, reason) in [
        ("b:8080", "scheme and host are required"),
        ("http://", "scheme and host are required"),
        ("ftp://b", "the scheme must be http, https, ws or wss"),
        ("http://b:70000", "the port must be a number from 1 to 65535"),
        ("http://b/%2f", "the path is not valid"),
    ] {
        refused("backend.url", json!(url), "backend.url", &format!("invalid backend.url {url:?}: {reason}"));
    }
    let found = found(&[("backend.url", json!("http://user:hunter2@b"))]);
    assert!(found[0].1.starts_with("invalid backend.url: user information"), "{found:?}");
    assert!(!format!("{found:?}").contains("hunter2"));
}

#[test]
fn a_default_backend_is_needed_unless_every_route_names_one() {
    let backends = ("backends", json!([{ "name": "s", "url": "http://s" }]));
    let all = json!([{ "name": "r", "backend": "s" }]);
    assert_eq!(found(&[("backend.url", json!("")), backends.clone(), ("routes", all)]), []);
    let some = json!([{ "name": "r", "match": { "path_exact": "/" }, "backend": "s" }, { "name": "q" }]);
    let problems = found(&[("backend.url", json!("")), backends, ("routes", some)]);
    assert_eq!(problems[0].1, "backend.url is required");
    let external = json!({ "enabled": true, "http": { "url": "http://limits" } });
    assert_eq!(found(&[("backend.url", json!("")), ("rate_limit.external", external)]), []);
}

#[test]
fn further_backends() {
    let backends = json!([
        { "name": "default", "url": "http://a" },
        { "url": "http://a" },
        { "name": "x" },
        { "name": "x", "url": "http://a", "tls": { "cert_file": "/c" }, "transport": { "dial_timeout": "0s", "dns_refresh": "0s" } },
        { "name": "y", "url": "http://a", "url_policy": { "allowed_schemes": ["HTTPS", "ftp"] } }
    ]);
    let messages: Vec<String> = found(&[("backends", backends)]).into_iter().map(|(_, message)| message).collect();
    assert_eq!(
        messages,
        [
            "backends[0].name cannot be \"default\": that name is taken",
            "backends[1].name is required",
            "backends[2].url is required",
            "backends[3].name \"x\" is already the name of backends[2]",
            "backends[3].tls.cert_file and backends[3].tls.key_file are required together",
            "backends[3].transport.dial_timeout must be more than 0",
            "backends[3].transport.dns_refresh must be more than 0",
            "backends[4].url_policy.allowed_schemes[1] must be http or https",
        ]
    );
}

#[test]
fn the_default_limit() {
    refused("rate_limit.average", json!(-1), "rate_limit.average", "rate_limit.average must be >= 0");
    refused("rate_limit.period", json!("0s"), "rate_limit.period", "rate_limit.period must be more than 0");
    for code in [399, 600, -1, 70_000] {
        let message = format!("invalid rate_limit.failure_code {code}: must be 400 to 599");
        refused("rate_limit.failure_code", json!(code), "rate_limit.failure_code", &message);
    }
    let message = "rate_limit.key_prefix must be at most 64 of A-Z a-z 0-9 . _ - :";
    refused("rate_limit.key_prefix", json!("a{b"), "rate_limit.key_prefix", message);
    let numbers =
        found(&[("rate_limit.average", json!(999_999_937)), ("rate_limit.burst", json!(9_999_999_999_999_999_i64))]);
    assert!(
        numbers[0]
            .1
            .starts_with("rate_limit: 999999937 per 1s with a burst of 9999999999999999 cannot be counted exactly")
    );
    assert_eq!(found(&[("rate_limit.burst", json!(-5))]), []);
}

#[test]
fn a_cost_is_at_least_one_and_fits_into_its_burst() {
    for cost in [0, -3] {
        let message =
            "rate_limit.cost must be at least 1, the tokens that one request takes; for no limit set mode: disabled";
        refused("rate_limit.cost", json!(cost), "rate_limit.cost", message);
    }
    let message =
        "rate_limit.cost is 2, more than rate_limit.burst (1): no request could ever pass; lower cost or raise burst";
    refused("rate_limit.cost", json!(2), "rate_limit.cost", message);
    assert_eq!(found(&[("rate_limit.cost", json!(5)), ("rate_limit.burst", json!(5))]), []);
    assert_eq!(found(&[("rate_limit.cost", json!(5)), ("rate_limit.average", json!(0))]), [], "nothing is counted");

    let routes = json!([{
        "name": "r",
        "rate_limit": { "average": 10, "burst": 4, "cost": 5 },
        "limits": [{ "name": "a", "average": 4, "cost": 5 }, { "name": "b", "average": 4, "cost": 0 },
                   { "name": "c", "average": 1, "burst": 5, "cost": 5 }]
    }]);
    assert_eq!(
        found(&[("routes", routes)]).into_iter().map(|(_, message)| message).collect::<Vec<_>>(),
        [
            "routes[0].rate_limit.cost is 5, more than routes[0].rate_limit.burst (4): no request could ever pass; lower cost or raise burst",
            "routes[0].limits[0].cost is 5, more than routes[0].limits[0].burst (4, which is average where it is left out): no request could ever pass; lower cost or raise burst",
            "routes[0].limits[1].cost must be at least 1, the tokens that one request takes; for no limit set mode: disabled",
        ]
    );
}

#[test]
fn an_override_has_room_for_the_cost_that_it_inherits() {
    let routes = json!([{ "name": "r", "limits": [{ "name": "a", "average": 9, "cost": 5 }] }]);
    let overrides = json!([
        { "keys": ["10.0.0.1"], "limit": "r/a", "burst": 4 },
        { "keys": ["10.0.0.2"], "limit": "r/a", "average": 2 },
        { "keys": ["10.0.0.3"], "limit": "r/a", "burst": 5 },
        { "keys": ["10.0.0.4"], "limit": "r/a", "block": true },
        { "keys": ["10.0.0.5"], "limit": "default", "burst": 1 },
    ]);
    let message = "overrides[0].burst is 4, less than routes[0].limits[0].cost (5), which overrides of limit \"r/a\" \
                   inherit: no request of these subjects could ever pass; raise burst or lower cost, or set block: \
                   true to refuse them";
    let problems = found(&[("routes", routes), ("overrides", overrides)]);
    assert_eq!(problems, [("overrides[0].burst".to_owned(), message.to_owned())]);
    let unknown = json!([{ "keys": ["10.0.0.1"], "cost": 5 }]);
    assert!(
        serde_json::from_value::<PolicySpec>(json!({ "overrides": unknown })).is_err(),
        "it has no cost of its own"
    );
}

#[test]
fn key_strategies() {
    let place = "rate_limit.key_strategy";
    for kind in ["header", "Composite"] {
        let (_, message) = found(&[(place, json!({ "type": kind }))]).remove(0);
        assert!(message.contains("header_name is required"), "{message}");
    }
    let key = json!({
        "type": "header", "header_name": "a b", "trusted_proxies": ["10.0.0.1", "fd00::/8", "10.0.0.0/33", "proxy"],
        "trusted_ip_depth": -2, "ipv6_prefix": 0, "missing_code": 200
    });
    let found = found(&[(place, key)]);
    assert_eq!(
        found.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>(),
        [
            "rate_limit.key_strategy.header_name must be a header name",
            "rate_limit.key_strategy.trusted_proxies[2]: invalid trusted_proxies CIDR \"10.0.0.0/33\": write 10.0.0.0/8 or 10.0.0.1",
            "rate_limit.key_strategy.trusted_proxies[3]: invalid trusted_proxies CIDR \"proxy\": write 10.0.0.0/8 or 10.0.0.1",
            "rate_limit.key_strategy.trusted_ip_depth must be -1 to 1000",
            "rate_limit.key_strategy.ipv6_prefix must be 1 to 128",
            "invalid rate_limit.key_strategy.missing_code 200: must be 400 to 599",
        ]
    );
    assert_eq!(found[1].0, "rate_limit.key_strategy.trusted_proxies[2]");
}

#[test]
fn limits_of_routes() {
    let routes = json!([{
        "name": "r",
        "rate_limit": { "average": 0 },
        "limits": [
            { "name": "a", "burst": 5 },
            { "name": "a", "average": 5, "burst": 0 },
            { "name": "b", "average": 5, "failure_code": 200, "key_strategy": { "type": "header" } },
            { "name": "c", "mode": "disabled" },
            { "name": "d", "average": 5, "period": "0" },
            { "average": 1, "period": "3h" }
        ]
    }]);
    let messages: Vec<String> = found(&[("routes", routes)]).into_iter().map(|(_, message)| message).collect();
    assert_eq!(
        messages,
        [
            "routes[0].rate_limit.average must be at least 1; for no limit set mode: disabled, to refuse subjects use an override with block: true",
            "routes[0].limits[0].average is required (mode: disabled for no limit)",
            "routes[0].limits[1].name \"a\" is already the name of limits[0] of this route",
            "routes[0].limits[1].burst must be at least 1",
            "invalid routes[0].limits[2].failure_code 200: must be 400 to 599",
            "routes[0].limits[2].key_strategy.header_name is required with type header: header_name is required",
            "routes[0].limits[4].period must be more than 0",
            "routes[0].limits[5].name is required",
        ]
    );
}

#[test]
fn overrides() {
    let routes =
        json!([{ "name": "search", "rate_limit": { "average": 20 }, "limits": [{ "name": "per-day", "average": 5 }] }]);
    let overrides = json!([
        { "keys": [], "average": 5 },
        { "keys": ["a", ""], "average": 5 },
        { "keys": ["b"], "limit": "search/perday", "average": 5 },
        { "keys": ["c"], "limit": "search", "average": 0 },
        { "keys": ["d"], "limit": "search", "burst": 0 },
        { "keys": ["e"], "limit": "search", "block": true, "burst": 7 },
        { "keys": ["f"], "limit": "search/per-day" },
        { "keys": ["g", "a"], "average": 7 },
        { "keys": ["a"], "limit": "search", "average": 7 },
        { "keys": ["h"], "burst": 1_000_000_000_000_i64 },
        { "keys": ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::2"], "limit": "search", "average": 1, "period": "1m" }
    ]);
    let found = found(&[("routes", routes), ("overrides", overrides)]);
    let messages: Vec<&str> = found.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "overrides[0].keys is required",
            "overrides[1].keys[1] must not be empty",
            "overrides[2].limit: unknown limit \"search/perday\", did you mean \"search/per-day\"?",
            "overrides[3].average must be at least 1; for no limit set mode: disabled, to refuse subjects use an override with block: true",
            "overrides[4].burst must be at least 1; to refuse these subjects set block: true",
            "overrides[5]: block: true and numbers exclude each other",
            "overrides[6]: at least one of average, burst, period and block is required",
            "overrides[7].keys[1] has an override for limit \"default\" already, at overrides[1].keys[0]",
            "overrides[9]: 10 per 1s needs more than 5 years to refill a burst of 1000000000000: raise average or lower burst",
            "overrides[10].keys[1] has an override for limit \"search\" already, at overrides[10].keys[0]",
            "overrides[10].keys[3] has an override for limit \"search\" already, at overrides[10].keys[2]",
        ]
    );
}

#[test]
fn an_override_for_a_route_without_a_limit_of_its_own_is_told_so() {
    let routes = ("routes", json!([{ "name": "r" }]));
    let problems = found(&[routes, ("overrides", json!([{ "keys": ["a"], "limit": "r", "average": 1 }]))]);
    let message = "overrides[0].limit: unknown limit \"r\": this route has no rate_limit of its own, so the default limit applies to it";
    assert_eq!(problems, [("overrides[0].limit".to_owned(), message.to_owned())]);
}

#[test]
fn an_override_of_a_limit_that_is_off_is_not_ignored_in_silence() {
    let overrides = json!([{ "keys": ["10.0.0.1"], "block": true }]);
    let problems = found(&[("rate_limit.average", json!(0)), ("overrides", overrides.clone())]);
    assert_eq!(problems[0].0, "overrides[0].limit");
    assert!(problems[0].1.contains("rate_limit.average is 0"), "{problems:?}");
    let off = [("rate_limit.average", json!(0)), ("rate_limit.mode", json!("disabled")), ("overrides", overrides)];
    assert_eq!(found(&off), []);
    assert!(Policy::compile(&with(&off)).is_ok());
}

#[test]
fn services() {
    refused("auth.enabled", json!(true), "auth", "auth.http.url or auth.grpc.address is required");
    refused("events.enabled", json!(true), "events", "events.http.url or events.grpc.address is required");
    let message = "rate_limit.external requires http.url or grpc.address";
    refused("rate_limit.external.enabled", json!(true), "rate_limit.external", message);
    let both = json!({ "enabled": true, "http": { "url": "http://a" }, "grpc": { "address": "a:1" } });
    let message = "auth.http.url and auth.grpc.address exclude each other: keep one of them";
    refused("auth", both, "auth", message);
    refused("auth.grpc.address", json!("http://a"), "auth.grpc.address", "auth.grpc.address must be host:port");
    refused("auth.grpc.address", json!("a"), "auth.grpc.address", "auth.grpc.address must be host:port");
    let message = "invalid events.http.url \"wss://a\": the scheme must be http or https";
    refused("events.http.url", json!("wss://a"), "events.http.url", message);
    let breaker = json!({ "enabled": true, "http": { "url": "http://a" }, "circuit_breaker": { "threshold": 0 } });
    let message = "auth.circuit_breaker.threshold must be at least 1";
    refused("auth", breaker, "auth.circuit_breaker.threshold", message);
    let message = "auth.header_filter.deny_list[0] must be a header name";
    refused("auth.header_filter.deny_list", json!(["a b"]), "auth.header_filter.deny_list[0]", message);
}

#[test]
fn restricted_event_headers() {
    for name in [
        "Host",
        "content-type",
        "Content-Length",
        "TRANSFER-ENCODING",
        "Connection",
        "Te",
        "Upgrade",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Keep-Alive",
        "Trailer",
    ] {
        let place = format!("events.http.headers.{name}");
        let message = format!("events.http.headers: {name:?} is a restricted header and cannot be set");
        refused("events.http.headers", json!({ name: "x" }), &place, &message);
    }
    let secret = json!({ "X-Token": "hunter2\n" });
    let found = found(&[("events.http.headers", secret)]);
    assert_eq!(found[0].1, "events.http.headers.X-Token must be a header value");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let found = found(&[
        ("backend.url", json!("")),
        ("rate_limit.average", json!(-1)),
        ("routes", json!([{ "name": "default" }])),
        ("overrides", json!([{ "keys": ["a"], "limit": "x", "average": 1 }])),
        ("auth.enabled", json!(true)),
    ]);
    let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["backend.url", "rate_limit.average", "routes[0].name", "overrides[0].limit", "auth"]);
}

#[test]
fn what_is_not_built_does_not_compile() {
    let breaker = json!({ "enabled": true, "http": { "url": "http://a" } });
    let spec = with(&[("auth", breaker)]);
    assert_eq!(spec.problems(), []);
    let problems = Policy::compile(&spec).unwrap_err();
    assert!(problems[0].message.contains("not built yet"), "{problems:?}");
}

#[test]
fn warnings_name_what_is_risky() {
    let spec = with(&[
        ("rate_limit.key_strategy.trusted_ip_depth", json!(-1)),
        ("events.http.auth_token", json!("hunter2")),
        ("overrides", json!([{ "keys": ["10.0.0.1", "2001:db8::/64", "acme"], "average": 1 }])),
    ]);
    let warnings = spec.warnings();
    let places: Vec<&str> = warnings.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(places, ["rate_limit.key_strategy.trusted_ip_depth", "events.http.auth_token", "overrides[0].keys[2]"]);
    assert!(!format!("{warnings:?}").contains("hunter2"));
    assert_eq!(with(&[]).warnings(), []);
}
