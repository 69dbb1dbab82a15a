//! The only place that waits.

use std::{
    future::Future,
    time::{Duration, Instant},
};

const STEP: Duration = Duration::from_millis(10);

/// Calls `probe` until it answers `Some`, at most `limit`.
///
/// # Panics
/// When `limit` has passed, naming `what`.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// Calls `probe` again and again for the whole of `limit`; it must stay true.
///
/// # Panics
/// As soon as it is not, naming `what`.
pub async fn holds_for<F, Fut>(what: &str, limit: Duration, mut probe: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let start = Instant::now();
    while start.elapsed() < limit {
        assert!(probe().await, "no longer true after {:?}: {what}", start.elapsed());
        tokio::time::sleep(STEP).await;
    }
}

/// Part of a script (an origin that is slow, a client that drips): not a way to wait for something.
pub async fn scripted_delay(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}
