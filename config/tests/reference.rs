//! The reference in `docs/` is the one that the types give.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use edgequota_config::{load, reference};
use serde_json::Value;

#[test]
fn the_checked_in_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == reference::reference_markdown(),
        "write it again: cargo run -p edgequota-config --example reference > docs/configuration.md"
    );
}

#[test]
fn every_setting_is_described() {
    for line in reference::reference_markdown().lines().filter(|line| line.starts_with("| `")) {
        let meaning = line.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        assert!(meaning.len() > 3, "no description: {line}");
        assert!(!line.contains("| any |"), "no type: {line}");
    }
}

/// Every `$ref` leads somewhere, so that editors can use it.
#[test]
fn the_schema_is_whole() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let schema = load::schema();
    let mut found = Vec::new();
    references(&schema, &mut found);
    assert!(found.len() > 10);
    for reference in found {
        let name = reference.strip_prefix("#/$defs/").unwrap_or_else(|| panic!("{reference}"));
        assert!(schema["$defs"].get(name).is_some(), "{reference}");
    }
    for key in ["server", "admin", "control_plane", "redis", "cache_redis", "logging", "tracing", "revision"] {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
    assert_eq!(schema["additionalProperties"], false);
}
