//! Routes of one host: exact paths, prefixes, patterns, and those without a path condition.

use std::collections::HashMap;

use super::{condition::Conditions, pattern::PathKey, regexes, regexes::Regexes};
use crate::RequestView;

/// Routes are indices into the router's list; in each list those with most conditions come first.
#[derive(Debug, Default)]
pub(crate) struct Table {
    exact: HashMap<Box<str>, Vec<u32>>,
    prefix: HashMap<Box<str>, Vec<u32>>,
    /// Length of the longest prefix: no longer part of a path is looked up.
    longest_prefix: usize,
    regexes: Option<Regexes>,
    any: Vec<u32>,
}

/// Collects routes before the table is built.
#[derive(Debug, Default)]
pub(crate) struct TableBuilder {
    table: Table,
    /// By pattern and number of conditions.
    patterns: HashMap<(String, usize), Vec<u32>>,
}

impl TableBuilder {
    pub(crate) fn add(&mut self, path: PathKey, conditions: usize, route: u32) {
        let table = &mut self.table;
        match path {
            PathKey::Exact(path) => table
                .exact
                .entry(path.into_boxed_str())
                .or_default()
                .push(route),
            PathKey::Prefix(path) => {
                table.longest_prefix = table.longest_prefix.max(path.len());
                table
                    .prefix
                    .entry(path.into_boxed_str())
                    .or_default()
                    .push(route);
            }
            PathKey::Regex(pattern) => self
                .patterns
                .entry((pattern, conditions))
                .or_default()
                .push(route),
            PathKey::Any => table.any.push(route),
        }
    }

    pub(crate) fn build(self, conditions: &[Conditions]) -> Result<Table, String> {
        let count = |route: &u32| conditions.get(*route as usize).map_or(0, Conditions::count);
        let sort = |routes: &mut Vec<u32>| {
            if routes.len() > 1 {
                routes.sort_by_key(|route| std::cmp::Reverse(count(route)));
            }
        };
        let mut table = self.table;
        table
            .exact
            .values_mut()
            .chain(table.prefix.values_mut())
            .for_each(sort);
        sort(&mut table.any);
        let mut patterns: Vec<((String, usize), Vec<u32>)> = self.patterns.into_iter().collect();
        // Longer first, then more conditions. Of two different ones that are still equal at most one can match.
        patterns.sort_by(|((a, x), _), ((b, y), _)| {
            b.len().cmp(&a.len()).then(y.cmp(x)).then(a.cmp(b))
        });
        let patterns = patterns
            .into_iter()
            .map(|((pattern, _), routes)| (pattern, routes))
            .collect();
        table.regexes = regexes::build(patterns, conditions)?;
        Ok(table)
    }
}

impl Table {
    /// The most specific route whose conditions hold, and how its path matched.
    pub(crate) fn find(
        &self,
        request: &RequestView<'_>,
        conditions: &[Conditions],
    ) -> Option<(u32, &'static str)> {
        let first = |routes: &[u32]| {
            routes.iter().copied().find(|route| {
                conditions
                    .get(*route as usize)
                    .is_some_and(|found| found.hold(request))
            })
        };
        if !self.exact.is_empty()
            && let Some(route) = self
                .exact
                .get(request.path)
                .and_then(|routes| first(routes))
        {
            return Some((route, "exact"));
        }
        if !self.prefix.is_empty()
            && let Some(route) = self
                .prefixes(request.path)
                .find_map(|prefix| first(self.prefix.get(prefix)?))
        {
            return Some((route, "prefix"));
        }
        if let Some(route) = self
            .regexes
            .as_ref()
            .and_then(|regexes| regexes.find(request, conditions))
        {
            return Some((route, "regex"));
        }
        first(&self.any).map(|route| (route, "any"))
    }

    /// The path cut at its segment boundaries, longest first, none longer than any prefix of the table.
    fn prefixes<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        let whole = (path.len() <= self.longest_prefix).then_some(path);
        let bytes = path.as_bytes();
        let upto = bytes.len().min(self.longest_prefix + 1);
        let cuts = (0..upto)
            .rev()
            .filter(move |at| bytes.get(*at) == Some(&b'/'))
            .filter_map(move |at| path.get(..at));
        whole.into_iter().chain(cuts)
    }
}
