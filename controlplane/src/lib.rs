//! The control plane: watches policy files, checks them, publishes every new policy to the data planes, and answers
//! which limit a caller really has, and why.

pub mod fleet;
pub mod publish;
pub mod serve;
pub mod times;

pub use times::Times;
