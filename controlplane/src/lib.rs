//! The control plane: watches policy files, checks them, publishes every new policy to the data planes, and answers
//! which limit a caller really has, and why.

mod adopt;
pub mod api;
pub mod app;
pub mod assemble;
mod counters;
pub mod effective;
pub mod explain;
pub mod fleet;
pub mod history;
mod keeper;
mod metrics;
pub mod publish;
pub mod serve;
pub mod settings;
pub mod status;
pub mod times;

pub use app::{Bound, ControlPlane, Options, StartError};
pub use times::Times;
