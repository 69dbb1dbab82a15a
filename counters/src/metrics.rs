//! What counting reports: `redis_errors fallback_used readonly_retries`, `edgequota_redis_healthy`, clock steps, corrupt counters.
