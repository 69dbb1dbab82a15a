//! Counting: one `decide` for both planes (the data plane spends, the control plane looks), and the stores it
//! counts in.
//!
//! A worker's [`Spender`] builds a [`store::Plan`] from what is asked. What it knows or holds decides it, else a store
//! answers, and the answer becomes a [`Decision`]; when the store does not answer in time, the failure policies decide
//! (`failure`). A [`Decider`] asks the same of the store without spending.

pub mod bucket;
mod changes;
pub mod clock;
pub mod counters;
pub mod decider;
pub mod decision;
mod failure;
pub mod metrics;
mod plans;
pub mod report;
pub mod spender;
pub mod store;

pub use counters::{Counters, FleetSize};
pub use decider::Decider;
pub use decision::{AllowedBy, Ask, Decision, LimitState, Refusal, Verdict};
pub use spender::Spender;
