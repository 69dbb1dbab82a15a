//! One event as one line: JSON `{"time","level","msg",...fields}`, or text for people.

use std::{
    fmt::{self, Write as _},
    time::SystemTime,
};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use super::time::write_rfc3339;

/// Longest message or value, in bytes; the rest is cut.
const MAX_VALUE: usize = 16 * 1024;

/// Appends the line with its newline.
pub(super) fn event(event: &Event<'_>, now: SystemTime, json: bool, out: &mut String) {
    let mut found = Fields { json, message: String::new(), rest: String::new() };
    event.record(&mut found);
    let level = *event.metadata().level();
    // writing to a String cannot fail
    if json {
        out.push_str("{\"time\":\"");
        write_rfc3339(out, now);
        let _ = write!(out, "\",\"level\":\"{}\",\"msg\":", lower(level));
        quoted(&found.message, out);
        out.push_str(&found.rest);
        out.push_str("}\n");
    } else {
        write_rfc3339(out, now);
        let _ = write!(out, " {:<5} ", level.as_str());
        one_line(&found.message, out);
        out.push_str(&found.rest);
        out.push('\n');
    }
}

fn lower(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

struct Fields {
    json: bool,
    message: String,
    /// The other fields, each with what separates it from the one before.
    rest: String,
}

impl Fields {
    fn key(&mut self, field: &Field) {
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        if self.json {
            self.rest.push(',');
            // our own three come first; a field of the same name must not make a key twice
            let prefix = if matches!(name, "time" | "level" | "msg") { "field_" } else { "" };
            quoted(&format!("{prefix}{name}"), &mut self.rest);
            self.rest.push(':');
        } else {
            self.rest.push(' ');
            self.rest.push_str(name);
            self.rest.push('=');
        }
    }

    /// A value that is the same in both forms.
    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        let _ = write!(self.rest, "{value}");
    }

    fn text(&mut self, field: &Field, value: &str) {
        let value = cut(value);
        if field.name() == "message" {
            self.message.push_str(value);
            return;
        }
        self.key(field);
        let plain =
            !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '=');
        if self.json || !plain {
            quoted(value, &mut self.rest);
        } else {
            self.rest.push_str(value);
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, value);
        } else {
            self.text(field, &value.to_string());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        self.text(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_VALUE)]
}

/// As a JSON string.
fn quoted(text: &str, out: &mut String) {
    out.push('"');
    escaped(text, out, true);
    out.push('"');
}

/// Without line breaks, so that nobody can forge a line of the text form.
fn one_line(text: &str, out: &mut String) {
    escaped(text, out, false);
}

fn escaped(text: &str, out: &mut String, quotes: bool) {
    for c in text.chars() {
        match c {
            '"' if quotes => out.push_str("\\\""),
            '\\' if quotes => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}
