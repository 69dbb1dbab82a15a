//! Routes by regular expression: one automaton for all patterns of a table, searched once a request.

use regex_automata::{Anchored, Input, meta, nfa::thompson, util::syntax};
use regex_syntax::hir::literal::{ExtractKind, Extractor, Seq};

use super::{choices::Choices, condition::Conditions};
use crate::RequestView;

/// Most bytes that one pattern may compile to.
const MOST_PATTERN_BYTES: usize = 256 << 10;
/// Most bytes that all patterns of a table may compile to.
const MOST_TABLE_BYTES: usize = 32 << 20;

/// Patterns of one host table, most specific (longest) first.
#[derive(Debug)]
pub(crate) struct Regexes {
    /// All patterns. It answers with the first in order that matches, as alternatives of one pattern would.
    all: meta::Regex,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// Routes with this pattern and equally many conditions.
    routes: Choices,
    /// The pattern by itself, where an earlier one can match without its conditions holding.
    own: Option<meta::Regex>,
}

/// Paths are octets, and a path has no line breaks that `.` should stop at or classes beyond ASCII.
fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

fn builder(most_bytes: usize) -> meta::Builder {
    let mut builder = meta::Builder::new();
    let config = meta::Config::new()
        .nfa_size_limit(Some(most_bytes))
        .utf8_empty(false)
        .which_captures(thompson::WhichCaptures::Implicit);
    builder.configure(config).syntax(syntax());
    builder
}

/// The whole path, not a part of it.
fn anchored(pattern: &str) -> String {
    format!(r"\A(?:{pattern})\z")
}

/// Why a pattern cannot be used.
pub(crate) fn problem(pattern: &str) -> Option<String> {
    let tidy = |error: &dyn std::fmt::Display| {
        // The parser draws an arrow under the place over several lines; the last line says what is wrong.
        let text = error.to_string();
        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    };
    // By itself first: `a)(b` would become well-formed inside the anchoring group.
    if let Err(error) = syntax::parse_with(pattern, &syntax()) {
        return Some(tidy(&error));
    }
    let hir = match syntax::parse_with(&anchored(pattern), &syntax()) {
        Ok(hir) => hir,
        Err(error) => return Some(tidy(&error)),
    };
    let config = thompson::Config::new()
        .utf8(false)
        .nfa_size_limit(Some(MOST_PATTERN_BYTES))
        .which_captures(thompson::WhichCaptures::Implicit);
    match thompson::Compiler::new().configure(config).build_from_hir(&hir) {
        Ok(_) => None,
        Err(_) => Some(format!("the pattern becomes larger than {} KiB; repeat less", MOST_PATTERN_BYTES >> 10)),
    }
}

/// Builds the table from (pattern, routes), in order. None: nothing to match.
pub(crate) fn build(patterns: Vec<(String, Vec<u32>)>, conditions: &[Conditions]) -> Result<Option<Regexes>, String> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let texts: Vec<String> = patterns.iter().map(|(pattern, _)| anchored(pattern)).collect();
    let all = builder(MOST_TABLE_BYTES)
        .build_many(&texts)
        .map_err(|_| format!("together the patterns become larger than {} MiB", MOST_TABLE_BYTES >> 20))?;
    let always = |routes: &[u32]| {
        routes.iter().any(|route| conditions.get(*route as usize).is_some_and(|found| found.count() == 0))
    };
    let mut rules = Vec::with_capacity(patterns.len());
    let mut may_fall_through = false;
    for ((_, routes), text) in patterns.into_iter().zip(&texts) {
        let own = if may_fall_through {
            Some(builder(MOST_PATTERN_BYTES * 2).build(text).map_err(|error| error.to_string())?)
        } else {
            None
        };
        may_fall_through |= !always(&routes);
        rules.push(Rule { routes: Choices::build(routes, conditions), own });
    }
    Ok(Some(Regexes { all, rules }))
}

impl Regexes {
    pub(crate) fn find(&self, request: &RequestView<'_>, conditions: &[Conditions]) -> Option<u32> {
        let input = Input::new(request.path).anchored(Anchored::Yes);
        let first = self.all.search_half(&input)?.pattern().as_usize();
        for (i, rule) in self.rules.iter().enumerate().skip(first) {
            let matches = i == first || rule.own.as_ref().is_some_and(|own| own.is_match(input.clone()));
            if !matches {
                continue;
            }
            let found = rule.routes.find(request, conditions);
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Literals that every match begins and ends with.
pub(crate) struct Ends {
    prefixes: Seq,
    suffixes: Seq,
}

impl Ends {
    pub(crate) fn of(pattern: &str) -> Option<Ends> {
        let hir = syntax::parse_with(pattern, &syntax()).ok()?;
        let mut extractor = Extractor::new();
        // Small sets: they are compared pairwise.
        extractor.limit_total(16).limit_class(16);
        let prefixes = extractor.extract(&hir);
        let suffixes = extractor.kind(ExtractKind::Suffix).extract(&hir);
        Some(Ends { prefixes, suffixes })
    }

    /// No path can match both: their beginnings differ, or their ends do.
    pub(crate) fn exclude(&self, other: &Ends) -> bool {
        let differ = |a: &Seq, b: &Seq, same: fn(&[u8], &[u8]) -> bool| match (a.literals(), b.literals()) {
            (Some(a), Some(b)) => a
                .iter()
                .all(|x| b.iter().all(|y| !same(x.as_bytes(), y.as_bytes()) && !same(y.as_bytes(), x.as_bytes()))),
            // No finite set of literals: any beginning is possible.
            _ => false,
        };
        differ(&self.prefixes, &other.prefixes, |a, b| a.starts_with(b))
            || differ(&self.suffixes, &other.suffixes, |a, b| a.ends_with(b))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn patterns_that_cannot_be_used_say_why() {
        for (pattern, why) in [
            ("a)(b", "unopened group"),
            ("[a", "unclosed character class"),
            ("(?x)a # b", "unclosed group"),
            ("(a{1000}){1000}", "larger than 256 KiB"),
            (r"\p{Greek}", "Unicode"),
        ] {
            let found = problem(pattern).unwrap_or_default();
            assert!(found.contains(why), "{pattern}: {found}");
        }
        assert_eq!(problem(r"/v[0-9]+/(users|groups)/\w+"), None);
    }

    #[test]
    fn literal_ends_prove_that_patterns_exclude_each_other() {
        let exclude = |a: &str, b: &str| Ends::of(a).unwrap().exclude(&Ends::of(b).unwrap());
        assert!(exclude("/a/[0-9]+", "/b/[0-9]+"));
        assert!(exclude("/(a|b)/[0-9]+", "/(c|d)/[0-9]+"));
        assert!(exclude("/[a-z]+/edit", "/[a-z]+/view"));
        assert!(exclude("/a/[0-9]+", "/a/[a-f]+"));
        assert!(!exclude("/a/[0-9]+", "/a/[0-9a-f]+"));
        assert!(!exclude("/a.*", "/ab.*"));
        assert!(!exclude(".*x", ".*x|y"));
        assert!(!exclude("(?i)/a/[0-9]+", "/A/[0-9]+"));
    }
}
