//! The reference of all settings (`docs/configuration.md`), written from the types, so that it cannot lag behind.

use std::fmt::Write;

use serde_json::Value;

use crate::schema::{self, Leaf, Part};

const INTRODUCTION: &str = include_str!("reference/introduction.md");

/// The whole page.
pub fn reference_markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (part, title, text) in [
        (
            Part::Settings,
            "Settings",
            "What a process is told about itself. *Restart* means that a change is reported by name and waits for one; the rest of the same edit still applies.",
        ),
        (
            Part::Policy,
            "Policy",
            "What all data planes enforce. All of it is hot: an edit is in force without a restart, or refused as a whole while the last good policy stays.",
        ),
        (Part::File, "About the file", "Belongs to neither."),
    ] {
        // Writing to a String does not fail.
        let _ = write!(page, "\n## {title}\n\n{text}\n");
        let index = schema::index();
        for (_, field) in index.top.iter().filter(|(its, _)| *its == part) {
            let inside = |leaf: &&Leaf| schema::path::covers(&field.name, &leaf.path);
            let _ = write!(page, "\n### `{}`\n\n{}\n\n", field.name, paragraph(&field.description));
            page.push_str("| Path | Type | Default | Change | Environment | Meaning |\n|---|---|---|---|---|---|\n");
            index.leaves.iter().filter(inside).for_each(|leaf| row(&mut page, leaf));
        }
    }
    page
}

/// Names of all environment variables that set something, in the order of the types.
pub fn variables() -> Vec<String> {
    schema::index().variables().map(str::to_owned).collect()
}

/// Paths of all values that a file may hold, `routes[].match.hosts` for those in lists of blocks.
pub fn paths() -> Vec<String> {
    schema::index().leaves.iter().map(|leaf| leaf.path.clone()).collect()
}

fn row(page: &mut String, leaf: &Leaf) {
    let default = match &leaf.default {
        _ if leaf.required => "required".to_owned(),
        None | Some(Value::Null) => "–".to_owned(),
        Some(default) => format!("`{}`", shown(default)),
    };
    let change = if leaf.hot { "hot" } else { "restart" };
    let variable = leaf.variable.as_ref().map_or_else(|| "–".to_owned(), |name| format!("`{name}`"));
    let _ = writeln!(
        page,
        "| `{}` | {} | {default} | {change} | {variable} | {} |",
        leaf.path,
        leaf.kind,
        paragraph(&leaf.description).replace('|', "\\|")
    );
}

/// As a person would write it in YAML.
fn shown(default: &Value) -> String {
    match default {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => short_duration(text).unwrap_or(text).to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Go writes ten minutes as `10m0s`; people write `10m`.
fn short_duration(text: &str) -> Option<&str> {
    let hours = text.strip_suffix("h0m0s").map(|n| (n, 'h'));
    let minutes = text.strip_suffix("m0s").map(|n| (n, 'm'));
    let (number, _) = hours.or(minutes)?;
    number.bytes().all(|b| b.is_ascii_digit()).then(|| &text[..=number.len()])
}

/// Doc comments break their lines; a cell of a table must not.
fn paragraph(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
