//! Where in-process counting has its time from.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// Microseconds that never go back. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The machine's monotonic clock.
    pub fn monotonic() -> Clock {
        // Not from zero: a bucket may look back, and an hour is more than any test or tolerance needs.
        let start = Instant::now();
        Clock(Arc::new(move || micros(start.elapsed() + Duration::from_secs(3600))))
    }

    /// A clock of one's own (tests).
    pub fn custom(now_us: impl Fn() -> u64 + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now_us))
    }

    /// Now.
    pub fn now_us(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Whole microseconds; longer than 584,000 years is as good as for ever.
pub(crate) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
