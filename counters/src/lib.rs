//! Counting: one `decide` for both planes (the data plane spends, the control plane looks), and the stores it
//! counts in.

pub mod bucket;
pub mod counters;
pub mod decision;
pub mod metrics;
pub mod store;

pub use counters::{Counters, Decider};
pub use decision::{AllowedBy, Ask, Decision, LimitState, Refusal, Verdict};
