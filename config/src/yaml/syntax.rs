//! What is YAML, and which of it we take. Nothing here quotes the file.

use saphyr_parser::Tag;

use super::MAX_DEPTH;
use crate::problems::{Located, Place, Problems};

/// The scanner takes NUL for the end of the text, so what follows would silently not count; other control characters
/// are no YAML either.
pub(super) fn refuse_controls(name: &str, text: &str) -> Result<(), Problems> {
    let Some(at) = text.find(|c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) else {
        return Ok(());
    };
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let place = Place::File { file: name.to_owned(), line, column };
    let message = "not valid YAML: a control character".to_owned();
    Err(Problems(vec![Located { place, path: String::new(), message }]))
}

/// The parser's words, which are fixed but for one that quotes a character of the file.
pub(super) fn message(info: &str) -> String {
    if info.starts_with("unexpected character") {
        return "not valid YAML: a value that begins with %, @ or ` must stand in quotes".to_owned();
    }
    if info == "recursion limit exceeded" {
        // The scanner's own limit on brackets is deeper than ours, but it looks ahead.
        return format!("nested deeper than {MAX_DEPTH} levels");
    }
    format!("not valid YAML: {info}")
}

/// Whether the tag says "this is text"; `None` for one that we do not take. Tags of YAML's core schema are let
/// through, the schema types values anyway.
pub(super) fn is_text_tag(tag: Option<&Tag>) -> Option<bool> {
    match tag {
        None => Some(false),
        Some(tag) if tag.is_yaml_core_schema() || tag.handle == "!!" => Some(tag.suffix == "str"),
        Some(tag) if tag.handle == "!" && tag.suffix.is_empty() => Some(true),
        Some(_) => None,
    }
}

pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}
