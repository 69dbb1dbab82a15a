//! The wire form: what is left out, what is written out, and the released defaults that both depend on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use edgequota_policy::{PolicySpec, spec};
use serde_json::{Value, json};

fn read(value: Value) -> PolicySpec {
    serde_json::from_value(value).unwrap()
}

/// A released default is part of the wire contract: canonical bytes leave a field out where it has its default, so a
/// data plane with another default would enforce something else. A default that must change becomes a new field.
#[test]
fn a_changed_default_would_break_older_data_planes() {
    let defaults = json!({
        "policy": PolicySpec::default(),
        "backends[]": spec::NamedBackendSpec::default(),
        "routes[]": spec::RouteSpec::default(),
        "routes[].rate_limit": spec::LimitSpec::default(),
        "routes[].limits[]": spec::NamedLimitSpec::default(),
        "routes[].match.headers[]": spec::HeaderMatchSpec::default(),
        "overrides[]": spec::OverrideSpec::default(),
    });
    insta::assert_json_snapshot!("a_changed_default_would_break_older_data_planes", defaults);
}

#[test]
fn a_changed_canonical_form_would_break_older_data_planes() {
    let spec = full().resolved();
    let text = String::from_utf8(spec.canonical()).unwrap();
    insta::assert_snapshot!("a_changed_canonical_form_would_break_older_data_planes", text);
}

fn full() -> PolicySpec {
    read(json!({
        "backend": { "url": "http://my-backend-service:8080", "timeout": "0s", "max_idle_conns": 200 },
        "backends": [{ "name": "search", "url": "http://search", "transport": { "backend_protocol": "H2" } }],
        "rate_limit": { "average": 100, "burst": 50, "failure_policy": "FAILCLOSED",
            "key_strategy": { "type": "header", "header_name": "X-Tenant-Id" } },
        "routes": [
            { "name": "search-api", "backend": "search",
              "match": { "hosts": ["api.example.com"], "path_prefix": "/v1/search", "methods": ["GET", "POST"],
                         "headers": [{ "name": "X-Beta", "exact": "1" }] },
              "rate_limit": { "average": 20, "burst": 40, "period": "1s" },
              "limits": [{ "name": "per-day", "average": 10000, "period": "24h", "failure_policy": "passthrough" }] },
            { "name": "open", "match": { "path_exact": "/open" }, "rate_limit": { "mode": "disabled" } }
        ],
        "overrides": [
            { "keys": ["acme", "globex"], "average": 1000, "burst": 2000 },
            { "keys": ["acme"], "limit": "search-api/per-day", "burst": 5 },
            { "keys": ["mallory"], "limit": "default", "block": true }
        ],
        "events": { "http": { "url": "https://e", "headers": { "X-Key": "k", "X-Env": { "env": "E" } }, "auth_token": "t" } }
    }))
}

#[test]
fn an_empty_policy_is_empty_on_the_wire() {
    assert_eq!(PolicySpec::default().resolved().canonical(), b"{}");
}

#[test]
fn resolving_writes_inherited_values_out() {
    let spec = full().resolved();
    assert_eq!(spec.backends[0].url, "http://search:80");
    assert_eq!(spec.routes[1].backend, "default");
    let own = spec.routes[0].rate_limit.as_ref().unwrap();
    assert_eq!(own.failure_policy, Some(spec::FailurePolicy::FailClosed));
    assert_eq!(own.key_strategy.header_name.as_deref(), Some("X-Tenant-Id"));
    let per_day = &spec.routes[0].limits[0];
    assert_eq!((per_day.burst, per_day.failure_policy), (Some(10_000), Some(spec::FailurePolicy::PassThrough)));
    let over = &spec.overrides[1];
    assert_eq!((over.average, over.burst, over.period.unwrap().to_string()), (Some(10_000), Some(5), "24h0m0s".into()));
    assert_eq!(spec.overrides[2].average, None);
    assert_eq!(spec.events.http.headers["Authorization"].literal(), Some("Bearer t"));
    assert!(spec.events.http.auth_token.is_empty());
    assert_eq!(spec.clone().resolved(), spec);
    assert_eq!(read(json!({ "rate_limit": { "burst": -3 } })).resolved().rate_limit.burst, 1);
}

#[test]
fn a_resolved_policy_reads_back_from_its_bytes() {
    let spec = full().resolved();
    let again = PolicySpec::from_canonical(&spec.canonical()).unwrap();
    assert_eq!(again, spec);
    assert_eq!(again.hash(), spec.hash());
}

#[test]
fn the_way_of_writing_does_not_change_the_hash() {
    let short = read(json!({ "backend": { "url": "http://b" }, "rate_limit": { "average": 5, "period": "60s" } }));
    let long = read(json!({
        "backend": { "url": "HTTP://b:80", "timeout": "30000ms" },
        "rate_limit": { "average": 5, "burst": 0, "period": "1m", "mode": "ENFORCE" },
        "routes": [], "auth": { "enabled": false }
    }));
    assert_eq!(short.resolved().hash(), long.resolved().hash());
}

