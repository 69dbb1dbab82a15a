//! Units as they are written in configuration files.

use std::time::Duration;

/// A duration in Go's notation (`1h30m`, `300ms`, `1.5s`). Zero (`0`, `0s` or an empty string) means "off" or
/// "unlimited" wherever a setting says so. Range: 0 to 292 years, resolution one nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(Duration);

impl GoDuration {
    /// A duration of `d`.
    pub const fn new(d: Duration) -> Self {
        Self(d)
    }
    /// The duration, zero included.
    pub const fn get(self) -> Duration {
        self.0
    }
    /// `None` where zero stands for "off".
    pub fn non_zero(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}
// STUB: FromStr (error names the value), Display (Go's form), Serialize/Deserialize as string, JsonSchema {type: string, format: "go-duration"}.
