//! From a checked spec to the compiled policy.

use std::{collections::HashMap, sync::Arc};

use super::{Policy, Target};
use crate::{
    Backend, Limit, PolicySpec, Problem,
    limit::override_numbers,
    numbers::NumbersError,
    route::router::Router,
    spec::{DEFAULT, LimitValues, RouteSpec, further_name},
};

pub(super) fn build(spec: &PolicySpec) -> Result<Policy, Vec<Problem>> {
    let router = Router::build(&spec.routes)
        .map_err(|message| one("routes", format!("routes: the path_regex patterns cannot be used: {message}")))?;
    let backends = Backends::compile(spec);
    let limits = Limits::compile(spec).map_err(|error| one("", error.to_string()))?;
    let mut problems = Vec::new();
    let routes = spec.routes.iter().enumerate().filter_map(|(i, route)| {
        let Some(backend) = backends.get(&route.backend) else {
            let path = format!("routes[{i}].backend");
            problems.push(Problem { message: format!("{path}: unknown backend {:?}", route.backend), path });
            return None;
        };
        let route_limits = limits.of(route);
        Some(Target { route: Some(Arc::from(route.name.as_str())), backend: backend.clone(), limits: route_limits })
    });
    let routes: Vec<Target> = routes.collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let fallback = backends.get(DEFAULT).map(|backend| Target {
        route: None,
        backend: backend.clone(),
        limits: limits.get(DEFAULT).cloned().into_iter().collect(),
    });
    let max_tenant_labels = usize::try_from(spec.rate_limit.max_tenant_labels).unwrap_or(usize::MAX);
    Ok(Policy { router, routes, fallback, limits: limits.all, backends: backends.all, max_tenant_labels })
}

fn one(path: &str, message: String) -> Vec<Problem> {
    vec![Problem { path: path.to_owned(), message }]
}

struct Backends<'s> {
    all: Vec<Arc<Backend>>,
    by_name: HashMap<&'s str, usize>,
}

impl<'s> Backends<'s> {
    fn compile(spec: &'s PolicySpec) -> Self {
        let mut found = Backends { all: Vec::new(), by_name: HashMap::new() };
        found.add(DEFAULT, Backend::compile(DEFAULT, &spec.backend));
        for named in &spec.backends {
            found.add(&named.name, Backend::compile(&named.name, &named.plain()));
        }
        found
    }
    fn add(&mut self, name: &'s str, backend: Option<Backend>) {
        if let Some(backend) = backend {
            self.by_name.insert(name, self.all.len());
            self.all.push(Arc::new(backend));
        }
    }
    /// Empty: the default one.
    fn get(&self, name: &str) -> Option<&Arc<Backend>> {
        let name = if name.is_empty() { DEFAULT } else { name };
        self.by_name.get(name).and_then(|index| self.all.get(*index))
    }
}

struct Limits {
    all: Vec<Arc<Limit>>,
    by_name: HashMap<Arc<str>, usize>,
}

/// Limits while overrides are still added.
#[derive(Default)]
struct Growing {
    limits: Vec<(Limit, LimitValues)>,
    by_name: HashMap<Arc<str>, usize>,
}

impl Growing {
    fn add(&mut self, spec: &PolicySpec, name: &str, values: LimitValues) -> Result<(), NumbersError> {
        if let Some(limit) = Limit::compile(name, &values, &spec.rate_limit)? {
            self.by_name.insert(limit.name.clone(), self.limits.len());
            self.limits.push((limit, values));
        }
        Ok(())
    }
}

impl Limits {
    fn compile(spec: &PolicySpec) -> Result<Limits, NumbersError> {
        let base = &spec.rate_limit;
        let mut growing = Growing::default();
        if base.average > 0 {
            growing.add(spec, DEFAULT, LimitValues::of_default(base))?;
        }
        for route in &spec.routes {
            if let Some(limit) = &route.rate_limit {
                growing.add(spec, &route.name, LimitValues::of(limit, base))?;
            }
            for limit in &route.limits {
                let name = further_name(&route.name, &limit.name);
                growing.add(spec, &name, LimitValues::of(&limit.plain(), base))?;
            }
        }
        let Growing { mut limits, by_name } = growing;
        for (index, over) in spec.overrides.iter().enumerate() {
            let place = by_name.get(over.limit.as_str()).copied();
            // A known limit that is disabled has no place here, and needs no numbers.
            if let Some((limit, values)) = place.and_then(|place| limits.get_mut(place)) {
                let numbers = if over.block { None } else { Some(override_numbers(over, values)?) };
                limit.add_override(&over.keys, index, numbers);
            }
        }
        let all = limits.into_iter().map(|(limit, _)| Arc::new(limit)).collect();
        Ok(Limits { all, by_name })
    }

    fn get(&self, name: &str) -> Option<&Arc<Limit>> {
        self.by_name.get(name).and_then(|index| self.all.get(*index))
    }

    /// The route's own or the default one, then its further ones.
    fn of(&self, route: &RouteSpec) -> Box<[Arc<Limit>]> {
        let first = if route.rate_limit.is_some() { &route.name } else { DEFAULT };
        let further = route.limits.iter().filter_map(|limit| self.get(&further_name(&route.name, &limit.name)));
        self.get(first).into_iter().chain(further).cloned().collect()
    }
}
