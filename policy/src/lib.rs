//! The policy spec (what a person writes) and the policy (what is enforced).
//!
//! Pure: no I/O, no clock, no async, no YAML. A [`PolicySpec`] is the written form; [`Policy::compile`] makes
//! the immutable form that both planes use: the data plane to enforce, the control plane to explain.
//!
//! The way of a policy through this crate: [`spec`] (each setting declared once) -> `check` (all mistakes at once) ->
//! [`PolicySpec::resolved`] (inheritance written out) -> [`PolicySpec::canonical`] (the wire) -> [`Policy::compile`].
//! The way of a request: [`path`] and [`host`] (one spelling) -> [`Policy::route`] -> [`Limit::subject`] ->
//! [`Limit::effective`] -> [`Limit::counter_key`].

pub mod backend;
mod check;
pub mod host;
pub mod limit;
pub mod numbers;
pub mod path;
pub mod policy;
pub mod problem;
pub mod request;
pub mod route;
pub mod snapshot;
pub mod spec;
pub mod units;

pub use backend::Backend;
pub use host::normalise_host;
pub use limit::Limit;
pub use numbers::Numbers;
pub use policy::Policy;
pub use problem::Problem;
pub use request::{Caller, HeaderLines, RequestView};
pub use snapshot::{Hash, Snapshot, Version};
pub use spec::PolicySpec;
pub use units::GoDuration;
