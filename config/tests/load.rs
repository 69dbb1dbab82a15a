//! Files and roles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{path::Path, time::Instant};

use edgequota_config::{
    Document, Place, Role,
    load::{Environment, from_document, load},
};
use edgequota_policy::{Policy, Problem};

fn document(text: &str) -> Document {
    Document::parse("config.yaml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn env(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const SEED: &str = include_str!("fixtures/seed-configmap.yaml");

#[test]
fn the_seeds_configmap_loads_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    std::fs::write(&path, SEED).unwrap();
    let loaded = load(&path, &env(&[("EDGEQUOTA_REDIS_PASSWORD", "hunter2")]), Role::Standalone).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let settings = loaded.settings;
    assert_eq!((settings.server.address.as_str(), settings.admin.address.as_str()), (":8080", ":9090"));
    assert_eq!(settings.redis.endpoints, ["redis-master:6379"]);
    assert_eq!(settings.redis.pool_size, 20);
    assert!(settings.not_built().is_empty());
    let spec = loaded.policy.unwrap();
    assert!(spec.not_built().is_empty());
    Policy::compile(&spec).unwrap();
    let policy = serde_json::to_value(&spec).unwrap();
    assert_eq!(policy["rate_limit"]["average"], 100);
    assert_eq!(policy["backend"]["max_idle_conns"], 200);
}

#[test]
fn a_missing_file_is_defaults_and_environment() {
    let nowhere = Path::new("/nonexistent/config.yaml");
    let problems = load(nowhere, &Environment::new(), Role::Standalone).unwrap_err();
    assert_eq!(problems.to_string(), "/nonexistent/config.yaml: backend.url is required");
    let variables = env(&[("EDGEQUOTA_BACKEND_URL", "http://b:1"), ("EDGEQUOTA_RATE_LIMIT_AVERAGE", "5")]);
    let loaded = load(nowhere, &variables, Role::Standalone).unwrap();
    assert_eq!(serde_json::to_value(loaded.policy.unwrap()).unwrap()["rate_limit"]["average"], 5);
    let loaded = load(nowhere, &Environment::new(), Role::ControlPlane).unwrap();
    assert!(loaded.policy.is_none() && loaded.warnings.is_empty());
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    std::fs::write(&path, b"redis:\n  username: \xff\n").unwrap();
    let problems = load(&path, &Environment::new(), Role::Standalone).unwrap_err().to_string();
    assert!(
        problems.ends_with("config.yaml:2:13: not valid UTF-8 at line 2, column 13: save the file as UTF-8"),
        "{problems}"
    );
    let problems = load(directory.path(), &Environment::new(), Role::Standalone).unwrap_err().to_string();
    assert!(problems.ends_with(": cannot be read: it is not a regular file"), "{problems}");
}

#[test]
fn each_role_takes_its_part() {
    let text = format!("{SEED}control_plane: {{ address: 'http://cp:9091' }}\n");
    let broken = text.replace("average: 100", "average: -100");
    for (role, fatal) in [(Role::Standalone, true), (Role::DataPlane, false), (Role::ControlPlane, false)] {
        assert!(from_document(&document(&text), &Environment::new(), role).unwrap().policy.is_some());
        let loaded = from_document(&document(&broken), &Environment::new(), role);
        assert_eq!(loaded.is_err(), fatal, "{role:?}");
        let said = match loaded {
            Err(problems) => problems.to_string(),
            Ok(loaded) => {
                assert!(loaded.policy.is_none());
                loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
        };
        assert_eq!(said, "config.yaml:11:12: rate_limit.average must be >= 0", "{role:?}");
    }
    // A control plane that publishes other files ignores the policy in its own.
    let other = broken.replace("control_plane: {", "control_plane: { policy_path: /etc/policies,");
    let loaded = from_document(&document(&other), &Environment::new(), Role::ControlPlane).unwrap();
    assert!(loaded.policy.is_none() && loaded.warnings.is_empty());
}

#[test]
fn a_data_plane_does_not_apply_policy_variables() {
    let text = format!("{SEED}control_plane: {{ address: 'http://cp:9091' }}\n");
    let variables = env(&[("EDGEQUOTA_RATE_LIMIT_AVERAGE", "5"), ("EDGEQUOTA_REDIS_DB", "3")]);
    let loaded = from_document(&document(&text), &variables, Role::DataPlane).unwrap();
    assert_eq!(loaded.settings.redis.db, 3);
    assert_eq!(serde_json::to_value(loaded.policy.unwrap()).unwrap()["rate_limit"]["average"], 100);
    assert_eq!(
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "environment EDGEQUOTA_RATE_LIMIT_AVERAGE: rate_limit.average: is not applied: this process takes its policy \
          from the control plane"
        ]
    );
    let loaded = from_document(&document(&text), &variables, Role::Standalone).unwrap();
    assert_eq!(serde_json::to_value(loaded.policy.unwrap()).unwrap()["rate_limit"]["average"], 5);
}

#[test]
fn mistakes_of_settings_and_policy_are_reported_together_and_once() {
    let text =
        "redis: { db: x }\nbackend: { url: nonsense }\nunknown: 1\nrate_limit: { failure_code: 200, burts: 1 }\n";
    let problems = from_document(&document(text), &Environment::new(), Role::Standalone).unwrap_err();
    let places: Vec<String> = problems.0.iter().map(|p| format!("{} {}", p.place, p.path)).collect();
    assert_eq!(
        places,
        [
            "config.yaml:1:14 redis.db",
            "config.yaml:2:17 backend.url",
            "config.yaml:3:1 unknown",
            "config.yaml:4:29 rate_limit.failure_code",
            "config.yaml:4:34 rate_limit.burts",
        ]
    );
}

#[test]
fn paths_are_placed_at_the_nearest_thing_that_exists() {
    let document =
        document("routes:\n  - name: a\n    match: { hosts: [x] }\nevents:\n  http:\n    headers: { X.Y: z }\n");
    let place = |path: &str| document.place(path).to_string();
    assert_eq!(place("routes[0].match.hosts[0]"), "config.yaml:3:22");
    assert_eq!(place("routes[0].match.path_regex"), "config.yaml:3:5");
    assert_eq!(place("routes[0]"), "config.yaml:2:5");
    assert_eq!(place("routes[7]"), "config.yaml:1:1");
    assert_eq!(place("events.http.headers[\"X.Y\"]"), "config.yaml:6:21");
    assert_eq!(document.place("backend.url"), Place::Whole("config.yaml".to_owned()));
    for nonsense in ["", ".", "[", "[x]", "..", "routes[", "routes[99999999999999999999999]", "a.b[\"c"] {
        document.place(nonsense);
    }
    let located = document.locate(vec![Problem { path: "routes[0].name".to_owned(), message: "m".to_owned() }]);
    assert_eq!(located[0].to_string(), "config.yaml:2:11: routes[0].name: m");
}

#[test]
fn a_document_knows_its_parts() {
    let settings_only = document("server: {}\nlogging:\n  level: debug\nrate_limit:\nrevision: 7\n");
    assert!(!settings_only.has_policy());
    assert_eq!(settings_only.settings_keys(), ["server", "logging"]);
    assert_eq!(settings_only.revision().as_deref(), Some("7"));
    for key in ["backend", "backends", "routes", "overrides", "rate_limit", "auth", "events"] {
        assert!(document(&format!("{key}: {{}}\n")).has_policy(), "{key}");
    }
    assert_eq!(document("").revision(), None);
}

/// 10,000 routes and 100,000 overrides are within the bounds, and take seconds only in a debug build.
#[test]
fn the_largest_stated_policy_is_read() {
    use std::fmt::Write;
    let mut text = String::from("backend: { url: 'http://b:1' }\nroutes:\n");
    for i in 0..10_000 {
        writeln!(text, "  - {{ name: r{i}, match: {{ hosts: [h{i}.example.com], path_prefix: /v{i} }}, rate_limit: {{ average: 5 }} }}").unwrap();
    }
    text.push_str("overrides:\n");
    for i in 0..100_000 {
        writeln!(text, "  - {{ keys: [tenant-{i}], limit: default, average: 1{i} }}").unwrap();
    }
    let start = Instant::now();
    let spec = document(&text).policy(Some(&Environment::new())).unwrap();
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    assert_eq!(serde_json::to_value(&spec).unwrap()["overrides"].as_array().unwrap().len(), 100_000);
}

#[test]
fn the_examples_of_the_documentation_load() {
    let example = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    for (name, role, policy) in [
        ("standalone.yaml", Role::Standalone, true),
        ("dataplane.yaml", Role::DataPlane, false),
        ("controlplane.yaml", Role::ControlPlane, false),
        ("policy.yaml", Role::Standalone, true),
    ] {
        let loaded = from_document(&document(&example(name)), &Environment::new(), role)
            .unwrap_or_else(|problems| panic!("{name}: {problems}"));
        assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
        assert_eq!(loaded.policy.is_some(), policy, "{name}");
        assert!(loaded.settings.not_built().is_empty(), "{name}");
        if let Some(spec) = loaded.policy {
            assert!(spec.not_built().is_empty(), "{name}");
            Policy::compile(&spec).unwrap();
        }
    }
}
