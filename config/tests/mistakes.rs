//! Each fixture is named after the mistake that it shows; what a user reads about it is a golden file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use edgequota_config::{
    Document, Role,
    load::{Environment, from_document},
};

/// A file without policy is read as a control plane would, which needs none.
fn says(name: &str, text: &str) -> String {
    let loaded = Document::parse(name, text).and_then(|document| {
        let role = if document.has_policy() { Role::Standalone } else { Role::ControlPlane };
        from_document(&document, &Environment::new(), role)
    });
    match loaded {
        Err(problems) => problems.to_string(),
        Ok(loaded) => {
            let warnings: String = loaded.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            format!("no problems\n{warnings}")
        }
    }
}

#[test]
fn what_a_user_reads_about_each_mistake() {
    let mut files: Vec<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 10);
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let said = says(name, &text);
        assert!(!said.contains("hunter"), "a secret is shown: {said}");
        insta::assert_snapshot!(name.trim_end_matches(".yaml"), said);
    }
}
