//! How often a forwarded request asks the allocator. In a binary of its own: the count is of the whole process.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    alloc::System,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use edgequota_config::load::Environment;
use edgequota_counters::{Counters, counters::FleetSize};
use edgequota_dataplane::{
    app::{Bound, Parts},
    follow::file::{FileSource, Pace},
    policy_slot::PolicySlot,
};
use edgequota_ops::{
    access_log::AccessLog,
    metrics::Metrics,
    probes::Probes,
    shutdown::{Shutdown, Stage},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of one request in steady state (kept-alive client, kept-alive backend): the box of the answer's body.
const MOST_FORWARDED: f64 = 1.0;
/// With a limit of the embedded store, an access log line and the numbers on the answer: one more, for the subject.
const MOST_LIMITED: f64 = 2.0;
/// Allocations a request of everything that happens by the clock.
const BY_THE_CLOCK: f64 = 0.2;

const WARM_UP: usize = 500;
const REQUESTS: usize = 5_000;
const BODY: &[u8] = b"hello, world\n";

/// Answers whatever comes on each connection, and allocates nothing while it does.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while socket.read(&mut buffer).is_ok_and(|n| n > 0) {
                    let answer =
                        b"HTTP/1.1 200 OK\r\nServer: o\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nhello, world\n";
                    socket.write_all(answer).unwrap();
                }
            });
        }
    });
    address
}

/// Sends the same request again and again on one connection.
fn ask(socket: &mut TcpStream, times: usize) {
    let mut buffer = [0; 4096];
    for _ in 0..times {
        socket
            .write_all(b"GET /a/b?c=d HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: test\r\nX-Tenant-Id: acme\r\nAccept: */*\r\n\r\n")
            .unwrap();
        let mut read = 0;
        while !buffer[..read].ends_with(BODY) {
            let n = socket.read(&mut buffer[read..]).unwrap();
            assert!(n > 0, "the connection was closed after {:?}", String::from_utf8_lossy(&buffer[..read]));
            read += n;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&buffer[..read]));
    }
}

/// Allocations a request of a real data plane with this in its config file.
fn measured(rest: &str) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    let text = format!(
        "server: {{ address: \"127.0.0.1:0\", workers: 1 }}\nredis: {{ mode: embedded }}\nbackend: {{ url: \"http://{}\" }}\n{rest}\n",
        origin()
    );
    std::fs::write(&path, text).unwrap();
    let (registry, probes, shutdown) = (Metrics::new(1), Probes::new(), Shutdown::new());
    let stop = CancellationToken::new();
    let _guard = runtime.enter();
    let (running, address) = runtime.block_on(async {
        let slot = Arc::new(PolicySlot::default());
        let pace =
            Pace { quiet: Duration::from_millis(20), most: Duration::from_millis(200), poll: Duration::from_secs(60) };
        let mut source =
            FileSource::start(path, Environment::new(), pace, Arc::clone(&slot), &registry, &probes, stop.clone())
                .await;
        let settings = Arc::new(source.load_first().await.unwrap());
        let (_redis, changes) = tokio::sync::watch::channel(Arc::new(settings.redis.clone()));
        let counters = Counters::new(changes, &registry, FleetSize::default(), "test");
        let parts = Parts {
            settings,
            counters,
            probes: probes.clone(),
            registry: registry.clone(),
            access_log: AccessLog::start(Box::new(std::io::sink()), 1),
            shutdown: shutdown.clone(),
            slot,
        };
        let bound = Bound::bind(parts).unwrap();
        let address = bound.address();
        (bound.start().unwrap(), address)
    });
    let mut socket = TcpStream::connect(address).unwrap();
    ask(&mut socket, WARM_UP);
    let region = Region::new(ALLOCATOR);
    ask(&mut socket, REQUESTS);
    let seen = region.change();
    #[allow(clippy::cast_precision_loss)]
    let each = (seen.allocations + seen.reallocations) as f64 / REQUESTS as f64;
    drop(socket);
    shutdown.advance(Stage::Ended);
    stop.cancel();
    runtime.block_on(running.ended());
    each
}

/// One test: two at once would count each other's.
#[test]
fn a_request_in_steady_state_hardly_allocates() {
    let forwarded = measured("logging: { access_log_enabled: false }");
    let limited = measured(
        "rate_limit: { average: 1000000, burst: 1000000, period: 1s, key_strategy: { type: header, header_name: X-Tenant-Id } }",
    );
    assert!(forwarded <= MOST_FORWARDED + BY_THE_CLOCK, "{forwarded} allocations a request");
    assert!(limited <= MOST_LIMITED + BY_THE_CLOCK, "{limited} allocations a request with a limit");
}
