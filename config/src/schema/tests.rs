#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Schema and types must agree: what the check lets through, serde must read.
use super::*;
use crate::{Document, Role, load::Environment, load::from_document};

/// YAML of a value that fits the leaf.
fn sample(leaf: &Leaf) -> String {
    let one = match leaf.kind.trim_start_matches("list of ").trim_start_matches("map of ") {
        "text" => "\"x\"",
        kind if kind.starts_with("secret") => "\"s\"",
        "network" => "10.0.0.0/8",
        "duration" => "1s",
        "boolean" => "true",
        "integer" => "2000",
        "number" => "0.5",
        kind if kind.starts_with('`') => kind.trim_matches('`').split('`').next().unwrap(),
        kind => panic!("{}: no sample of {kind}", leaf.path),
    };
    match () {
        () if leaf.kind.starts_with("list of ") => format!("[{one}]"),
        () if leaf.kind.starts_with("map of ") => format!("{{ k: {one} }}"),
        () => one.to_owned(),
    }
}

/// `a.b[].c` with a value, as YAML.
fn written(path: &str, value: &str) -> String {
    let mut text = value.to_owned();
    for step in path.rsplit('.') {
        text = match step.strip_suffix("[]") {
            Some(key) => format!("{{ {key}: [{text}] }}"),
            None => format!("{{ {step}: {text} }}"),
        };
    }
    text
}

#[test]
fn every_leaf_can_be_set_and_is_read_back() {
    for leaf in &index().leaves {
        let text = written(&leaf.path, &sample(leaf));
        let document = Document::parse("x.yaml", &text).unwrap_or_else(|p| panic!("{text}: {p}"));
        for part in [Part::Settings, Part::Policy] {
            let checked = document.checked(None, part);
            // An integer of two thousand is out of some ranges; everything else fits.
            let range = |p: &crate::problems::Located| p.message.contains(" must be <= ");
            assert!(checked.problems.iter().all(range), "{text}: {:?}", checked.problems);
            if checked.problems.is_empty() && leaf.part == part {
                assert!(!checked.value.is_empty(), "{text}: nothing was read");
            }
        }
        assert!(document.policy_and_problems(None).1.iter().all(|p| !p.message.contains("cannot be read")), "{text}");
        let (_, problems, _) = document.settings_part(&Environment::new());
        assert!(problems.iter().all(|p| !p.message.contains("cannot be read")), "{text}: {problems:?}");
    }
}

#[test]
fn nothing_is_untyped_and_no_name_is_given_twice() {
    let leaves = &index().leaves;
    assert!(leaves.len() > 150, "{}", leaves.len());
    for leaf in leaves {
        assert!(!leaf.kind.contains("any"), "{}: {}", leaf.path, leaf.kind);
        assert_eq!(leaves.iter().filter(|other| other.path == leaf.path).count(), 1, "{}", leaf.path);
    }
}

/// Whatever is wrong with a secret, or around it, it is never shown.
#[test]
fn no_secret_is_ever_in_a_message() {
    let secrets: Vec<&Leaf> =
        index().leaves.iter().filter(|leaf| leaf.secret || leaf.kind.contains("secret")).collect();
    assert!(secrets.len() >= 8, "{}", secrets.len());
    let broken = "server: { address: 1, nope: 2 }\nrate_limit: { average: x }\n";
    for leaf in secrets {
        for form in [
            "hunter2",
            "[hunter2]",
            "{ hunter2: hunter2 }",
            "{ env: [hunter2] }",
            "{ env: a, file: hunter2 }",
            "{ hunter2 }",
            "{ k: hunter2, k2: [hunter2] }",
            "{ k: { hunter2: hunter2 } }",
            "\"hunter2\\q\"",
            "'hunter2",
            "[hunter2",
            "!hunter2 x",
            "hunter2: hunter2",
            "&hunter2 [*hunter2]",
            "*hunter2",
            "@hunter2",
            "|hunter2",
        ] {
            let text = format!("{broken}{}\n", block(&leaf.path, form));
            for role in [Role::Standalone, Role::DataPlane, Role::ControlPlane] {
                let said = match Document::parse("x.yaml", &text) {
                    Err(problems) => format!("{problems} {problems:?}"),
                    Ok(document) => {
                        let environment = Environment::from([("EDGEQUOTA_REDIS_DB".to_owned(), "x".to_owned())]);
                        let problems = from_document(&document, &environment, role).unwrap_err();
                        format!("{problems} {problems:?} {document:?} {:?}", document.policy_and_problems(None).1)
                    }
                };
                assert!(!said.contains("hunter2"), "{text}\n{said}");
            }
        }
    }
}

/// Block style, so that a form that is not closed stays one.
fn block(path: &str, value: &str) -> String {
    let steps: Vec<&str> = path.split('.').collect();
    let mut text = String::new();
    for (depth, step) in steps.iter().enumerate() {
        let indent = "  ".repeat(depth);
        text.push_str(&format!("{indent}{step}:"));
        text.push_str(if depth + 1 == steps.len() { " " } else { "\n" });
    }
    text + value
}

#[test]
fn a_file_of_another_kind_has_a_bounded_number_of_problems() {
    use std::fmt::Write;
    let mut text = String::from("redis:\n");
    (0..100_000).for_each(|i| writeln!(text, "  key{i}: x").unwrap());
    let document = Document::parse("x.yaml", &text).unwrap();
    let problems = document.settings(&Environment::new()).unwrap_err();
    assert_eq!(problems.0.len(), crate::check::MAX_PROBLEMS);
    assert!(problems.0.last().unwrap().message.starts_with("too many problems"));
    assert_eq!(problems.to_string().lines().count(), crate::problems::SHOWN + 1);
}

fn any_tree() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let scalar = proptest::sample::select(vec![
        "",
        "~",
        "1",
        "-1",
        "0x1",
        "true",
        "off",
        "1s",
        "\"q\"",
        "http://h:1",
        "a,b",
        "é",
    ]);
    let leaf = scalar.prop_map(str::to_owned);
    let key = proptest::sample::select(index().names().map(str::to_owned).chain(["x".to_owned()]).collect::<Vec<_>>());
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::btree_map(key.clone(), inner, 0..6).prop_map(|fields| {
                let fields: Vec<String> = fields.into_iter().map(|(k, v)| format!("{k}: {v}")).collect();
                format!("{{ {} }}", fields.join(", "))
            }),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn any_tree_is_read_or_refused(tree in any_tree(), top in 0..index().top.len()) {
        let text = format!("{}: {tree}\n", index().top[top].1.name);
        if let Ok(document) = Document::parse("x.yaml", &text) {
            for role in [Role::Standalone, Role::DataPlane, Role::ControlPlane] {
                match from_document(&document, &Environment::new(), role) {
                    Ok(loaded) => drop(loaded.settings.redacted()),
                    Err(problems) => proptest::prop_assert!(!problems.0.is_empty()),
                }
            }
        }
    }
}
