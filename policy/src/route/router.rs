//! Host tables, most specific first. A table without a match falls through to the next broader one.

use std::collections::HashMap;

use super::{
    MatchedBy,
    condition::Conditions,
    pattern::{HostKey, PathKey},
    table::{Table, TableBuilder},
};
use crate::{RequestView, spec::RouteSpec};

/// Finds the route of a request. Allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Router {
    exact: HashMap<Box<str>, Table>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Table>,
    longest_wildcard: usize,
    any: Table,
    /// By route.
    conditions: Vec<Conditions>,
}

impl Router {
    /// `routes` are checked. The error is about the path patterns of all of them.
    pub(crate) fn build(routes: &[RouteSpec]) -> Result<Router, String> {
        let conditions: Vec<Conditions> = routes.iter().map(|route| Conditions::compile(&route.r#match)).collect();
        let mut exact: HashMap<String, TableBuilder> = HashMap::new();
        let mut wildcard: HashMap<String, TableBuilder> = HashMap::new();
        let mut any = TableBuilder::default();
        for ((index, route), own) in (0u32..).zip(routes).zip(&conditions) {
            let Ok(path) = PathKey::of(&route.r#match) else {
                continue;
            };
            for host in HostKey::all(&route.r#match) {
                let table = match host {
                    HostKey::Exact(name) => exact.entry(name).or_default(),
                    HostKey::Wildcard(name) => wildcard.entry(name).or_default(),
                    HostKey::Any => &mut any,
                };
                table.add(path.clone(), own.count(), index);
            }
        }
        let longest_wildcard = wildcard.keys().map(String::len).max().unwrap_or(0);
        let build = |tables: HashMap<String, TableBuilder>| -> Result<HashMap<Box<str>, Table>, String> {
            tables.into_iter().map(|(name, table)| Ok((name.into_boxed_str(), table.build(&conditions)?))).collect()
        };
        let (exact, wildcard, any) = (build(exact)?, build(wildcard)?, any.build(&conditions)?);
        Ok(Router { exact, wildcard, longest_wildcard, any, conditions })
    }

    pub(crate) fn find(&self, request: &RequestView<'_>) -> Option<(usize, MatchedBy)> {
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(request.host).and_then(|table| self.in_table(table, request, "exact"))
        {
            return Some(found);
        }
        if !self.wildcard.is_empty()
            && let Some(found) = self.in_wildcards(request)
        {
            return Some(found);
        }
        self.in_table(&self.any, request, "any")
    }

    fn in_wildcards(&self, request: &RequestView<'_>) -> Option<(usize, MatchedBy)> {
        let mut rest = request.host;
        while let Some((_, parent)) = rest.split_once('.') {
            if parent.len() <= self.longest_wildcard
                && let Some(table) = self.wildcard.get(parent)
                && let Some(found) = self.in_table(table, request, "wildcard")
            {
                return Some(found);
            }
            rest = parent;
        }
        None
    }

    fn in_table(&self, table: &Table, request: &RequestView<'_>, host: &'static str) -> Option<(usize, MatchedBy)> {
        let (route, path) = table.find(request, &self.conditions)?;
        let index = route as usize;
        let conditions = self.conditions.get(index).map_or(0, Conditions::count);
        Some((index, MatchedBy { host, path, conditions }))
    }
}
