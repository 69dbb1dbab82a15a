//! What connections hold, and that they give it back. How much a process holds under load is measured by `make bench`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::Duration;

use edgequota_tests::{
    Edgequota, Origin,
    bench::{memory::most_connections, paced},
    eventually,
};

const SOON: Duration = Duration::from_secs(60);
/// Kept-alive connections that are held at once.
const CONNECTIONS: usize = 2_000;
/// Most that an idle one may hold: buffers belong to requests, not to connections.
const KIB_EACH: u64 = 32;

async fn quiet(eq: &Edgequota, origin: &Origin) -> (u64, usize) {
    eventually("no connection is counted", SOON, || async {
        (eq.metrics().await.get("edgequota_connections") == Some(0.0)).then_some(())
    })
    .await;
    eventually("none to the origin is open", SOON, || async { (origin.open() == 0).then_some(()) }).await;
    (eq.memory(), eq.descriptors())
}

/// Opens many, asks once on each, and holds them.
async fn hold(eq: &Edgequota, count: usize) -> Vec<paced::Line> {
    let mut lines = paced::open(eq.proxy(), count).await.unwrap();
    for line in &mut lines {
        assert_eq!(line.ask().await.unwrap(), 200);
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_hold_little_and_give_it_back() {
    let count = CONNECTIONS.min(most_connections());
    let origin = Origin::start().await;
    let eq = Edgequota::standalone()
        .config(
            "redis: { mode: embedded }\nserver: { max_connections: 4000 }\nlogging: { access_log_enabled: false }\n",
        )
        .config(origin.yaml(&["idle_conn_timeout: 1s"]))
        .ready()
        .await;
    // Once for what is made only once: pools, tables, the allocator's own.
    drop(hold(&eq, count).await);
    let (rest, descriptors) = quiet(&eq, &origin).await;

    let mut lines = hold(&eq, count).await;
    let held = eq.memory().saturating_sub(rest);
    println!("{count} idle connections hold {} KiB", held >> 10);
    assert!(held <= count as u64 * (KIB_EACH << 10), "{count} idle connections hold {held} bytes");
    for line in &mut lines {
        assert_eq!(line.ask().await.unwrap(), 200, "an idle connection was lost");
    }
    drop(lines);

    let (after, open) = quiet(&eq, &origin).await;
    assert!(open <= descriptors, "{open} descriptors are open, {descriptors} were");
    assert!(after <= rest + rest / 4 + (8 << 20), "{after} bytes resident afterwards, {rest} before");
}
