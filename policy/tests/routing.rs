//! Routing by example, and what is refused because its outcome would be chance.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use edgequota_policy::{Caller, Policy, PolicySpec, RequestView};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

fn spec(value: Value) -> PolicySpec {
    serde_json::from_value(value).unwrap()
}

fn with_routes(routes: Value) -> PolicySpec {
    spec(json!({ "backend": { "url": "http://default" }, "rate_limit": { "average": 10 }, "routes": routes }))
}

fn compiled(routes: Value) -> Policy {
    Policy::compile(&with_routes(routes).resolved()).unwrap()
}

fn messages(routes: Value) -> Vec<String> {
    with_routes(routes).problems().into_iter().map(|p| p.message).collect()
}

fn route(policy: &Policy, method: Method, host: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let caller = Caller { peer: "10.0.0.1".parse().unwrap(), trusted_proxies: &[] };
    let request = RequestView { method: &method, host, path, headers: &map, caller };
    match policy.route(&request) {
        Some(found) => {
            let why = found.why;
            let name = found.route.map_or("-", |name| name);
            format!("{name} {} {} {}", why.host, why.path, why.conditions)
        }
        None => "none".into(),
    }
}

fn get(policy: &Policy, host: &str, path: &str) -> String {
    route(policy, Method::GET, host, path, &[])
}

#[test]
fn exact_host_before_longest_wildcard_before_any() {
    let policy = compiled(json!([
        { "name": "any", "match": { "path_prefix": "/" } },
        { "name": "wide", "match": { "hosts": ["*.com"] } },
        { "name": "narrow", "match": { "hosts": ["*.Example.com"] } },
        { "name": "exact", "match": { "hosts": ["api.example.com"] } },
    ]));
    assert_eq!(get(&policy, "api.example.com", "/x"), "exact exact any 0");
    assert_eq!(get(&policy, "a.b.example.com", "/x"), "narrow wildcard any 0");
    assert_eq!(get(&policy, "example.com", "/x"), "wide wildcard any 0");
    assert_eq!(get(&policy, "com", "/x"), "any any prefix 0");
    assert_eq!(get(&policy, "", "/x"), "any any prefix 0");
}

#[test]
fn exact_path_before_longest_prefix_before_regex() {
    let policy = compiled(json!([
        { "name": "any", "match": { "methods": ["GET", "POST"] } },
        { "name": "regex", "match": { "path_regex": "/v[0-9]+(/.*)?" } },
        { "name": "longer-regex", "match": { "path_regex": "/v[0-9]+/special(/.*)?" } },
        { "name": "prefix", "match": { "path_prefix": "/v1/search/" } },
        { "name": "longer", "match": { "path_prefix": "/v1/search/deep" } },
        { "name": "exact", "match": { "path_exact": "/v1/search/deep/er" } },
    ]));
    for (path, found) in [
        ("/v1/search/deep/er", "exact any exact 0"),
        ("/v1/search/deep/er/", "longer any prefix 0"),
        ("/v1/search/deep", "longer any prefix 0"),
        ("/v1/search/deeper", "prefix any prefix 0"),
        ("/v1/search", "prefix any prefix 0"),
        ("/v1/search/", "prefix any prefix 0"),
        ("/v1/searching", "regex any regex 0"),
        ("/v2/special/x", "longer-regex any regex 0"),
        ("/v1", "regex any regex 0"),
        ("/other/v1", "any any any 1"),
    ] {
        assert_eq!(get(&policy, "h", path), found, "{path}");
    }
    assert_eq!(route(&policy, Method::PUT, "h", "/other", &[]), "- default any 0");
}

#[test]
fn more_conditions_first_and_a_miss_falls_through() {
    let policy = compiled(json!([
        { "name": "beta", "match": { "hosts": ["h"], "path_prefix": "/a", "methods": ["get"], "headers": [{ "name": "X-Beta", "exact": "1" }] } },
        { "name": "get", "match": { "hosts": ["h"], "path_prefix": "/a", "methods": ["GET"] } },
        { "name": "absent", "match": { "path_prefix": "/a", "headers": [{ "name": "X-Gone", "present": false }] } },
        { "name": "present", "match": { "path_prefix": "/a", "headers": [{ "name": "X-Gone", "present": true }] } },
    ]));
    let ask = |method, headers: &[(&str, &str)]| route(&policy, method, "h", "/a", headers);
    assert_eq!(ask(Method::GET, &[("x-beta", "1")]), "beta exact prefix 2");
    assert_eq!(ask(Method::GET, &[("x-beta", "2")]), "get exact prefix 1");
    // Two lines have no one value.
    assert_eq!(ask(Method::GET, &[("x-beta", "1"), ("x-beta", "1")]), "get exact prefix 1");
    // The exact host's table has nothing for POST: the table for any host has.
    assert_eq!(ask(Method::POST, &[]), "absent any prefix 1");
    assert_eq!(ask(Method::POST, &[("x-gone", "")]), "present any prefix 1");
}

