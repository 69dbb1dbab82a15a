//! Whatever is written, the steps from text to policy agree with each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use edgequota_policy::{Policy, PolicySpec};
use proptest::{prelude::*, sample::select, strategy::ValueTree};
use serde_json::{Map, Value, json};

type Field = BoxedStrategy<Option<(&'static str, Value)>>;

/// Under a name, mostly a good value, now and then a bad one, often none.
fn field(name: &'static str, good: Vec<Value>, bad: Vec<Value>) -> Field {
    let bad = if bad.is_empty() { good.clone() } else { bad };
    let value = prop_oneof![40 => select(good), 1 => select(bad)];
    prop::option::weighted(0.5, value.prop_map(move |value| (name, value))).boxed()
}

/// The same, nearly always there.
fn required(name: &'static str, good: Vec<Value>, bad: Vec<Value>) -> Field {
    let value = prop_oneof![40 => select(good), 1 => select(bad)];
    prop::option::weighted(0.98, value.prop_map(move |value| (name, value))).boxed()
}

fn object(fields: Vec<BoxedStrategy<Option<(&'static str, Value)>>>) -> impl Strategy<Value = Value> {
    fields.prop_map(|fields| {
        let fields: Map<String, Value> =
            fields.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)).collect();
        Value::Object(fields)
    })
}

fn limit_fields() -> Vec<Field> {
    let good_keys = vec![
        json!({}),
        json!({ "type": "header", "header_name": "X-T" }),
        json!({ "type": "header", "header_name": "Authorization" }),
        json!({ "trusted_proxies": ["10.0.0.0/8"], "trusted_ip_depth": -1, "ipv6_prefix": 128 }),
        json!({ "type": "composite", "header_name": "X-T", "path_prefix": true, "on_missing": "skip", "hash": true }),
    ];
    let bad_keys = vec![
        json!({ "type": "header" }),
        json!({ "type": "global", "global_key": "" }),
        json!({ "trusted_proxies": ["x"], "trusted_ip_depth": -3, "ipv6_prefix": 129 }),
    ];
    vec![
        required("average", vec![json!(1), json!(20), json!(1_000)], vec![json!(-1), json!(0), json!(i64::MAX)]),
        field("burst", vec![json!(1), json!(40)], vec![json!(i64::MIN), json!(0), json!(i64::MAX)]),
        field("period", vec![json!("1s"), json!("24h"), json!("333us")], vec![json!("0s"), json!("1ns")]),
        field("cost", vec![json!(1)], vec![json!(0), json!(2), json!(9)]),
        field("mode", vec![json!("enforce"), json!("SHADOW"), json!("disabled")], vec![]),
        field("failure_policy", vec![json!("failclosed"), json!("passThrough"), json!("inMemoryFallback")], vec![]),
        field("failure_code", vec![json!(429), json!(503)], vec![json!(-5)]),
        field("headers", vec![json!("both"), json!("none")], vec![]),
        field("min_ttl", vec![json!(""), json!("1h")], vec![]),
        field("key_strategy", good_keys, bad_keys),
    ]
}

fn named_limit() -> impl Strategy<Value = Value> {
    object(limit_fields())
}

fn route() -> impl Strategy<Value = Value> {
    let bad = vec![json!({ "path_regex": "/(" }), json!({ "path_exact": "a" }), json!({ "hosts": [""] })];
    let own = prop::option::of(object(limit_fields()));
    let further = prop::collection::vec(named_limit(), 0..3);
    let rest = object(vec![
        field("name", vec![json!("r")], vec![json!("default"), json!("")]),
        field("match", vec![json!({})], bad),
        field("backend", vec![json!("b"), json!("default")], vec![json!("c")]),
    ]);
    (rest, own, further).prop_map(|(mut route, own, further)| {
        if let Some(own) = own {
            route["rate_limit"] = own;
        }
        route["limits"] = further.into();
        route
    })
}

