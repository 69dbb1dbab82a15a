//! The house keeps its shape: who may depend on whom, how long a file may be, and that the pages name every setting
//! and metric. Medians are reported, not gated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use edgequota_tests::{Edgequota, Origin, Redis, edgequota, process::workspace_dir};
use serde_json::Value;

/// Crates, each with those it may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("cli", &["dataplane", "controlplane", "counters", "ops", "config", "policy"]),
    ("dataplane", &["proto", "counters", "ops", "config", "policy"]),
    ("controlplane", &["proto", "counters", "ops", "config", "policy"]),
    ("counters", &["ops", "config", "policy"]),
    ("ops", &["config", "policy"]),
    ("config", &["policy"]),
    ("policy", &[]),
    ("proto", &[]),
];

/// Most lines of a source file.
const LONGEST_FILE: usize = 600;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Most lines of `main.rs`.
const LONGEST_MAIN: usize = 60;

/// Settings whose values are free-form maps or lists of blocks that the pages describe by another block.
const SAME_AS: &[(&str, &str)] = &[("cache_redis", "redis"), ("backends[]", "backend")];

fn crates() -> Vec<String> {
    EDGES.iter().map(|(name, _)| (*name).to_owned()).chain(["tests".to_owned()]).collect()
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let root = workspace_dir();
    let mut files = Vec::new();
    for name in crates() {
        for part in ["src", "tests", "benches"] {
            sources(&root.join(&name).join(part), &mut files);
        }
    }
    assert!(files.len() > 20, "found only {} source files under {}", files.len(), root.display());
    files
        .into_iter()
        .map(|p| (p.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), fs::read_to_string(p).unwrap()))
        .collect()
}

/// Names of our crates in the dependency tables of a manifest (development ones included: they are edges too).
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
            if let Some(name) = section.rsplit_once("dependencies.edgequota-").map(|(_, n)| n) {
                found.insert(name.to_owned());
            }
        } else if section.ends_with("dependencies")
            && let Some(rest) = line.strip_prefix("edgequota-")
        {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '-').collect());
        }
    }
    found
}

