//! Helpers: real servers, limits, stores that the one suite runs over.

pub mod asks;
pub mod machine;
pub mod proxy;
pub mod server;
pub mod stores;
pub mod topology;
pub mod traffic;
pub mod worker;
pub mod world;

use std::time::{Duration, Instant};

/// Waits until `check` holds; the only place that sleeps. Panics after 20 s.
pub async fn eventually<F: Future<Output = bool>>(what: &str, check: impl FnMut() -> F) {
    within(Duration::from_secs(20), what, check).await;
}

/// The same for what servers do among themselves, in their own time.
pub async fn at_last<F: Future<Output = bool>>(what: &str, check: impl FnMut() -> F) {
    within(Duration::from_secs(90), what, check).await;
}

/// The same with a limit of its own.
pub async fn within<F: Future<Output = bool>>(limit: Duration, what: &str, mut check: impl FnMut() -> F) {
    let end = Instant::now() + limit;
    while !check().await {
        assert!(Instant::now() < end, "never happened: {what}");
        pause(5).await;
    }
}

/// Lets real servers go on for some milliseconds.
pub async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
