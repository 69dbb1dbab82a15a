//! Accepts, decides, forwards.

pub mod policy_slot;
