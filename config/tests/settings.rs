//! Settings as a process uses them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use edgequota_config::{Document, Role, Settings, load::Environment};

fn settings(text: &str) -> Settings {
    let document = Document::parse("config.yaml", text).unwrap();
    document.settings(&Environment::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn defaults_are_a_contract() {
    insta::assert_json_snapshot!(settings("").redacted());
}

#[test]
fn null_blocks_and_empty_texts_are_defaults() {
    let text = "server:\nadmin: ~\nredis:\n  password:\n  username: null\n  tls:\ncache_redis: {}\ncontrol_plane: {}\n";
    assert_eq!(settings(text).redacted(), settings("").redacted());
    assert!(settings("cache_redis:\n").cache_redis.is_none());
}

#[test]
fn plain_scalars_are_typed_by_the_schema() {
    let settings = settings(
        "redis: { username: off, master_name: 123, server_name_is_not_here: 1 }\n"
            .replace(", server_name_is_not_here: 1", "")
            .as_str(),
    );
    assert_eq!((settings.redis.username.as_str(), settings.redis.master_name.as_str()), ("off", "123"));
}

#[test]
fn secrets_and_userinfo_are_redacted() {
    let text = "redis: { password: hunter2, sentinel_password: hunter2 }\nadmin: { token: hunter2 }\n\
                control_plane: { token: hunter2, address: 'https://me:hunter2@cp:9091' }\n\
                tracing: { endpoint: 'http://me:hunter2@otel:4318/v1' }\ncache_redis: { password: hunter2 }\n";
    let settings = settings(text);
    let shown = settings.redacted().to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(shown.matches("[REDACTED]").count(), 7, "{shown}");
    assert!(!serde_json::to_string(&settings.redis).unwrap().contains("hunter2"));
    assert!(!format!("{settings:?}").contains("password: hunter2"));
}

#[test]
fn spellings_of_the_tls_version_become_one() {
    for (text, version) in [("", ""), ("1.2", "1.2"), ("TLS12", "1.2"), ("tls1.3", "1.3")] {
        let text = format!("server: {{ tls: {{ min_version: \"{text}\" }} }}\n");
        assert_eq!(settings(&text).server.tls.min_version, version);
    }
}

#[test]
fn what_is_not_built_names_itself() {
    let text = "server: { tls: { enabled: true, cert_file: c, key_file: k, http3_enabled: true } }\n\
                redis: { mode: cluster, tls: { enabled: true } }\ncache_redis: { db: 1 }\n\
                tracing: { enabled: true, endpoint: 'http://otel:4318' }\n";
    let not_built = settings(text).not_built();
    let paths: Vec<&str> = not_built.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["server.tls.enabled", "server.tls.http3_enabled", "cache_redis", "tracing.enabled"]);
    assert!(not_built.iter().all(|p| p.message.contains(&p.path) && p.message.contains("not built")));
    for mode in ["embedded", "cluster", "sentinel, master_name: m", "replication, endpoints: [\"a:1\", \"b:1\"]"] {
        assert!(settings(&format!("redis: {{ mode: {mode} }}\n")).not_built().is_empty(), "{mode}");
    }
}

#[test]
fn changes_that_need_a_restart_are_named_and_hot_ones_are_not() {
    let old = settings("");
    let new = settings(
        "server: { address: ':1', read_timeout: 1s, trusted_proxies: [10.0.0.0/8], workers: 2, tls: { cert_file: x } }\n\
         admin: { token: t }\nredis: { endpoints: [a:1], password: x }\nlogging: { level: debug }\ncache_redis: { db: 2 }\n\
         tracing: { sample_rate: 1 }\ncontrol_plane: { token: x, tls: { ca_file: y } }\n",
    );
    assert_eq!(
        old.needs_restart(&new),
        [
            "server.address",
            "server.workers",
            "admin.token",
            "control_plane.token",
            "control_plane.tls.ca_file",
            "tracing.sample_rate"
        ]
    );
    assert!(new.needs_restart(&new).is_empty());
    let mode = |mode: &str| settings(&format!("redis: {{ mode: {mode} }}\n"));
    assert!(mode("single").needs_restart(&mode("cluster")).is_empty());
    assert_eq!(mode("single").needs_restart(&mode("embedded")), ["redis.mode"]);
    assert_eq!(mode("embedded").needs_restart(&mode("cluster")), ["redis.mode"]);
}

#[test]
fn roles_have_rules_of_their_own() {
    let of = |text: &str, role| {
        settings(text).role_problems(role).into_iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>()
    };
    let embedded = "redis: { mode: embedded }\ncontrol_plane: { address: 'http://cp:9091' }\n";
    assert!(of(embedded, Role::DataPlane)[0].starts_with("redis.mode: redis.mode embedded is refused together with"));
    assert!(of("redis: { mode: embedded }\n", Role::Standalone).is_empty());
    assert_eq!(of("", Role::DataPlane), ["control_plane.address: control_plane.address is required for a data plane"]);
    assert_eq!(
        of("control_plane: { tls: { enabled: true } }\n", Role::ControlPlane),
        ["control_plane.tls.cert_file: control_plane.tls.cert_file and control_plane.tls.key_file are required"]
    );
    assert_eq!(
        of("server: { address: ':9090' }\n", Role::Standalone),
        ["server.address: server.address and admin.address are the same address \":9090\""]
    );
    assert!(of("server: { address: ':0' }\nadmin: { address: ':0' }\n", Role::Standalone).is_empty());
    assert!(of("server: { address: ':9090' }\n", Role::ControlPlane).is_empty());
}
