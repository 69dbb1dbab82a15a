//! `auth`, `events` and `rate_limit.external`: the services that are asked or told.

use std::collections::BTreeMap;

use super::{AuthFailure, EventsFormat, ExternalFailure, Secret, written::written};
use crate::GoDuration;

written! {
    /// A service that names limits by subject.
    pub struct ExternalSpec {
        /// Ask it. Default false.
        enabled: bool = false,
        /// Longest wait for an answer. Duration; 0 = none; default 5s.
        timeout: GoDuration = GoDuration::secs(5),
        /// How long an answer is kept that says nothing about it. Duration; 0 = not at all; default 60s.
        cache_ttl: GoDuration = GoDuration::secs(60),
        /// Most questions at once, per process. At least 1; default 50.
        max_concurrent_requests: u64 = 50,
        /// When it fails and no stale answer is left: static_fallback | failclosed. Default static_fallback.
        failure_policy: ExternalFailure = ExternalFailure::StaticFallback,
        /// Accepted for compatibility; `timeout` bounds the wait. Duration; empty = none.
        max_latency: GoDuration = GoDuration::ZERO,
        /// Most subjects with a circuit breaker of their own, per process. Default 10000.
        max_circuit_breakers: u64 = 10_000,
        /// When it is not asked any more.
        circuit_breaker: CircuitBreakerSpec = CircuitBreakerSpec::default(),
        /// Ask it over HTTP.
        http: HttpEndpointSpec = HttpEndpointSpec::default(),
        /// Ask it over gRPC.
        grpc: GrpcEndpointSpec = GrpcEndpointSpec::default(),
        /// Which request headers it is sent.
        header_filter: HeaderFilterSpec = HeaderFilterSpec::default(),
    }
}

written! {
    /// Asks a service whether a request may pass.
    pub struct AuthSpec {
        /// Ask it. Default false.
        enabled: bool = false,
        /// Longest wait for an answer. Duration; 0 = none; default 5s.
        timeout: GoDuration = GoDuration::secs(5),
        /// When it fails: failclosed (503) | failopen. Default failclosed.
        failure_policy: AuthFailure = AuthFailure::FailClosed,
        /// Send it the request body. Default false.
        propagate_request_body: bool = false,
        /// Most bytes of the body that it is sent. Default 65536.
        max_auth_body_size: u64 = 65_536,
        /// Headers that it may set on the upstream request although they are reserved.
        allowed_injection_headers: Vec<String> = Vec::new(),
        /// When it is not asked any more.
        circuit_breaker: CircuitBreakerSpec = CircuitBreakerSpec::default(),
        /// Ask it over HTTP. Exactly one of http.url and grpc.address.
        http: AuthHttpSpec = AuthHttpSpec::default(),
        /// Ask it over gRPC.
        grpc: GrpcEndpointSpec = GrpcEndpointSpec::default(),
        /// Which request headers it is sent.
        header_filter: HeaderFilterSpec = HeaderFilterSpec::default(),
    }
}

written! {
    /// Sends usage events in batches.
    pub struct EventsSpec {
        /// Send them. Default false.
        enabled: bool = false,
        /// Events in a batch. At least 1; default 100.
        batch_size: u64 = 100,
        /// Longest wait before a batch that is not full is sent. Duration, more than 0; default 5s.
        flush_interval: GoDuration = GoDuration::secs(5),
        /// Events kept while they cannot be sent, per process; the oldest are dropped and counted. At least 1; default 10000.
        buffer_size: u64 = 10_000,
        /// How often a failed batch is sent again. Default 3.
        max_retries: u64 = 3,
        /// Wait before the first retry; doubles. Duration; default 100ms.
        retry_backoff: GoDuration = GoDuration::millis(100),
        /// Send them over HTTP. Exactly one of http.url and grpc.address.
        http: EventsHttpSpec = EventsHttpSpec::default(),
        /// Send them over gRPC.
        grpc: EventsGrpcSpec = EventsGrpcSpec::default(),
        /// Which request headers an event carries.
        header_filter: HeaderFilterSpec = HeaderFilterSpec::default(),
    }
}

written! {
    /// When a failing service is left alone for a while.
    pub struct CircuitBreakerSpec {
        /// Errors in a row that open it. At least 1; default 5.
        threshold: u64 = 5,
        /// How long it stays open before one probe. Duration; default 30s.
        reset_timeout: GoDuration = GoDuration::secs(30),
    }
}

written! {
    /// A service over HTTP.
    pub struct HttpEndpointSpec {
        /// http or https URL, no user information. Empty = not over HTTP.
        url: String = String::new(),
    }
}

written! {
    /// The auth service over HTTP.
    pub struct AuthHttpSpec {
        /// http or https URL, no user information. Empty = not over HTTP.
        url: String = String::new(),
        /// Send the client's headers as headers, too. Default false.
        forward_original_headers: bool = false,
    }
}

written! {
    /// The receiver of events over HTTP.
    pub struct EventsHttpSpec {
        /// http or https URL, no user information. Empty = not over HTTP.
        url: String = String::new(),
        /// object (`{"events":[...]}`) | array. Default object.
        format: EventsFormat = EventsFormat::Object,
        /// Headers of each post: name and value; values may be secrets, `{env: NAME}` or `{file: PATH}`.
        headers: BTreeMap<String, Secret> = BTreeMap::new(),
        /// Deprecated: becomes the header `auth_header` with the value `Bearer <auth_token>`.
        auth_token: Secret = Secret::default(),
        /// Deprecated: see `auth_token`. Default Authorization.
        auth_header: String = "Authorization".into(),
    }
}

written! {
    /// A service over gRPC.
    pub struct GrpcEndpointSpec {
        /// `host:port`. Empty = not over gRPC.
        address: String = String::new(),
        /// TLS towards it.
        tls: GrpcTlsSpec = GrpcTlsSpec::default(),
    }
}

written! {
    /// TLS towards a gRPC service.
    pub struct GrpcTlsSpec {
        /// Use TLS. Default false.
        enabled: bool = false,
        /// PEM file, on the data plane, with the authorities that sign its certificate. Empty = those of the system.
        ca_file: String = String::new(),
        /// Name that its certificate must have. Empty = the host of the address.
        server_name: String = String::new(),
    }
}

written! {
    /// The receiver of events over gRPC.
    pub struct EventsGrpcSpec {
        /// `host:port`. Empty = not over gRPC.
        address: String = String::new(),
        /// TLS towards it.
        tls: EventsTlsSpec = EventsTlsSpec::default(),
    }
}

written! {
    /// TLS towards the receiver of events.
    pub struct EventsTlsSpec {
        /// Use TLS. Default false.
        enabled: bool = false,
        /// PEM file, on the data plane, with the authorities that sign its certificate. Empty = those of the system.
        ca_file: String = String::new(),
    }
}

written! {
    /// Which headers pass: those in `allow_list` (all, when it is empty) that are not in `deny_list`.
    pub struct HeaderFilterSpec {
        /// Names that pass; empty = all.
        allow_list: Vec<String> = Vec::new(),
        /// Names that never pass.
        deny_list: Vec<String> = Vec::new(),
    }
}