#[test]
fn a_default_that_means_something_else_than_absence_is_written() {
    // Zero is not the default of `timeout`: it must be written although it is the zero of its type.
    let spec = read(json!({ "backend": { "url": "http://b", "timeout": "0s", "max_idle_conns": 0 } }));
    let bytes = String::from_utf8(spec.canonical()).unwrap();
    assert_eq!(bytes, r#"{"backend":{"url":"http://b","timeout":"0s","max_idle_conns":0}}"#);
}

#[test]
fn an_inherited_value_is_left_out_only_where_the_released_default_says_the_same() {
    let route = json!([{ "name": "r", "rate_limit": { "average": 5, "failure_policy": "passThrough" } }]);
    let plain = read(json!({ "routes": route })).resolved();
    assert!(!String::from_utf8(plain.canonical()).unwrap().contains("failure_policy"));
    // Here absence would mean failClosed.
    let closed = read(json!({ "routes": route, "rate_limit": { "failure_policy": "failClosed" } })).resolved();
    let text = String::from_utf8(closed.canonical()).unwrap();
    assert!(text.contains(r#""rate_limit":{"average":5,"burst":5,"failure_policy":"passThrough"}"#), "{text}");
}

#[test]
fn a_cost_of_one_is_not_on_the_wire_and_any_other_is() {
    let routes = |cost: Value| {
        json!([{ "name": "r", "rate_limit": { "average": 5, "cost": cost },
                                        "limits": [{ "name": "a", "average": 5, "cost": cost }] }])
    };
    let with = |cost: Value| {
        let spec = json!({ "rate_limit": { "average": 5, "burst": 5, "cost": cost }, "routes": routes(cost) });
        String::from_utf8(read(spec).resolved().canonical()).unwrap()
    };
    assert!(!with(json!(1)).contains("cost"));
    let own = r#""rate_limit":{"average":5,"burst":5,"cost":3},"limits":[{"name":"a","average":5,"burst":5,"cost":3}]"#;
    let text = with(json!(3));
    assert!(text.contains(own) && text.ends_with(r#""rate_limit":{"average":5,"burst":5,"cost":3}}"#), "{text}");
    // It is not inherited: what a route leaves out is one, whatever the default limit's.
    let plain =
        read(json!({ "rate_limit": { "cost": 3 }, "routes": [{ "name": "r", "rate_limit": { "average": 5 } }] }));
    assert_eq!(plain.resolved().routes[0].rate_limit.as_ref().unwrap().cost, 1);
}

#[test]
fn what_this_version_does_not_know_is_refused_with_its_path() {
    let problem = PolicySpec::from_canonical(br#"{"routes":[{"name":"a"},{"match":{"weight":3}}]}"#).unwrap_err();
    assert_eq!(problem.path, "routes[1].match.weight");
    assert!(problem.message.contains("unknown field `weight`"), "{problem:?}");
    for bytes in [&b"{"[..], b"{}x", b"[]", b"", b"\xff", br#"{"rate_limit":[]}"#, br#"{"routes":[],"routes":[]}"#] {
        assert!(PolicySpec::from_canonical(bytes).is_err());
    }
}

#[test]
fn literal_secrets_are_on_the_wire_and_nowhere_else() {
    let spec = full();
    assert!(spec.has_literal_secrets());
    assert!(String::from_utf8(spec.canonical()).unwrap().contains(r#""X-Key":"k""#));
    let shown = format!("{} {spec:?} {}", spec.redacted(), serde_json::to_string(&spec).unwrap());
    assert!(!shown.contains(r#""k""#) && !shown.contains(r#""t""#), "{shown}");
}

#[test]
fn the_schema_tells_a_reader_of_yaml_what_it_must_know() {
    let schema = serde_json::to_value(schemars::schema_for!(PolicySpec)).unwrap();
    let text = schema.to_string();
    assert!(text.contains(r#""format":"go-duration""#) && text.contains(r#""x-secret":true"#));
    fn walk(value: &Value, at: &str, found: &mut Vec<String>) {
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                let place = format!("{at}.{name}");
                let documented = property.get("description").is_some();
                if !documented && !at.contains("oneOf") {
                    found.push(place.clone());
                }
                let nullable = property.get("type").is_some_and(Value::is_array) || property.get("anyOf").is_some();
                assert!(!nullable, "{place} would allow null");
            }
            assert_eq!(value["additionalProperties"], false, "{at}");
        }
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, inner)| walk(inner, &format!("{at}/{name}"), found))
            }
            Value::Array(items) => items.iter().for_each(|inner| walk(inner, at, found)),
            _ => {}
        }
    }
    let mut undocumented = Vec::new();
    walk(&schema, "", &mut undocumented);
    assert_eq!(undocumented, [""; 0]);
    let keys: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(keys, spec::POLICY_KEYS);
}
