//! How files become one policy. Each fixture is named after the mistake it shows.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use edgequota_config::{
    load::Environment,
    watch::{Content, Target},
};
use edgequota_controlplane::assemble::{Assembled, assemble};

fn fixture(name: &str) -> Result<Assembled, String> {
    fixture_with(name, &Environment::new())
}

/// A directory under `tests/fixtures`; file names are shown without it.
fn fixture_with(name: &str, environment: &Environment) -> Result<Assembled, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let mut files: Vec<(PathBuf, Result<String, String>)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().into(), Ok(std::fs::read_to_string(&path).unwrap())))
        .collect();
    files.sort();
    assemble(&Target::Directory("policy".into()), &Content { files }, environment).map_err(|p| p.to_string())
}

fn refused(name: &str) -> String {
    fixture(name).map(|assembled| panic!("{assembled:?}")).unwrap_err()
}

#[test]
fn lists_are_joined_in_file_name_order() {
    let spec = fixture("good").unwrap().spec;
    assert_eq!(spec.routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(spec.overrides.iter().map(|o| o.keys[0].as_str()).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(spec.backend.url, "http://default:80");
}

#[test]
fn the_same_default_block_twice_is_one() {
    assert_eq!(fixture("same-default-block-twice").unwrap().spec.rate_limit.average, 10);
}

#[test]
fn a_route_that_stands_twice_is_named_with_both_places() {
    let problems = refused("route-twice");
    assert_eq!(
        problems,
        "b.yaml:2:11: routes[0].name: route \"search\" stands at a.yaml:3:11 too: names must be unique"
    );
}

#[test]
fn a_backend_that_stands_twice_is_named_with_both_places() {
    let problems = refused("backend-twice");
    assert_eq!(
        problems,
        "b.yaml:2:11: backends[0].name: backend \"search\" stands at a.yaml:3:11 too: names must be unique"
    );
}

#[test]
fn default_blocks_that_differ_are_refused_with_both_places() {
    let problems = refused("default-blocks-differ");
    assert!(problems.starts_with("b.yaml:1:"), "{problems}");
    assert!(problems.contains("rate_limit: differs from the one at a.yaml:2:"), "{problems}");
}

#[test]
fn an_unknown_backend_is_shown_in_its_own_file() {
    let problems = refused("unknown-backend");
    assert!(problems.starts_with("b.yaml:3:"), "{problems}");
    assert!(problems.contains("routes[1].backend"), "the path is the file's own: {problems}");
    assert_eq!(problems.lines().count(), 1, "{problems}");
}

#[test]
fn revisions_that_disagree_hold_everything_back() {
    let problems = refused("revisions-disagree");
    assert!(problems.contains("b.yaml:1:11: revision: is \"41\" and a.yaml says \"42\""), "{problems}");
    assert!(problems.contains("c.yaml: revision: is missing"), "{problems}");
}

#[test]
fn revisions_that_agree_do_not() {
    assert_eq!(fixture("revisions-agree").unwrap().spec.rate_limit.average, 10);
}

#[test]
fn settings_inside_policy_files_are_a_warning() {
    let assembled = fixture("settings-inside").unwrap();
    let warnings: Vec<String> = assembled.settings_beside.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("b.yaml:1:") && warnings[0].contains("redis"), "{warnings:?}");
}

#[test]
fn all_problems_of_all_files_are_reported_at_once() {
    let problems = refused("many-mistakes");
    for expected in ["a.yaml:2:", "rate_limit.bursst", "b.yaml:", "routes[0]"] {
        assert!(problems.contains(expected), "{expected} in {problems}");
    }
}

#[test]
fn no_policy_anywhere_is_refused() {
    let empty = Content { files: Vec::new() };
    let problems = assemble(&Target::Directory("policy".into()), &empty, &Environment::new()).unwrap_err();
    assert_eq!(problems.to_string(), "policy: there is no *.yaml file in this directory");
    assert!(refused("only-settings").contains("none of the files holds a policy"));
    let gone = assemble(&Target::File("p.yaml".into()), &empty, &Environment::new()).unwrap_err();
    assert_eq!(gone.to_string(), "p.yaml: the file does not exist");
}

#[test]
fn the_environment_lies_over_the_file_that_has_the_block() {
    let environment = Environment::from([("EDGEQUOTA_RATE_LIMIT_AVERAGE".to_owned(), "99".to_owned())]);
    assert_eq!(fixture_with("good", &environment).unwrap().spec.rate_limit.average, 99);
    assert_eq!(fixture_with("same-default-block-twice", &environment).unwrap().spec.rate_limit.average, 99);
    let bad = Environment::from([("EDGEQUOTA_RATE_LIMIT_AVERAGE".to_owned(), "-1".to_owned())]);
    let problems = fixture_with("good", &bad).unwrap_err();
    assert!(problems.contains("EDGEQUOTA_RATE_LIMIT_AVERAGE"), "{problems}");
}

#[test]
fn a_literal_secret_survives_the_environment() {
    let environment = Environment::from([("EDGEQUOTA_RATE_LIMIT_AVERAGE".to_owned(), "99".to_owned())]);
    let text = "backend: { url: \"http://b:1\" }\nevents: { http: { headers: { X-Token: hunter2 } } }\n";
    let content = Content { files: vec![("a.yaml".into(), Ok(text.to_owned()))] };
    let spec = assemble(&Target::Directory("policy".into()), &content, &environment).unwrap().spec;
    assert_eq!(spec.events.http.headers["X-Token"].literal(), Some("hunter2"));
    assert_eq!(spec.rate_limit.average, 99);
}

#[test]
fn without_a_file_the_environment_alone_will_do_but_service_links_will_not() {
    let target = Target::File("config.yaml".into());
    let set = |name: &str, value: &str| Environment::from([(name.to_owned(), value.to_owned())]);
    let content = Content { files: Vec::new() };
    let spec = assemble(&target, &content, &set("EDGEQUOTA_BACKEND_URL", "http://b:1")).unwrap().spec;
    assert_eq!(spec.backend.url, "http://b:1");
    let linked = assemble(&target, &content, &set("EDGEQUOTA_BACKEND_PORT", "tcp://10.0.0.1:80")).unwrap_err();
    assert_eq!(linked.to_string(), "config.yaml: the file does not exist");
}