#[test]
fn crates_depend_only_downwards() {
    let root = workspace_dir();
    let mut wrong = Vec::new();
    for (name, allowed) in EDGES {
        let manifest = fs::read_to_string(root.join(name).join("Cargo.toml")).unwrap();
        for dependency in dependencies(&manifest) {
            if !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} -> {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that docs/architecture.md does not allow: {wrong:?}");
}

#[test]
fn every_crate_is_in_the_table_of_edges() {
    let manifest = fs::read_to_string(workspace_dir().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find(|l| l.starts_with("members")).unwrap();
    let members: BTreeSet<_> = members.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(members, crates().into_iter().collect());
}

#[test]
fn a_wrong_edge_would_be_seen() {
    let manifest = "[dependencies]\nedgequota-policy.workspace = true\nserde = \"1\"\n\
                    [dev-dependencies]\nedgequota-ops = { path = \"../ops\" }\n[dependencies.edgequota-proto]\npath = \"x\"\n";
    let found: Vec<_> = dependencies(manifest).into_iter().collect();
    assert_eq!(found, ["ops", "policy", "proto"]);
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    let mut lengths: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (path, text) in all_sources() {
        let lines = text.lines().count();
        lengths.entry(path.split('/').next().unwrap().to_owned()).or_default().push(lines);
        let limit = if path.ends_with("/main.rs") { LONGEST_MAIN } else { LONGEST_FILE };
        if lines > limit && !LONG_FILES.iter().any(|(p, _)| *p == path) {
            long.push(format!("{path}: {lines} lines, at most {limit}"));
        }
    }
    for (name, lengths) in &mut lengths {
        lengths.sort_unstable();
        let (median, longest) = (lengths[lengths.len() / 2], lengths[lengths.len() - 1]);
        println!("{name:14} {:4} files, median {median:4} lines, longest {longest:4}", lengths.len());
    }
    assert!(long.is_empty(), "split these, or give the reason in LONG_FILES:\n{}", long.join("\n"));
}

#[test]
fn exceptions_are_still_needed() {
    let sources: BTreeMap<_, _> = all_sources().into_iter().collect();
    for (path, reason) in LONG_FILES {
        let lines = sources.get(*path).unwrap_or_else(|| panic!("{path} is gone: take it out")).lines().count();
        assert!(lines > LONGEST_FILE && !reason.is_empty(), "{path} needs no exception any more");
    }
}

#[test]
fn modules_are_named_after_their_file() {
    // What several integration tests share is the one exception: `tests/support.rs` would be a test of its own.
    let shared = |path: &str| path.split('/').nth(1) == Some("tests");
    let bad: Vec<_> =
        all_sources().into_iter().map(|(p, _)| p).filter(|p| p.ends_with("/mod.rs") && !shared(p)).collect();
    assert!(bad.is_empty(), "foo.rs beside foo/, never foo/mod.rs: {bad:?}");
}

#[test]
fn nothing_is_left_undone() {
    let me = "tests/tests/tidy.rs";
    let mut bad = Vec::new();
    for (path, text) in all_sources().into_iter().filter(|(p, _)| p != me) {
        for (n, line) in text.lines().enumerate() {
            if ["todo!(", "unimplemented!(", "// STUB", "TODO", "FIXME", "#[ignore"].iter().any(|w| line.contains(w)) {
                bad.push(format!("{path}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    assert!(bad.is_empty(), "unfinished:\n{}", bad.join("\n"));
}

/// Dotted paths of all leaves of a JSON Schema.
fn leaves(schema: &Value, root: &Value, path: &str, depth: usize, into: &mut BTreeSet<String>) {
    assert!(depth < 20, "schema too deep at {path}");
    if let Some(reference) = schema["$ref"].as_str() {
        let target =
            root.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference} is not there"));
        return leaves(target, root, path, depth + 1, into);
    }
    let mut nested = false;
    for word in ["allOf", "anyOf", "oneOf"] {
        for part in schema[word].as_array().into_iter().flatten().filter(|p| p["type"] != "null") {
            if part.get("$ref").is_some() || part.get("properties").is_some() {
                leaves(part, root, path, depth + 1, into);
                nested = true;
            }
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, inner) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            leaves(inner, root, &path, depth + 1, into);
        }
        nested = true;
    }
    if let Some(items) = schema.get("items").filter(|i| i.get("$ref").is_some() || i.get("properties").is_some()) {
        leaves(items, root, &format!("{path}[]"), depth + 1, into);
        nested = true;
    }
    if !nested && !path.is_empty() {
        into.insert(path.to_owned());
    }
}

fn page(name: &str) -> String {
    let path = workspace_dir().join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_configuration_page_names_every_setting() {
    let dir = tempfile::tempdir().unwrap();
    let output = edgequota::run(&["check", "--schema"], dir.path(), &[]);
    assert!(output.status.success(), "{output:?}");
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = BTreeSet::new();
    leaves(&schema, &schema, "", 0, &mut found);
    // A secret may be written as `{ env: NAME }` or `{ file: PATH }`: forms of one setting.
    let paths: BTreeSet<String> = found
        .iter()
        .map(|path| path.strip_suffix(".env").or_else(|| path.strip_suffix(".file")).unwrap_or(path).to_owned())
        .collect();
    assert!(paths.len() > 100, "the schema names only {} settings", paths.len());
    let page = page("configuration.md");
    let missing: Vec<_> = paths
        .iter()
        .filter(|path| {
            let same = SAME_AS.iter().find_map(|(p, q)| Some(format!("{q}{}", path.strip_prefix(p)?)));
            !page.contains(&format!("`{path}`")) && !same.is_some_and(|s| page.contains(&format!("`{s}`")))
        })
        .collect();
    assert!(missing.is_empty(), "docs/configuration.md does not name {missing:#?}");
}

#[tokio::test]
async fn the_observability_page_names_every_metric() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let policy = format!("{}rate_limit: {{ average: 1, burst: 1, period: 1h }}\n", origin.yaml(&[]));
    let standalone = Edgequota::standalone().config(redis.yaml(&[])).config(&policy).ready().await;
    standalone.get("/", &[]).await;
    standalone.get("/", &[]).await;
    let control = Edgequota::controlplane().config(redis.yaml(&[])).config(&policy).ready().await;
    let mut families = standalone.metrics().await.families();
    families.extend(control.metrics().await.families());
    assert!(families.len() > 30, "found only {families:?}");
    let page = page("observability.md");
    let missing: Vec<_> = families.iter().filter(|f| !page.contains(&format!("`{f}`"))).collect();
    assert!(missing.is_empty(), "docs/observability.md does not name {missing:#?}");
}
