//! What is allowed but risky, and what cannot be used yet.

use edgequota_policy::Problem;

use crate::settings::Settings;

pub(crate) fn warnings(settings: &Settings) -> Vec<Problem> {
    let mut found = Vec::new();
    let skips = [
        ("redis.tls.insecure_skip_verify", settings.redis.tls.insecure_skip_verify),
        (
            "redis.sentinel_tls.insecure_skip_verify",
            settings.redis.sentinel_tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify),
        ),
        (
            "cache_redis.tls.insecure_skip_verify",
            settings.cache_redis.as_ref().is_some_and(|r| r.tls.insecure_skip_verify),
        ),
        ("control_plane.tls.insecure_skip_verify", settings.control_plane.tls.insecure_skip_verify),
    ];
    for (path, set) in skips {
        if set {
            let message = "certificates are not verified: anyone on the way can read and change what is sent";
            found.push(Problem { path: path.to_owned(), message: message.to_owned() });
        }
    }
    found
}

pub(crate) fn not_built(settings: &Settings) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |enabled: bool, path: &str, feature: &str| {
        if enabled {
            let message = format!("{feature} is not built yet; this version refuses to start with it");
            found.push(Problem { path: path.to_owned(), message });
        }
    };
    add(settings.server.tls.enabled, "server.tls.enabled", "TLS on the proxy port (server.tls.enabled)");
    add(settings.server.tls.http3_enabled, "server.tls.http3_enabled", "HTTP/3 (server.tls.http3_enabled)");
    add(settings.cache_redis.is_some(), "cache_redis", "a Redis of its own for caches (cache_redis)");
    add(settings.tracing.enabled, "tracing.enabled", "tracing (tracing.enabled)");
    found
}
