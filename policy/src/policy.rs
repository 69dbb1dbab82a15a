//! The compiled policy.

mod build;

use std::sync::Arc;

use crate::{
    Backend, Limit, PolicySpec, Problem, RequestView,
    route::{Matched, MatchedBy, router::Router},
};

/// Immutable, compiled from one spec.
#[derive(Debug)]
pub struct Policy {
    router: Router,
    /// In the order of the spec.
    routes: Vec<Target>,
    /// For what no route takes. None: 404.
    fallback: Option<Target>,
    limits: Vec<Arc<Limit>>,
    backends: Vec<Arc<Backend>>,
    max_tenant_labels: usize,
}

/// What happens to a request that a route (or none) takes.
#[derive(Debug)]
struct Target {
    /// None: the default backend.
    route: Option<Arc<str>>,
    backend: Arc<Backend>,
    limits: Box<[Arc<Limit>]>,
}

impl Target {
    fn matched(&self, why: MatchedBy) -> Matched<'_> {
        Matched { route: self.route.as_ref(), backend: &self.backend, limits: &self.limits, why }
    }
}

impl Policy {
    /// Compiles a *resolved* spec. All problems at once; features that are not built yet are problems here.
    pub fn compile(spec: &PolicySpec) -> Result<Policy, Vec<Problem>> {
        let mut problems = spec.problems();
        problems.extend(spec.not_built());
        if !problems.is_empty() {
            return Err(problems);
        }
        build::build(spec)
    }
    /// The route of a request; None: no route and no default backend (404). Never allocates.
    pub fn route(&self, request: &RequestView<'_>) -> Option<Matched<'_>> {
        if let Some((index, why)) = self.router.find(request)
            && let Some(target) = self.routes.get(index)
        {
            return Some(target.matched(why));
        }
        let why = MatchedBy { host: "default", path: "any", conditions: 0 };
        self.fallback.as_ref().map(|target| target.matched(why))
    }
    /// All limits, for metrics and the API; the default one first. Disabled ones are absent.
    pub fn limits(&self) -> &[Arc<Limit>] {
        &self.limits
    }
    /// The default limit; None when it is off.
    pub fn default_limit(&self) -> Option<&Arc<Limit>> {
        self.limits.first().filter(|limit| &*limit.name == crate::spec::DEFAULT)
    }
    /// A limit by name: `default`, `search-api`, `search-api/per-day`.
    pub fn limit(&self, name: &str) -> Option<&Arc<Limit>> {
        self.limits.iter().find(|limit| &*limit.name == name)
    }
    /// All backends, the default one first.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }
    /// Names of the routes, in the order they are written.
    pub fn route_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.routes.iter().filter_map(|target| target.route.as_ref())
    }
    /// `rate_limit.max_tenant_labels`.
    pub fn max_tenant_labels(&self) -> usize {
        self.max_tenant_labels
    }
}
