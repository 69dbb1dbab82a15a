//! Which limits apply to a request, to whom they count it, with which numbers, and where the counter stands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use edgequota_policy::{
    Caller, Limit, Policy, PolicySpec, RequestView,
    limit::{FailurePolicy, HeaderStyle, KeyError, Mode, Subject},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use serde_json::{Value, json};

fn compiled(value: Value) -> Policy {
    let mut spec: PolicySpec = serde_json::from_value(value).unwrap();
    spec.backend.url = "http://b".into();
    Policy::compile(&spec.resolved()).unwrap()
}

fn default_limit(key_strategy: Value) -> Arc<Limit> {
    let policy = compiled(json!({ "rate_limit": { "average": 10, "key_strategy": key_strategy } }));
    policy.default_limit().unwrap().clone()
}

fn subject(limit: &Limit, peer: &str, path: &str, headers: &[(&str, &[u8])]) -> Result<Option<Subject>, KeyError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    let trusted: [IpNet; 1] = ["10.0.0.0/8".parse().unwrap()];
    let caller = Caller { peer: peer.parse().unwrap(), trusted_proxies: &trusted };
    limit.subject(&RequestView { method: &Method::GET, host: "h", path, headers: &map, caller })
}

fn raw(limit: &Limit, peer: &str, path: &str, headers: &[(&str, &[u8])]) -> String {
    subject(limit, peer, path, headers).unwrap().unwrap().raw
}

fn names(limits: &[Arc<Limit>]) -> Vec<&str> {
    limits.iter().map(|limit| &*limit.name).collect()
}

fn limits_at<'p>(policy: &'p Policy, path: &str) -> Vec<&'p str> {
    let caller = Caller { peer: "10.0.0.1".parse().unwrap(), trusted_proxies: &[] };
    let headers = HeaderMap::new();
    let request = RequestView { method: &Method::GET, host: "h", path, headers: &headers, caller };
    names(policy.route(&request).unwrap().limits)
}

#[test]
fn a_route_uses_the_default_limit_unless_it_has_its_own() {
    let policy = compiled(json!({
        "rate_limit": { "average": 10 },
        "routes": [
            { "name": "shared", "match": { "path_prefix": "/shared" }, "limits": [{ "name": "day", "average": 5 }] },
            { "name": "own", "match": { "path_prefix": "/own" }, "rate_limit": { "average": 5 },
              "limits": [{ "name": "b", "average": 5, "mode": "shadow" }, { "name": "a", "average": 5 }, { "name": "off", "mode": "disabled" }] },
            { "name": "none", "match": { "path_prefix": "/none" }, "rate_limit": { "mode": "disabled" } }
        ]
    }));
    assert_eq!(limits_at(&policy, "/"), ["default"]);
    assert_eq!(limits_at(&policy, "/shared"), ["default", "shared/day"]);
    assert_eq!(limits_at(&policy, "/own"), ["own", "own/b", "own/a"]);
    assert_eq!(limits_at(&policy, "/none"), [""; 0]);
    assert_eq!(names(policy.limits()), ["default", "shared/day", "own", "own/b", "own/a"]);
    assert_eq!(policy.limit("own/b").unwrap().mode, Mode::Shadow);
}

#[test]
fn an_average_of_zero_is_no_default_limit() {
    for rate_limit in [json!({}), json!({ "average": 0 }), json!({ "average": 5, "mode": "disabled" })] {
        let policy = compiled(json!({ "rate_limit": rate_limit }));
        assert!(policy.default_limit().is_none());
        assert_eq!(limits_at(&policy, "/"), [""; 0]);
    }
}

