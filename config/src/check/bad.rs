//! Which problems are only consequences of others.

use edgequota_policy::Problem;

use crate::schema::path;

/// Paths that have a problem already, or whose value was probably written under another name. What a rule says about
/// them, or because of them, would only confuse.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bad(Vec<String>);

impl Bad {
    pub(crate) fn add(&mut self, path: &str) {
        // The empty path is the whole file: it explains nothing in particular.
        if !path.is_empty() {
            self.0.push(path.to_owned());
        }
    }

    /// Whether `path` is one of them, or a part of one.
    pub(crate) fn covers(&self, path: &str) -> bool {
        self.0.iter().any(|bad| path::covers(bad, path))
    }

    /// Whether the problem is about one of them, or names one as its reason.
    pub(crate) fn explains(&self, problem: &Problem) -> bool {
        self.covers(&problem.path) || self.0.iter().any(|bad| names(&problem.message, bad))
    }
}

/// Whether `path` stands in `text` as a whole.
fn names(text: &str, path: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    text.match_indices(path).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let after = text[at + found.len()..].chars().next();
        !before.is_some_and(inside) && !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consequences_are_told_from_other_problems() {
        let mut bad = Bad::default();
        bad.add("redis.mode");
        bad.add("routes[1]");
        bad.add("");
        let explains = |path: &str, message: &str| {
            bad.explains(&Problem {
                path: path.to_owned(),
                message: message.to_owned(),
            })
        };
        assert!(explains("redis.mode", ""));
        assert!(explains("routes[1].match.hosts[0]", ""));
        assert!(explains("x", "not with redis.mode: it is odd"));
        assert!(!explains(
            "redis.modes",
            "cache_redis.mode and redis.modes and x.redis.mode"
        ));
        assert!(!explains("routes[10]", ""));
        assert!(!explains("redis", ""));
    }
}
