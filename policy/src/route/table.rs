//! Routes of one host: exact paths, prefixes, patterns, and those without a path condition.

use std::collections::HashMap;

use super::{choices::Choices, condition::Conditions, pattern::PathKey, regexes, regexes::Regexes};
use crate::RequestView;

#[derive(Debug, Default)]
pub(crate) struct Table {
    exact: HashMap<Box<str>, Choices>,
    prefix: HashMap<Box<str>, Choices>,
    /// Length of the longest prefix: no longer part of a path is looked up.
    longest_prefix: usize,
    regexes: Option<Regexes>,
    any: Choices,
}

/// Collects routes, as indices into the router's list, before the table is built.
#[derive(Debug, Default)]
pub(crate) struct TableBuilder {
    exact: HashMap<String, Vec<u32>>,
    prefix: HashMap<String, Vec<u32>>,
    /// By pattern and number of conditions.
    patterns: HashMap<(String, usize), Vec<u32>>,
    any: Vec<u32>,
}

impl TableBuilder {
    pub(crate) fn add(&mut self, path: PathKey, conditions: usize, route: u32) {
        let list = match path {
            PathKey::Exact(path) => self.exact.entry(path).or_default(),
            PathKey::Prefix(path) => self.prefix.entry(path).or_default(),
            PathKey::Regex(pattern) => self.patterns.entry((pattern, conditions)).or_default(),
            PathKey::Any => &mut self.any,
        };
        list.push(route);
    }

    pub(crate) fn build(self, conditions: &[Conditions]) -> Result<Table, String> {
        let mut patterns: Vec<((String, usize), Vec<u32>)> = self.patterns.into_iter().collect();
        // Longer first, then more conditions. Of two different ones that are still equal at most one can match.
        patterns.sort_by(|((a, x), _), ((b, y), _)| b.len().cmp(&a.len()).then(y.cmp(x)).then(a.cmp(b)));
        let patterns = patterns.into_iter().map(|((pattern, _), routes)| (pattern, routes)).collect();
        let choices = |lists: HashMap<String, Vec<u32>>| -> HashMap<Box<str>, Choices> {
            lists
                .into_iter()
                .map(|(path, routes)| (path.into_boxed_str(), Choices::build(routes, conditions)))
                .collect()
        };
        Ok(Table {
            longest_prefix: self.prefix.keys().map(String::len).max().unwrap_or(0),
            exact: choices(self.exact),
            prefix: choices(self.prefix),
            regexes: regexes::build(patterns, conditions)?,
            any: Choices::build(self.any, conditions),
        })
    }
}

impl Table {
    /// The most specific route whose conditions hold, and how its path matched.
    pub(crate) fn find(&self, request: &RequestView<'_>, conditions: &[Conditions]) -> Option<(u32, &'static str)> {
        if !self.exact.is_empty()
            && let Some(choices) = self.exact.get(request.path)
            && let Some(route) = choices.find(request, conditions)
        {
            return Some((route, "exact"));
        }
        if !self.prefix.is_empty()
            && let Some(route) =
                self.prefixes(request.path).find_map(|prefix| self.prefix.get(prefix)?.find(request, conditions))
        {
            return Some((route, "prefix"));
        }
        if let Some(regexes) = &self.regexes
            && let Some(route) = regexes.find(request, conditions)
        {
            return Some((route, "regex"));
        }
        self.any.find(request, conditions).map(|route| (route, "any"))
    }

    /// The path cut at its segment boundaries, longest first, none longer than any prefix of the table.
    fn prefixes<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        let whole = (path.len() <= self.longest_prefix).then_some(path);
        let bytes = path.as_bytes();
        let upto = bytes.len().min(self.longest_prefix + 1);
        let cuts = (0..upto).rev().filter(move |at| bytes.get(*at) == Some(&b'/')).filter_map(move |at| path.get(..at));
        whole.into_iter().chain(cuts)
    }
}
