//! Harness: real redis-server, haproxy and `edgequota` processes, a scriptable origin, clients that can misbehave.
//!
//! Every process, listener and directory belongs to a handle and ends with it. Ports are the kernel's or found free;
//! the only place that waits is [`eventually`].
//!
//! A harness fails a test by panicking, with what it knows; so it may unwrap.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]
#![allow(clippy::cast_possible_truncation)] // of lengths that tests choose

pub mod bench;
pub mod body;
pub mod certificates;
pub mod client;
pub mod configmap;
pub mod edgequota;
pub mod eventually;
pub mod fake_control;
pub mod fake_plane;
pub mod fleet;
pub mod haproxy;
pub mod load;
pub mod log;
pub mod metrics;
pub mod origin;
pub mod ports;
pub mod process;
pub mod promise;
pub mod python;
pub mod redis_server;
pub mod redis_sets;
pub mod soak;

pub use certificates::Certificates;
pub use client::{Answer, H1, H2, Raw, get, post};
pub use configmap::ConfigMap;
pub use edgequota::Edgequota;
pub use eventually::{eventually, holds_for};
pub use fake_control::FakeControl;
pub use fake_plane::FakePlane;
pub use fleet::Fleet;
pub use haproxy::Haproxy;
pub use metrics::Metrics;
pub use origin::{Origin, RawOrigin};
pub use redis_server::Redis;
pub use redis_sets::{Sentinels, Shards};
