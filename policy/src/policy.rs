//! The compiled policy.
use std::sync::Arc;

use crate::{Backend, Limit, PolicySpec, Problem, RequestView, route::Matched};

/// Immutable, compiled from one spec.
#[derive(Debug)]
pub struct Policy {}

impl Policy {
    /// Compiles a *resolved* spec. All problems at once.
    pub fn compile(_spec: &PolicySpec) -> Result<Policy, Vec<Problem>> {
        todo!()
    }
    /// The route of a request; None: no route and no default backend (404). Never allocates.
    pub fn route(&self, _request: &RequestView<'_>) -> Option<Matched<'_>> {
        todo!()
    }
    /// All limits, for metrics and the API.
    pub fn limits(&self) -> &[Arc<Limit>] {
        todo!()
    }
    /// All backends.
    pub fn backends(&self) -> &[Arc<Backend>] {
        todo!()
    }
    /// `rate_limit.max_tenant_labels`.
    pub fn max_tenant_labels(&self) -> usize {
        todo!()
    }
}
