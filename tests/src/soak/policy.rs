//! The policies of a soak.

use std::net::SocketAddr;

/// Limit numbers of version `n` are these plus `n`: an answer tells which version made it.
pub(super) const BASE: usize = 1_000_000;
/// Burst and rate of the limits whose promise is judged. No edit changes them.
pub(super) const BURST: f64 = 100.0;
pub(super) const RATE: f64 = 200.0;
/// Code of a `failClosed` refusal.
pub(super) const CLOSED: u16 = 503;

/// Where the backends are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Always there, faulty where a request asks for it.
    pub(super) origin: SocketAddr,
    /// Comes and goes.
    pub(super) flaky: SocketAddr,
}

impl Places {
    /// Version `n`.
    pub(super) fn written(self, n: usize) -> String {
        let huge = format!("average: {BASE}, burst: {}", BASE + n);
        let promise = format!("average: {RATE}, burst: {BURST}, failure_policy: failClosed, failure_code: {CLOSED}");
        let route = |name: &str, limit: &str| {
            format!("- {{ name: {name}, match: {{ path_prefix: /{name} }}, rate_limit: {{ {limit} }} }}\n")
        };
        let mut text = format!(
            "backend: {{ url: \"http://{}\", idle_conn_timeout: 2s, max_idle_conns: 200 }}\n\
             backends:\n- {{ name: flaky, url: \"http://{}\", idle_conn_timeout: 2s, max_idle_conns: {} }}\n\
             rate_limit: {{ {huge}, failure_policy: passThrough, key_strategy: {{ type: header, header_name: X-T }} }}\nroutes:\n",
            self.origin,
            self.flaky,
            // Another definition, so another pool, with every third edit.
            100 + n / 3
        );
        text.push_str(&route("free", "mode: disabled"));
        text.push_str(&route("tight", &format!("average: 5, burst: {}", 5 + n % 2)));
        text.push_str(&route("memory", &format!("{huge}, failure_policy: inMemoryFallback")));
        text.push_str(&route("exact", &promise));
        text.push_str(&route("leased", &format!("{promise}, accuracy: leased")));
        text.push_str(
            "- { name: flaky, match: { path_prefix: /flaky }, backend: flaky, rate_limit: { mode: disabled } }\n",
        );
        if n % 2 == 1 {
            text.push_str(&route("extra", &format!("average: 1, burst: {}", 1 + n)));
        }
        text
    }
}
