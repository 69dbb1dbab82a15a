//! What every process needs, the same for both planes: probes, drain, admin server, logs, metrics, TLS material.

pub mod access_log;
pub mod admin;
mod lines;
pub mod logging;
pub mod metrics;
pub mod probes;
pub mod reload;
pub mod resources;
pub mod shutdown;
pub mod tls;
pub mod watchdog;