#[test]
fn a_limit_inherits_what_it_leaves_out() {
    let policy = compiled(json!({
        "rate_limit": { "average": 10, "burst": 3, "period": "1m", "mode": "shadow", "failure_policy": "failClosed",
            "failure_code": 503, "headers": "ietf", "min_ttl": "1h", "global_passthrough_rps": 7,
            "key_strategy": { "type": "header", "header_name": "X-T", "hash": true } },
        "routes": [{ "name": "r", "rate_limit": { "average": 20 },
            "limits": [{ "name": "l", "average": 5, "failure_policy": "inMemoryFallback", "key_strategy": { "header_name": "X-U" } }] }]
    }));
    let own = policy.limit("r").unwrap();
    assert_eq!((own.numbers.average, own.numbers.burst, own.numbers.period_us), (20, 20, 1_000_000));
    assert_eq!((own.mode, own.failure_policy, own.failure_code), (Mode::Enforce, FailurePolicy::FailClosed, 503));
    assert_eq!(
        (own.headers, own.min_ttl.unwrap().as_secs(), own.global_passthrough_rps),
        (HeaderStyle::Ietf, 3_600, Some(7))
    );
    let further = policy.limit("r/l").unwrap();
    assert_eq!(further.failure_policy, FailurePolicy::InMemoryFallback);
    let found = subject(further, "1.1.1.1", "/", &[("x-u", b"me"), ("x-t", b"not me")]).unwrap().unwrap();
    assert_eq!((found.raw.as_str(), found.secret), ("me", true));
}

#[test]
fn overrides_give_single_subjects_other_numbers() {
    let policy = compiled(json!({
        "rate_limit": { "average": 10, "burst": 30 },
        "overrides": [
            { "keys": ["10.0.0.1", "2001:db8::1"], "average": 1000 },
            { "keys": ["10.0.0.2"], "block": true },
            { "keys": ["10.0.0.3"], "burst": 5, "period": "1m" }
        ]
    }));
    let limit = policy.default_limit().unwrap();
    let seen = |peer: &str| {
        let found = limit.effective(&subject(limit, peer, "/", &[]).unwrap().unwrap());
        (found.numbers.average, found.numbers.burst, found.numbers.period_us, found.blocked, found.override_index)
    };
    assert_eq!(seen("10.0.0.1"), (1_000, 30, 1_000_000, false, Some(0)));
    assert_eq!(seen("2001:db8::ffff"), (1_000, 30, 1_000_000, false, Some(0)));
    assert_eq!(seen("10.0.0.2"), (10, 30, 1_000_000, true, Some(1)));
    assert_eq!(seen("10.0.0.3"), (10, 5, 60_000_000, false, Some(2)));
    assert_eq!(seen("10.0.0.4"), (10, 30, 1_000_000, false, None));
    assert_eq!(limit.overrides_len(), 4);
}

#[test]
fn client_addresses() {
    let limit = default_limit(json!({}));
    assert_eq!(raw(&limit, "1.2.3.4", "/", &[("x-forwarded-for", b"9.9.9.9")]), "1.2.3.4");
    assert_eq!(raw(&limit, "10.0.0.1", "/", &[("x-forwarded-for", b"9.9.9.9")]), "9.9.9.9");
    assert_eq!(raw(&limit, "::ffff:1.2.3.4", "/", &[]), "1.2.3.4");
    assert_eq!(raw(&limit, "2001:db8:1:2:3:4:5:6", "/", &[]), "2001:db8:1:2::/64");
    // A list of its own replaces the server's.
    let own = default_limit(json!({ "trusted_proxies": ["192.168.0.1"], "ipv6_prefix": 128 }));
    assert_eq!(raw(&own, "10.0.0.1", "/", &[("x-forwarded-for", b"9.9.9.9")]), "10.0.0.1");
    assert_eq!(raw(&own, "192.168.0.1", "/", &[("x-forwarded-for", b"2001:db8::9")]), "2001:db8::9");
    let leftmost = default_limit(json!({ "trusted_ip_depth": -1, "ipv6_prefix": 56 }));
    assert_eq!(
        raw(&leftmost, "10.0.0.1", "/", &[("x-forwarded-for", b"2001:db8:0:1ff::1, 9.9.9.9")]),
        "2001:db8:0:100::/56"
    );
}

