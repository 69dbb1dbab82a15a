//! The environment over a file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use edgequota_config::{
    Document, Loaded, Problems, Role,
    environment::is_service_link,
    load::{Environment, from_document, load},
};
use secrecy::ExposeSecret;

fn env(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
    from_document(&Document::parse("config.yaml", text).unwrap(), &env(variables), Role::ControlPlane)
}

/// What the kubelet puts into a pod whose namespace has the Services `edgequota`, `edgequota-admin`,
/// `edgequota-controlplane` and `edgequota-server`.
fn service_links() -> Environment {
    let mut links = Environment::new();
    for service in ["EDGEQUOTA", "EDGEQUOTA_ADMIN", "EDGEQUOTA_CONTROLPLANE", "EDGEQUOTA_SERVER", "EDGEQUOTA_PORT"] {
        for (suffix, value) in [
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_PORT", "8080"),
            ("SERVICE_PORT_PROXY_UDP", "8080"),
            ("PORT", "tcp://10.0.0.1:8080"),
            ("PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("PORT_8080_TCP_PROTO", "tcp"),
            ("PORT_8080_TCP_PORT", "8080"),
            ("PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("PORT_8080_UDP", "udp://10.0.0.1:8080"),
            ("PORT_8080_UDP_PROTO", "udp"),
            ("PORT_8080_UDP_PORT", "8080"),
            ("PORT_8080_UDP_ADDR", "10.0.0.1"),
        ] {
            links.insert(format!("{service}_{suffix}"), value.to_owned());
        }
    }
    // A Service that would be named after a setting.
    links.insert("EDGEQUOTA_SERVER_TLS_HTTP3_ADVERTISE_PORT".to_owned(), "udp://10.0.0.1:443".to_owned());
    links
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
    let loaded = from("redis: { db: 1, pool_size: 7 }\n", &[("EDGEQUOTA_REDIS_DB", "2")]).unwrap();
    let redis = loaded.settings.redis;
    assert_eq!((redis.db, redis.pool_size, redis.deadline.to_string().as_str()), (2, 7, "100ms"));
}

#[test]
fn each_kind_of_value_is_read() {
    // Settings alone: what this version has not built yet is read all the same.
    let document = Document::parse("config.yaml", "").unwrap();
    let settings = document
        .settings(&env(&[
            ("EDGEQUOTA_REDIS_ENDPOINTS", "a:1, b:2 ,"),
            ("EDGEQUOTA_REDIS_MODE", "Replication"),
            ("EDGEQUOTA_SERVER_READ_TIMEOUT", "1m30s"),
            ("EDGEQUOTA_SERVER_TRUSTED_PROXIES", "10.0.0.0/8,::1"),
            ("EDGEQUOTA_LOGGING_ACCESS_LOG_ENABLED", "false"),
            ("EDGEQUOTA_TRACING_SAMPLE_RATE", "0.5"),
            ("EDGEQUOTA_REDIS_PASSWORD", " null "),
            ("EDGEQUOTA_REDIS_USERNAME", "null"),
            ("EDGEQUOTA_CACHE_REDIS_ENDPOINTS", "cache:6379"),
        ]))
        .unwrap();
    assert_eq!(settings.redis.endpoints, ["a:1", "b:2"]);
    assert_eq!(settings.server.read_timeout.get().as_secs(), 90);
    assert_eq!(
        settings.server.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "::1/128"]
    );
    assert!(!settings.logging.access_log_enabled);
    assert!((settings.tracing.sample_rate - 0.5).abs() < f64::EPSILON);
    assert_eq!(settings.redis.password.expose_secret(), " null ");
    assert_eq!(settings.redis.username, "null");
    assert_eq!(settings.cache_redis.unwrap().endpoints, ["cache:6379"]);
}

#[test]
fn an_empty_variable_is_unset() {
    let loaded = from("redis: { db: 1 }\n", &[("EDGEQUOTA_REDIS_DB", ""), ("EDGEQUOTA_NOTHING", "")]).unwrap();
    assert_eq!(loaded.settings.redis.db, 1);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn mistakes_name_the_variable_and_never_a_secret() {
    let problems = from(
        "redis: { password_file: /x }\n",
        &[
            ("EDGEQUOTA_REDIS_DB", "many"),
            ("EDGEQUOTA_REDIS_PASSWORD", "hunter2"),
            ("EDGEQUOTA_SERVER_READ_TIMEOUT", "5"),
            ("EDGEQUOTA_LOGGING_ACCESS_LOG_ENABLED", "yes"),
            ("EDGEQUOTA_SERVER_TRUSTED_PROXIES", "10.0.0.0/8,nonsense"),
            ("EDGEQUOTA_ADMIN_ADDRESS", "9090"),
        ],
    )
    .unwrap_err();
    insta::assert_snapshot!(problems);
}

#[test]
fn a_variable_under_a_block_that_is_none_does_not_hide_the_mistake() {
    let problems = from("redis: 5\n", &[("EDGEQUOTA_REDIS_DB", "2")]).unwrap_err();
    assert_eq!(problems.to_string(), "config.yaml:1:8: redis: a block of keys is expected here, not a single value");
}

#[test]
fn unknown_variables_are_warnings_with_the_nearest_name() {
    let loaded = from("", &[("EDGEQUOTA_REDIS_POOLSIZE", "5"), ("EDGEQUOTA_WHATEVER", "x"), ("OTHER", "x")]).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "environment EDGEQUOTA_REDIS_POOLSIZE: names no setting, did you mean EDGEQUOTA_REDIS_POOL_SIZE?",
            "environment EDGEQUOTA_WHATEVER: names no setting and is ignored",
        ]
    );
}

#[test]
fn service_links_set_nothing_and_are_silent() {
    let mut links = service_links();
    assert!(links.iter().all(|(name, value)| is_service_link(name, value)));
    links.insert("EDGEQUOTA_CONFIG_FILE".to_owned(), "/etc/edgequota/config.yaml".to_owned());
    let with = load(Path::new("/nonexistent/config.yaml"), &links, Role::ControlPlane).unwrap();
    let without = load(Path::new("/nonexistent/config.yaml"), &Environment::new(), Role::ControlPlane).unwrap();
    assert!(with.warnings.is_empty(), "{:?}", with.warnings);
    assert_eq!(with.settings.redacted(), without.settings.redacted());
    // The same name with the value of a setting is the setting.
    links.insert("EDGEQUOTA_SERVER_TLS_HTTP3_ADVERTISE_PORT".to_owned(), "8443".to_owned());
    let set = load(Path::new("/nonexistent/config.yaml"), &links, Role::ControlPlane).unwrap();
    assert_eq!(set.settings.server.tls.http3_advertise_port, 8443);
}

#[test]
fn no_setting_can_be_taken_for_a_service_link() {
    let reference = edgequota_config::reference::variables();
    assert!(reference.len() > 60);
    for name in &reference {
        assert!(!is_service_link(name, "8080"), "{name}");
        assert_eq!(reference.iter().filter(|other| *other == name).count(), 1, "{name} names two settings");
    }
    for name in
        ["EDGEQUOTA_PORT", "EDGEQUOTA_PORT_X_TCP", "EDGEQUOTA_PORT_80_TCP_ADDR_X", "PORT_80_TCP", "EDGEQUOTA_PORT_80"]
    {
        assert!(!is_service_link(name, "8080"), "{name}");
    }
}
