//! Helpers: real servers, limits, stores that the one suite runs over.

pub mod server;
pub mod stores;
