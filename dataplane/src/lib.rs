//! Accepts, decides, forwards.

pub mod follow;
pub mod policy_slot;
