//! Counting: one `decide` for both planes (the data plane spends, the control plane looks), and the stores it
//! counts in.
//!
//! [`Decider::spend`] builds a [`store::Plan`] from what is asked, a store answers it, and the answer becomes a
//! [`Decision`]; when the store does not answer in time, the failure policies decide (`failure`).

pub mod bucket;
pub mod clock;
pub mod counters;
pub mod decision;
mod failure;
pub mod metrics;
mod plans;
pub mod store;

pub use counters::{Counters, Decider, FleetSize};
pub use decision::{AllowedBy, Ask, Decision, LimitState, Refusal, Verdict};