#[test]
fn headers_as_keys() {
    let limit = default_limit(json!({ "type": "header", "header_name": "X-Tenant-Id" }));
    assert_eq!(raw(&limit, "1.1.1.1", "/", &[("x-tenant-id", b" acme ")]), "acme");
    assert_eq!(raw(&limit, "1.1.1.1", "/", &[("x-tenant-id", "caf\u{e9}".as_bytes())]), "caf\u{e9}");
    let header = String::from("x-tenant-id");
    let missing = Err(KeyError::Missing { header: header.clone(), code: 500 });
    assert_eq!(subject(&limit, "1.1.1.1", "/", &[]), missing);
    assert_eq!(subject(&limit, "1.1.1.1", "/", &[("x-tenant-id", b" ")]), missing);
    let twice: &[(&str, &[u8])] = &[("x-tenant-id", b"a"), ("x-tenant-id", b"a")];
    assert_eq!(subject(&limit, "1.1.1.1", "/", twice), Err(KeyError::Repeated { header: header.clone() }));
    assert_eq!(subject(&limit, "1.1.1.1", "/", &[("x-tenant-id", b"\xff")]), Err(KeyError::NotText { header }));

    let skip = default_limit(json!({ "type": "header", "header_name": "X-T", "on_missing": "skip" }));
    assert_eq!(subject(&skip, "1.1.1.1", "/", &[]), Ok(None));
    let client = default_limit(json!({ "type": "header", "header_name": "Authorization", "on_missing": "CLIENT_IP" }));
    let found = subject(&client, "1.1.1.1", "/", &[]).unwrap().unwrap();
    assert_eq!((found.raw.as_str(), found.secret), ("1.1.1.1", false));
    let code = default_limit(json!({ "type": "header", "header_name": "X-T", "missing_code": 401 }));
    assert!(matches!(subject(&code, "1.1.1.1", "/", &[]), Err(KeyError::Missing { code: 401, .. })));
}

#[test]
fn composite_and_global_keys() {
    let limit = default_limit(json!({ "type": "composite", "header_name": "X-T", "path_prefix": true }));
    for (path, key) in [("/", "acme:root"), ("/api/v1", "acme:api"), ("/api", "acme:api"), ("/api/", "acme:api")] {
        assert_eq!(raw(&limit, "1.1.1.1", path, &[("x-t", b"acme")]), key);
    }
    let plain = default_limit(json!({ "type": "composite", "header_name": "X-T" }));
    assert_eq!(raw(&plain, "1.1.1.1", "/api", &[("x-t", b"acme")]), "acme");
    assert_eq!(raw(&default_limit(json!({ "type": "global" })), "1.1.1.1", "/", &[]), "global");
    assert_eq!(raw(&default_limit(json!({ "type": "global", "global_key": "all" })), "1.1.1.1", "/", &[]), "all");
}

#[test]
fn a_credential_is_shown_as_a_hash_and_counted_as_it_is() {
    for (strategy, secret) in [
        (json!({ "type": "header", "header_name": "AUTHORIZATION" }), true),
        (json!({ "type": "header", "header_name": "cookie" }), true),
        (json!({ "type": "composite", "header_name": "X-Api-Key" }), true),
        (json!({ "type": "header", "header_name": "X-T", "hash": true }), true),
        (json!({ "type": "header", "header_name": "X-T" }), false),
    ] {
        let name = strategy["header_name"].as_str().unwrap().to_lowercase();
        let limit = default_limit(strategy);
        let found = subject(&limit, "1.1.1.1", "/", &[(&name, b"hunter2")]).unwrap().unwrap();
        assert_eq!(found.secret, secret);
        let mut key = String::new();
        limit.counter_key(&found, &mut key);
        assert_eq!(key, "rl:edgequota:hunter2");
        let shown = format!("{} {found:?}", found.display());
        assert_eq!(shown.contains("hunter2"), !secret, "{shown}");
        assert_eq!(shown.contains("sha256:f52fbd32b2b3b86f"), secret, "{shown}");
    }
}

#[test]
fn counters_of_a_subject_share_a_slot() {
    let policy = compiled(json!({
        "rate_limit": { "average": 10, "key_prefix": "shop" },
        "routes": [{ "name": "r", "rate_limit": { "average": 5 }, "limits": [{ "name": "day", "average": 5 }] }]
    }));
    let subject = Subject { raw: "a{b".into(), secret: false };
    let keys: Vec<String> = policy
        .limits()
        .iter()
        .map(|limit| {
            let mut key = String::new();
            limit.counter_key(&subject, &mut key);
            key
        })
        .collect();
    assert_eq!(keys, ["rl:shop:a%7Bb", "{rl:shop:a%7Bb}:r", "{rl:shop:a%7Bb}:r/day"]);
}

