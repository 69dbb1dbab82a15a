//! Accepts, decides, forwards.
//!
//! A request goes `workers` -> `listen` -> `request` (the pipeline) -> `upstream`, and out through `request/reject` and
//! `request/record`. A policy comes in through `policy_slot`.

pub mod app;
pub mod follow;
pub mod policy_slot;
pub mod process;

mod admission;
mod body;
mod fields;
mod h1;
mod io;
mod listen;
mod live;
mod metrics;
mod request;
mod spare;
mod timer;
mod upstream;
mod worker;
mod workers;
