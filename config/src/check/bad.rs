//! Which problems are only consequences of others.

use edgequota_policy::Problem;

use super::suggest;
use crate::{problems::Located, schema::path};

/// Paths that have a problem already, or whose value was probably written under another name. What a rule says about
/// them, or because of them, would only confuse.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bad(Vec<String>);

impl Bad {
    pub(crate) fn of(problems: &[Located]) -> Bad {
        let mut bad = Bad::default();
        problems.iter().for_each(|problem| bad.add(problem));
        bad
    }

    pub(crate) fn add(&mut self, problem: &Located) {
        // The empty path is the whole file: it explains nothing in particular.
        if problem.path.is_empty() {
            return;
        }
        if let Some(sibling) = suggest::meant(&problem.message) {
            let parent = path::parent(&problem.path);
            self.0.push(path::join(parent, sibling));
        }
        self.0.push(problem.path.clone());
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

    fn problem(path: &str, message: &str) -> Located {
        let place = crate::Place::Whole("x.yaml".to_owned());
        Located { place, path: path.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn consequences_are_told_from_other_problems() {
        let guess = suggest::guess("nme", &["name"], "backends[0]");
        let bad = Bad::of(&[
            problem("redis.mode", "wrong"),
            problem("routes[1]", "wrong"),
            problem("", "wrong"),
            problem("backends[0].nme", &guess),
            problem("[\"odd…\"]", &suggest::guess("sever", &["server"], "")),
        ]);
        let explains =
            |path: &str, message: &str| bad.explains(&Problem { path: path.to_owned(), message: message.to_owned() });
        assert!(explains("redis.mode", ""));
        assert!(explains("routes[1].match.hosts[0]", ""));
        assert!(explains("x", "not with redis.mode: it is odd"));
        assert!(explains("backends[0].name", "is required"));
        assert!(explains("server.address", ""));
        assert!(!explains("backends[1].name", "is required"));
        assert!(!explains("redis.modes", "cache_redis.mode and redis.modes and x.redis.mode"));
        assert!(!explains("routes[10]", ""));
        assert!(!explains("redis", ""));
    }
}