#[test]
fn a_regex_whose_conditions_fail_leaves_room_for_the_next() {
    let policy = compiled(json!([
        { "name": "long", "match": { "path_regex": "/a/[a-z]+/x", "methods": ["PUT"] } },
        { "name": "middle", "match": { "path_regex": "/a/[a-z]+.*", "methods": ["POST"] } },
        { "name": "short", "match": { "path_regex": "/a/.*" } },
        { "name": "short-put", "match": { "path_regex": "/a/.*", "methods": ["PUT"] } },
    ]));
    assert_eq!(route(&policy, Method::PUT, "h", "/a/b/x", &[]), "long any regex 1");
    assert_eq!(route(&policy, Method::POST, "h", "/a/b/x", &[]), "middle any regex 1");
    assert_eq!(route(&policy, Method::GET, "h", "/a/b/x", &[]), "short any regex 0");
    assert_eq!(route(&policy, Method::PUT, "h", "/a/1", &[]), "short-put any regex 1");
    assert_eq!(route(&policy, Method::GET, "h", "/b/a/b", &[]), "- default any 0");
}

#[test]
fn a_path_condition_is_compared_in_normal_form() {
    let policy = compiled(json!([{ "name": "r", "match": { "path_exact": "/caf%c3%a9//x" } }]));
    assert_eq!(get(&policy, "h", "/caf%C3%A9/x"), "r any exact 0");
}

#[test]
fn without_a_default_backend_nothing_takes_the_rest() {
    let policy = Policy::compile(&spec(json!({
        "backends": [{ "name": "b", "url": "http://b" }],
        "routes": [{ "name": "r", "match": { "path_prefix": "/r" }, "backend": "b" }]
    })))
    .unwrap();
    assert_eq!(get(&policy, "h", "/r/x"), "r any prefix 0");
    assert_eq!(get(&policy, "h", "/x"), "none");
}

#[test]
fn equally_specific_routes_that_can_both_match_are_refused_by_name() {
    for (a, b) in [
        (json!({}), json!({ "hosts": ["*"] })),
        (json!({ "path_prefix": "/a" }), json!({ "path_prefix": "/a/" })),
        (json!({ "hosts": ["h", "x"] }), json!({ "hosts": ["y", "H."] })),
        (json!({ "path_exact": "/%61" }), json!({ "path_exact": "/a" })),
        (json!({ "methods": ["GET", "PUT"] }), json!({ "methods": ["PUT", "POST"] })),
        (json!({ "methods": ["GET"] }), json!({ "headers": [{ "name": "a", "present": true }] })),
        (json!({ "headers": [{ "name": "a", "exact": "1" }] }), json!({ "headers": [{ "name": "b", "exact": "2" }] })),
        (
            json!({ "headers": [{ "name": "a", "exact": "1" }] }),
            json!({ "headers": [{ "name": "A", "present": true }] }),
        ),
        (json!({ "path_regex": "/a/.*" }), json!({ "path_regex": "/.*/a" })),
    ] {
        let found = messages(json!([{ "name": "one", "match": a }, { "name": "two", "match": b }]));
        assert_eq!(
            found,
            [
                "routes[1].match: routes \"one\" (routes[0]) and \"two\" are equally specific and can both match a request: \
              make one of them more specific"
            ],
            "{a} {b}"
        );
    }
}

#[test]
fn routes_that_exclude_each_other_are_no_conflict() {
    for (a, b) in [
        (json!({ "methods": ["GET"] }), json!({ "methods": ["POST"] })),
        (json!({ "headers": [{ "name": "a", "exact": "1" }] }), json!({ "headers": [{ "name": "a", "exact": "2" }] })),
        (
            json!({ "headers": [{ "name": "a", "exact": "1" }] }),
            json!({ "headers": [{ "name": "a", "present": false }] }),
        ),
        (json!({ "path_regex": "/a/.*" }), json!({ "path_regex": "/b/.*" })),
        (json!({ "path_regex": "/[a-z]+/a" }), json!({ "path_regex": "/[a-z]+/b" })),
        (json!({ "path_prefix": "/a" }), json!({ "path_exact": "/a" })),
        (json!({ "hosts": ["*.a"] }), json!({ "hosts": ["*.b.a"] })),
    ] {
        assert_eq!(messages(json!([{ "name": "one", "match": a }, { "name": "two", "match": b }])), [""; 0], "{a} {b}");
    }
}

