//! What is wrong with a written policy: everything at once, each with its place.
//!
//! A message names the path as well as the place does, so that it stands alone in a log line or an API answer. No
//! message holds a secret or the key of an override, which may be a credential.

mod backends;
mod limits;
mod overrides;
mod routes;
mod services;
mod warn;

use http::HeaderName;

pub(crate) use self::warn::warnings;
use crate::{PolicySpec, Problem, spec::DEFAULT};

pub(crate) fn problems(spec: &PolicySpec) -> Vec<Problem> {
    let mut report = Report::default();
    backends::check(spec, &mut report);
    limits::check_default(&spec.rate_limit, &mut report);
    routes::check(spec, &mut report);
    overrides::check(spec, &mut report);
    services::check(spec, &mut report);
    report.problems
}

/// Problems as they are found.
#[derive(Default)]
struct Report {
    problems: Vec<Problem>,
    /// Looking for the nearest name costs time; after some the reader has the idea.
    suggestions: usize,
}

impl Report {
    const MOST_SUGGESTIONS: usize = 20;

    /// `message` is the whole sentence.
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), message: message.into() });
    }

    /// The sentence is "`path` `what`".
    fn at(&mut self, path: impl Into<String>, what: impl std::fmt::Display) {
        let path = path.into();
        let message = format!("{path} {what}");
        self.problems.push(Problem { path, message });
    }

    fn at_least(&mut self, path: &str, field: &str, value: u64, least: u64) {
        if value < least {
            self.at(format!("{path}.{field}"), format_args!("must be at least {least}"));
        }
    }

    fn code(&mut self, path: String, code: i64) {
        if !(400..=599).contains(&code) {
            let message = format!("invalid {path} {code}: must be 400 to 599");
            self.add(path, message);
        }
    }

    /// `, did you mean "x"?`, or nothing.
    fn nearest<'n>(&mut self, name: &str, known: impl Iterator<Item = &'n str>) -> String {
        self.suggestions += 1;
        if self.suggestions > Self::MOST_SUGGESTIONS || name.len() > 128 {
            return String::new();
        }
        let near = known.map(|other| (strsim::osa_distance(name, other), other)).min();
        match near {
            Some((distance, other)) if distance <= (name.len() / 3).max(2) => {
                format!(", did you mean {other:?}?")
            }
            _ => String::new(),
        }
    }

    /// The rules for names of backends, routes and limits.
    fn name(&mut self, path: String, name: &str) {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() {
            self.at(path, "is required");
        } else if name == DEFAULT {
            self.at(path, "cannot be \"default\": that name is taken");
        } else if name.len() > 64 || !name.bytes().all(allowed) {
            self.at(path, "must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
    }
}

/// A header name, or what is wrong with it.
fn header_name(name: &str) -> Result<HeaderName, &'static str> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| "must be a header name")
}

/// A value for a message: quoted, cut to a length that one can read.
fn shown(value: &str) -> String {
    let cut: String = value.chars().take(120).collect();
    format!("{cut:?}")
}
