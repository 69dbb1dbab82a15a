//! Counting against the pure bucket, the embedded store and real redis-server processes.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::print_stdout)]

mod behaviour;
mod cluster;
mod coalesce;
mod decide;
mod denied;
mod embedded;
mod explore;
mod leases;
mod long;
mod model;
mod network;
mod permissions;
mod redis_keys;
mod replace;
mod replication;
mod sentinel;
mod store_leases;
mod support;
mod tls;
mod topologies;
mod trouble;
mod unable;
