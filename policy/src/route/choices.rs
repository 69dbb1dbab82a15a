//! Routes that only their conditions tell apart. Many of them usually means one route a tenant, told by one header: those
//! are found by its value instead of one after the other.

use std::{cmp::Reverse, collections::HashMap};

use http::HeaderName;

use super::condition::Conditions;
use crate::RequestView;

/// Fewer are tried one after the other.
const WORTH_AN_INDEX: usize = 8;

/// Indices into the router's list; in each list those with most conditions come first.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    by_value: Option<ByValue>,
    /// All others.
    rest: Vec<u32>,
}

#[derive(Debug)]
struct ByValue {
    name: HeaderName,
    routes: HashMap<Box<[u8]>, Vec<u32>>,
}

impl Choices {
    pub(crate) fn build(mut routes: Vec<u32>, conditions: &[Conditions]) -> Choices {
        let of = |route: u32| conditions.get(route as usize);
        if routes.len() > 1 {
            routes.sort_by_key(|route| Reverse(of(*route).map_or(0, Conditions::count)));
        }
        let by_header = routes.iter().find_map(|route| of(*route)?.exact_header());
        let Some(name) = by_header.filter(|_| routes.len() >= WORTH_AN_INDEX) else {
            return Choices { by_value: None, rest: routes };
        };
        let mut index: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
        let mut rest = Vec::new();
        for route in routes {
            match of(route).and_then(|found| found.exact_value(name)) {
                Some(value) => index.entry(value.into()).or_default().push(route),
                None => rest.push(route),
            }
        }
        Choices { by_value: Some(ByValue { name: name.clone(), routes: index }), rest }
    }

    /// The route with most conditions of those whose conditions hold.
    pub(crate) fn find(&self, request: &RequestView<'_>, conditions: &[Conditions]) -> Option<u32> {
        let of = |route: u32| conditions.get(route as usize);
        let first =
            |routes: &[u32]| routes.iter().copied().find(|route| of(*route).is_some_and(|found| found.hold(request)));
        let among_rest = first(&self.rest);
        let by_value = self.by_value.as_ref().and_then(|index| {
            let value = request.headers.line(&index.name, 0)?;
            first(index.routes.get(value)?)
        });
        // Of equally many conditions at most one can hold, so the order of the two does not matter.
        let count = |route: &u32| of(*route).map_or(0, Conditions::count);
        by_value.into_iter().chain(among_rest).max_by_key(count)
    }
}
