//! Every time constant of the control plane, in one place, so that tests can shorten them.

use std::time::Duration;

/// Times of the stream and of the fleet. `Default` is the contract's.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between two heartbeats: 5 s.
    pub heartbeat: Duration,
    /// A silent data plane is dead after: 15 s.
    pub dead: Duration,
    /// A new connection has this long for its TLS handshake and its first bytes, a new stream for its Hello: 10 s.
    pub hello: Duration,
    /// A data plane with a newer policy of another control plane is left alone for: 10 s.
    pub deference: Duration,
    /// First pause before a policy that failed for a local reason is sent again: 5 s.
    pub retry_first: Duration,
    /// Longest such pause: 300 s.
    pub retry_most: Duration,
    /// The fleet's size is not told before: 30 s.
    pub fleet_quiet: Duration,
    /// A smaller fleet is believed after: 60 s.
    pub fleet_shrink: Duration,
    /// How long data planes are gathered before the newest of their policies is adopted: 3 s.
    pub adopt_gather: Duration,
    /// How long a data plane has to hand over what it holds: 10 s.
    pub adopt_answer: Duration,
    /// A snapshot that the transport does not take gives its place to another data plane after: 250 ms.
    pub send_turn: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Times {
            heartbeat: Duration::from_secs(5),
            dead: Duration::from_secs(15),
            hello: Duration::from_secs(10),
            deference: Duration::from_secs(10),
            retry_first: Duration::from_secs(5),
            retry_most: Duration::from_secs(300),
            fleet_quiet: Duration::from_secs(30),
            fleet_shrink: Duration::from_secs(60),
            adopt_gather: Duration::from_secs(3),
            adopt_answer: Duration::from_secs(10),
            send_turn: Duration::from_millis(250),
        }
    }
}