#[test]
fn a_compiled_policy_does_not_print_override_keys() {
    let policy = compiled(json!({
        "rate_limit": { "average": 1, "key_strategy": { "type": "header", "header_name": "Authorization" } },
        "overrides": [{ "keys": ["Bearer hunter2"], "block": true }]
    }));
    assert!(!format!("{policy:?}").contains("hunter2"));
}

#[test]
fn the_policy_of_the_seed_counts_tenants() {
    let spec: PolicySpec = serde_json::from_value(json!({
        "backend": { "url": "http://my-backend-service:8080", "timeout": "30s", "max_idle_conns": 200 },
        "rate_limit": { "average": 100, "burst": 50, "period": "1s", "failure_policy": "passThrough",
            "key_strategy": { "type": "header", "header_name": "X-Tenant-Id" } }
    }))
    .unwrap();
    let policy = Policy::compile(&spec.resolved()).unwrap();
    let limit = policy.default_limit().unwrap();
    let found = subject(limit, "1.1.1.1", "/", &[("x-tenant-id", b"acme")]).unwrap().unwrap();
    let mut key = String::new();
    limit.counter_key(&found, &mut key);
    assert_eq!(key, "rl:edgequota:acme");
    let backend = &policy.backends()[0];
    assert_eq!(
        (&*backend.url, backend.max_idle_conns, backend.max_conns),
        ("http://my-backend-service:8080", 200, None)
    );
}

#[test]
fn a_policy_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Policy>();
}

#[test]
fn a_request_takes_what_the_limit_costs_also_with_an_override() {
    let policy = compiled(json!({
        "rate_limit": { "average": 10, "burst": 20, "cost": 4 },
        "routes": [{ "name": "r", "limits": [{ "name": "a", "average": 7, "cost": 7, "accuracy": "leased" }, { "name": "b", "average": 1 }] }],
        "overrides": [{ "keys": ["10.0.0.1"], "burst": 4 }]
    }));
    let costs: Vec<(&str, u64)> = policy.limits().iter().map(|limit| (&*limit.name, limit.cost)).collect();
    assert_eq!(costs, [("default", 4), ("r/a", 7), ("r/b", 1)]);
    let effective = policy.limits()[0].effective(&Subject { raw: "10.0.0.1".into(), secret: false });
    assert_eq!(effective.numbers.burst, 4);
}

#[test]
fn a_subject_that_somebody_names_is_the_one_that_is_counted() {
    let named = |key: Value, text: &str| {
        let limit = default_limit(key);
        limit.subject_named(text).map(|subject| (subject.raw, subject.secret))
    };
    let clear = |text: &str| Some((text.to_owned(), false));
    let ip = || json!({ "type": "clientIP" });
    for (text, counted) in [
        ("10.0.0.1", Some("10.0.0.1")),
        ("::ffff:10.0.0.1", Some("10.0.0.1")),
        ("2001:DB8::1", Some("2001:db8::/64")),
        ("2001:db8::/64", Some("2001:db8::/64")),
        ("2001:db8::/48", None),
        ("10.0.0.1/32", None),
        ("acme", None),
        ("", None),
    ] {
        assert_eq!(named(ip(), text), counted.and_then(clear), "{text}");
    }
    assert_eq!(named(json!({ "type": "clientIP", "ipv6_prefix": 128 }), "2001:db8::1"), clear("2001:db8::1"));
    let header = json!({ "type": "header", "header_name": "X-T" });
    assert_eq!((named(header.clone(), "a/b%{}"), named(header, "")), (clear("a/b%{}"), None));
    let credential = json!({ "type": "header", "header_name": "Authorization" });
    assert_eq!(named(credential.clone(), "Bearer x"), Some(("Bearer x".to_owned(), true)));
    assert!(default_limit(credential).shows_hash());
    let composite = |path: bool| json!({ "type": "composite", "header_name": "X-T", "path_prefix": path });
    assert_eq!((named(composite(true), "acme"), named(composite(true), "acme:")), (None, None));
    assert_eq!(
        (named(composite(true), "acme:api"), named(composite(false), "acme")),
        (clear("acme:api"), clear("acme"))
    );
    let global = json!({ "type": "global", "global_key": "all" });
    assert_eq!((named(global.clone(), "all"), named(global, "acme")), (clear("all"), None));
}