/// Names and matches that differ, where there is no bad one.
fn tell_apart(routes: &mut [Value]) {
    for (i, route) in routes.iter_mut().enumerate() {
        if route["name"].is_null() || route["name"] == "r" {
            route["name"] = format!("r{i}").into();
        }
        if route["match"].is_null() || route["match"] == json!({}) {
            route["match"] = json!({ "path_prefix": format!("/{i}") });
        }
        for (j, limit) in route["limits"].as_array_mut().into_iter().flatten().enumerate() {
            limit["name"] = format!("l{j}").into();
        }
    }
}

fn over() -> impl Strategy<Value = Value> {
    let keys = vec![json!(["a"]), json!(["b", "10.0.0.1"]), json!(["c", "d"])];
    object(vec![
        required("keys", keys, vec![json!([""]), json!(["10.0.0.1", "::ffff:10.0.0.1"])]),
        field("limit", vec![json!("default"), json!("default"), json!("r0"), json!("r0/l0")], vec![json!("x")]),
        required("average", vec![json!(7), json!(70)], vec![json!(0)]),
        field("burst", vec![json!(9)], vec![json!(-3)]),
        field("period", vec![json!("1m")], vec![json!("0")]),
    ])
}

fn any_spec() -> impl Strategy<Value = PolicySpec> {
    let good = vec!["http://b", "http://b:80/p/"];
    let url = prop_oneof![20 => select(good), 1 => select(vec!["", "https://b", "nonsense"])];
    let rate_limit = object(limit_fields());
    let routes = prop::collection::vec(route(), 0..4);
    let overrides = prop::collection::vec(over(), 0..3);
    let token = prop::option::of(select(vec![json!("t"), json!({ "env": "T" })]));
    (url, rate_limit, routes, overrides, token).prop_map(|(url, rate_limit, mut routes, overrides, token)| {
        tell_apart(&mut routes);
        let mut value = json!({
            "backend": { "url": url }, "backends": [{ "name": "b", "url": "ws://other" }],
            "rate_limit": rate_limit, "routes": routes, "overrides": overrides
        });
        if let Some(token) = token {
            value["events"] = json!({ "http": { "auth_token": token } });
        }
        serde_json::from_value(value).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn resolving_changes_nothing_that_was_accepted(spec in any_spec()) {
        let resolved = spec.clone().resolved();
        prop_assert_eq!(&resolved.clone().resolved(), &resolved);
        if spec.problems().is_empty() {
            prop_assert_eq!(resolved.problems(), vec![]);
        }
        let (before, after) = (Policy::compile(&spec), Policy::compile(&resolved));
        if let Ok(before) = before {
            let after = after.unwrap();
            prop_assert_eq!(format!("{:?}", before.limits()), format!("{:?}", after.limits()));
            prop_assert_eq!(before.backends(), after.backends());
        }
    }

    #[test]
    fn the_wire_carries_all_of_it(spec in any_spec()) {
        let resolved = spec.resolved();
        let again = PolicySpec::from_canonical(&resolved.canonical()).unwrap();
        prop_assert_eq!(&again, &resolved);
        prop_assert_eq!(again.canonical(), resolved.canonical());
    }

    #[test]
    fn what_people_see_reads_as_a_policy_too(spec in any_spec()) {
        prop_assert!(serde_json::from_value::<PolicySpec>(spec.redacted()).is_ok());
        let _ = (spec.warnings(), spec.not_built(), spec.has_literal_secrets());
    }
}

#[test]
fn accepted_policies_are_among_them() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let accepted = (0..2_000)
        .filter(|_| {
            let spec = any_spec().new_tree(&mut runner).unwrap().current();
            Policy::compile(&spec).is_ok() && !spec.routes.is_empty() && !spec.overrides.is_empty()
        })
        .count();
    assert!(accepted > 300, "only {accepted} of 2000: the properties above would say little");
}
