//! All that is wrong with the files, each with its place.

use std::fmt;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file; line and column count from 1.
    File {
        /// As the user named it.
        file: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// An environment variable.
    Env(String),
    /// No place (a default, or the whole file).
    Whole(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line, column } => write!(f, "{}:{line}:{column}", one_line(file)),
            Place::Env(name) => write!(f, "environment {}", one_line(name)),
            Place::Whole(file) => f.write_str(&one_line(file)),
        }
    }
}

/// One problem: where, at which path, what, and the nearest known name if one is near.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where.
    pub place: Place,
    /// `redis.pool_size`, `routes[3].match.path_regex`; empty for a whole file or variable.
    pub path: String,
    /// What is wrong and what is allowed; never a secret.
    pub message: String,
}

/// `config.yaml:12:5: rate_limit.bursst: unknown key, did you mean "burst"?`, always a single line. A message that
/// begins with the path is not given it twice: `config.yaml:2:3: backend.url is required`.
impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        let begins = self.message.strip_prefix(&self.path).is_some_and(|rest| rest.starts_with([' ', ':', '.', '[']));
        if !self.path.is_empty() && !begins {
            write!(f, "{}: ", one_line(&self.path))?;
        }
        f.write_str(&one_line(&self.message))
    }
}

/// Never empty when it stands in an `Err`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Located>);

impl Problems {
    /// A single problem with a whole file.
    pub fn whole(file: &str, message: impl Into<String>) -> Problems {
        Problems(vec![Located { place: Place::Whole(file.to_owned()), path: String::new(), message: message.into() }])
    }

    /// `Ok` when there are none.
    pub fn into_result(self) -> Result<(), Problems> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

/// One problem a line, in the order of the file; at most [`SHOWN`], then how many more there are.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().take(SHOWN).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.0.len().checked_sub(SHOWN) {
            Some(more) if more > 0 => write!(f, "\n... and {more} more problems"),
            _ => Ok(()),
        }
    }
}
impl std::error::Error for Problems {}

/// Most warnings of one file that are logged one by one.
const WARNINGS: usize = 20;

/// Logs warnings, each with its place; a file of thousands of them is told in a few lines.
pub fn warn_each(warnings: &[Located]) {
    for Located { place, path, message } in warnings.iter().take(WARNINGS) {
        tracing::warn!(%place, path, problem = message, "config warning");
    }
    if warnings.len() > WARNINGS {
        tracing::warn!(more = warnings.len() - WARNINGS, "further config warnings: `edgequota check` prints them all");
    }
}

/// Most problems that [`Problems`] prints: a file of another kind must not flood the log.
pub const SHOWN: usize = 200;

/// Control characters would let a value of the file forge further lines of the log.
fn one_line(text: &str) -> std::borrow::Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect::<String>()
            .into()
    } else {
        text.into()
    }
}

/// A value as a problem may show it: quoted, at most 64 characters, user information of a URL taken out.
/// Only for values that the schema does not mark as secret.
pub(crate) fn shown(value: &str) -> String {
    let value = without_userinfo(value);
    let mut short: String = value.chars().take(64).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    format!("\"{}\"", one_line(&short))
}

/// `http://user:pw@host/` as `http://[REDACTED]@host/`.
pub(crate) fn without_userinfo(value: &str) -> std::borrow::Cow<'_, str> {
    let Some(start) = value.find("://").map(|i| i + 3) else {
        return value.into();
    };
    let end = value[start..].find(['/', '?', '#']).map_or(value.len(), |i| start + i);
    // A password may itself hold a slash that nobody escaped: then the last @ of the whole text is the border.
    match value[start..end].rfind('@').or_else(|| value[start..].rfind('@')) {
        Some(at) => format!("{}[REDACTED]{}", &value[..start], &value[start + at..]).into(),
        None => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(path: &str, message: &str) -> String {
        let place = Place::File { file: "c.yaml".to_owned(), line: 2, column: 3 };
        Located { place, path: path.to_owned(), message: message.to_owned() }.to_string()
    }

    #[test]
    fn a_problem_is_one_line_and_names_its_path_once() {
        assert_eq!(located("a.b", "unknown key"), "c.yaml:2:3: a.b: unknown key");
        assert_eq!(located("a.b", "a.b is required"), "c.yaml:2:3: a.b is required");
        assert_eq!(located("a.b", "a.b: no"), "c.yaml:2:3: a.b: no");
        assert_eq!(located("a.b", "a.bc is odd"), "c.yaml:2:3: a.b: a.bc is odd");
        assert_eq!(located("", "all wrong"), "c.yaml:2:3: all wrong");
        assert_eq!(located("a\nb", "c\n\u{1b}[0m"), "c.yaml:2:3: a\\nb: c\\n\\u{1b}[0m");
    }

    #[test]
    fn many_problems_are_cut_off_with_their_number() {
        let one = Problems::whole("c.yaml", "x").0;
        let many = Problems(one.iter().cycle().take(SHOWN + 7).cloned().collect()).to_string();
        assert_eq!(many.lines().count(), SHOWN + 1);
        assert!(many.ends_with("... and 7 more problems"));
    }

    #[test]
    fn shown_values_are_short_and_hold_no_user_information() {
        assert_eq!(shown("a\nb"), "\"a\\nb\"");
        assert_eq!(shown(&"é".repeat(100)), format!("\"{}…\"", "é".repeat(64)));
        assert_eq!(shown("http://u:p@h/x@y"), "\"http://[REDACTED]@h/x@y\"");
        assert_eq!(shown("http://u:p/q@h"), "\"http://[REDACTED]@h\"");
        assert_eq!(shown("http://h/x"), "\"http://h/x\"");
    }
}
