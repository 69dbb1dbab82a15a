//! Routes of equal rank that can both match: which of them wins would be chance, so they are refused.

use std::collections::HashMap;

use http::HeaderName;

use super::{
    condition::Conditions,
    pattern::{HostKey, PathKey},
    regexes::Ends,
};
use crate::spec::RouteSpec;

/// More than this many is one mistake made many times.
const MOST_REPORTED: usize = 100;

/// Same host, same kind and length of path condition, as many further conditions: equal rank. Only patterns of equal
/// length can differ in it.
#[derive(PartialEq, Eq, Hash)]
struct Rank {
    host: HostKey,
    path: RankPath,
    conditions: usize,
}

#[derive(PartialEq, Eq, Hash)]
enum RankPath {
    Same(PathKey),
    RegexOfLength(usize),
}

/// Pairs of routes, earlier index first, that no rule puts in order. Each route is reported once.
pub(crate) fn find(routes: &[RouteSpec]) -> Vec<(usize, usize)> {
    let conditions: Vec<Conditions> = routes.iter().map(|route| Conditions::compile(&route.r#match)).collect();
    let mut ends: HashMap<&str, Option<Ends>> = HashMap::new();
    let mut groups: HashMap<Rank, Vec<usize>> = HashMap::with_capacity(routes.len());
    for (i, route) in routes.iter().enumerate() {
        let Ok(path) = PathKey::of(&route.r#match) else {
            continue;
        };
        for host in HostKey::all(&route.r#match) {
            let path = match &path {
                PathKey::Regex(pattern) => RankPath::RegexOfLength(pattern.len()),
                other => RankPath::Same(other.clone()),
            };
            let count = conditions.get(i).map_or(0, Conditions::count);
            groups.entry(Rank { host, path, conditions: count }).or_default().push(i);
        }
    }
    let mut found: Vec<(usize, usize)> = Vec::new();
    for members in groups.into_values().filter(|members| members.len() > 1) {
        let mut rivals = Rivals::of(&members, &conditions);
        for later in members {
            let earlier = rivals.before(later).find(|&earlier| {
                !excluded(&conditions, earlier, later) && !patterns_exclude(routes, &mut ends, earlier, later)
            });
            found.extend(earlier.map(|earlier| (earlier, later)));
            rivals.add(later);
        }
    }
    found.sort_by_key(|&(earlier, later)| (later, earlier));
    found.dedup_by_key(|&mut (_, later)| later);
    found.truncate(MOST_REPORTED);
    found
}

/// Those of equal rank that a route must be compared with. Routes that ask one header for different values (one route a
/// tenant, thousands of them) exclude each other, and need not be.
struct Rivals<'c> {
    conditions: &'c [Conditions],
    header: Option<&'c HeaderName>,
    by_value: HashMap<&'c [u8], Vec<usize>>,
    rest: Vec<usize>,
    all: Vec<usize>,
}

impl<'c> Rivals<'c> {
    fn of(members: &[usize], conditions: &'c [Conditions]) -> Self {
        let header = members.iter().find_map(|member| conditions.get(*member)?.exact_header());
        Rivals { conditions, header, by_value: HashMap::new(), rest: Vec::new(), all: Vec::new() }
    }

    fn value(&self, route: usize) -> Option<&'c [u8]> {
        self.conditions.get(route)?.exact_value(self.header?)
    }

    fn before(&self, route: usize) -> impl Iterator<Item = usize> {
        let (same, rest): (&[usize], &[usize]) = match self.value(route) {
            Some(value) => (self.by_value.get(value).map_or(&[], |list| list), &self.rest),
            None => (&self.all, &[]),
        };
        same.iter().chain(rest).copied()
    }

    fn add(&mut self, route: usize) {
        self.all.push(route);
        match self.value(route) {
            Some(value) => self.by_value.entry(value).or_default().push(route),
            None => self.rest.push(route),
        }
    }
}

fn excluded(conditions: &[Conditions], a: usize, b: usize) -> bool {
    matches!((conditions.get(a), conditions.get(b)), (Some(a), Some(b)) if a.exclude(b))
}

fn patterns_exclude<'r>(
    routes: &'r [RouteSpec],
    ends: &mut HashMap<&'r str, Option<Ends>>,
    a: usize,
    b: usize,
) -> bool {
    let pattern = |i: usize| routes.get(i).map_or("", |route| route.r#match.path_regex.as_str());
    let (a, b) = (pattern(a), pattern(b));
    if a == b {
        return false;
    }
    for pattern in [a, b] {
        ends.entry(pattern).or_insert_with(|| Ends::of(pattern));
    }
    matches!((ends.get(a), ends.get(b)), (Some(Some(a)), Some(Some(b))) if a.exclude(b))
}