#[test]
fn what_cannot_be_matched_is_refused_with_its_place() {
    let found = messages(json!([
        { "name": "r", "match": { "hosts": ["a:80"], "path_prefix": "v1", "methods": ["G T"] } },
        { "name": "s", "match": { "path_exact": "/a", "path_regex": "[", "headers": [{ "name": "a b", "exact": "1", "present": true }, { "present": true }] } },
        { "name": "t", "match": { "path_exact": "/a%2fb" } },
        { "name": "r", "match": { "path_regex": "(" }, "backend": "defualt" },
        { "name": "default", "match": { "path_exact": "/x" } },
        { "name": "a b", "match": { "path_exact": "/y" } },
        { "match": { "path_exact": "/z" } },
    ]));
    assert_eq!(
        found,
        [
            r#"invalid routes[0].match.hosts[0] "a:80": must be written without port"#,
            r#"invalid routes[0].match.path_prefix "v1": the path is not absolute"#,
            r#"routes[0].match.methods[0] must be a method such as GET"#,
            r#"routes[1].match: path_exact and path_regex exclude each other: keep one of them"#,
            r#"routes[1].match.headers[0].name must be a header name"#,
            r#"routes[1].match.headers[0]: exactly one of exact and present is required"#,
            r#"routes[1].match.headers[1].name is required"#,
            r#"invalid routes[2].match.path_exact "/a%2fb": the path holds an encoded slash or a backslash"#,
            r#"routes[3].name "r" is already the name of routes[0]"#,
            r#"routes[3].backend: unknown backend "defualt""#,
            r#"routes[4].name cannot be "default": that name is taken"#,
            r#"routes[5].name must be 1 to 64 of A-Z a-z 0-9 . _ -"#,
            r#"routes[6].name is required"#,
            r#"invalid routes[1].match.path_regex "[": unclosed character class"#,
            r#"invalid routes[3].match.path_regex "(": unclosed group"#,
        ]
    );
}

#[test]
fn more_than_a_thousand_patterns_are_refused() {
    let routes = |n: usize| -> Value {
        (0..n)
            .map(|i| json!({ "name": format!("r{i}"), "match": { "path_regex": format!("/{i:04}/[0-9]+") } }))
            .collect()
    };
    assert_eq!(messages(routes(1_000)), [""; 0]);
    assert_eq!(messages(routes(1_001)), ["routes: 1001 routes have a path_regex, at most 1000 may: use path_prefix"]);
}

#[test]
fn ten_thousand_routes_that_one_header_tells_apart_are_no_work() {
    let mut routes: Vec<Value> = (0..10_000)
        .map(|i| json!({ "name": format!("t{i}"), "match": { "path_prefix": "/api", "headers": [{ "name": "X-Tenant", "exact": format!("tenant-{i}") }] } }))
        .collect();
    routes.push(json!({ "name": "put", "match": { "path_prefix": "/api", "methods": ["PUT"], "headers": [{ "name": "X-Beta", "present": true }] } }));
    routes.push(json!({ "name": "rest", "match": { "path_prefix": "/api" } }));
    let policy = compiled(routes.clone().into());
    let tenant = |value, more: &[(&str, &str)]| {
        route(&policy, Method::PUT, "h", "/api/x", &[&[("x-tenant", value)], more].concat())
    };
    assert_eq!(tenant("tenant-9876", &[]), "t9876 any prefix 1");
    assert_eq!(tenant("tenant-9876", &[("x-beta", "")]), "put any prefix 2");
    assert_eq!(tenant("tenant-9876", &[("x-tenant", "tenant-1")]), "rest any prefix 0");
    assert_eq!(tenant("stranger", &[]), "rest any prefix 0");
    // Neither is more specific than a tenant's route, and both can match with it.
    let doubled = json!({ "name": "same", "match": { "path_prefix": "/api", "headers": [{ "name": "x-tenant", "exact": "tenant-5" }] } });
    let present = json!({ "name": "any", "match": { "path_prefix": "/api", "headers": [{ "name": "x-tenant", "present": true }] } });
    routes.extend([doubled, present]);
    let found = messages(routes.into());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("\"t5\" (routes[5]) and \"same\""), "{found:?}");
    assert!(found[1].contains("and \"any\""), "{found:?}");
}
