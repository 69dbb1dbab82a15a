//! The benchmark's own parts: a counterpart that does not do its job would make the ratios lies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use edgequota_tests::{
    bench::{
        nginx::Nginx,
        servers::{Contender, Job, Setup},
    },
    get,
};

#[tokio::test]
async fn nginx_does_each_job() {
    let origin = Nginx::origin(None).await;
    for (job, wanted) in [
        (Job::Forward, [200, 200, 200]),
        (Job::Leased, [200, 200, 200]),
        (Job::HotKey, [200, 200, 200]),
        (Job::ManyKeys, [200, 200, 200]),
        (Job::Flood, [200, 429, 429]),
        (Job::Seed, [200, 200, 200]),
    ] {
        let nginx = Nginx::proxy(origin.addr, job, Setup::default()).await;
        for status in wanted {
            let answer = get(nginx.addr, "/", &[("x-tenant-id", "t")]).await;
            assert_eq!(answer.status.as_u16(), status, "{job:?}");
            assert!(status != 200 || answer.text() == "hello, world\n", "{job:?}");
            assert_eq!(job == Job::Seed, !answer.header("x-request-id").is_empty(), "{job:?}");
        }
    }
}

#[tokio::test]
async fn haproxy_forwards() {
    let origin = Nginx::origin(None).await;
    let haproxy = Contender::haproxy(origin.addr).await;
    assert_eq!(get(haproxy.addr(), "/", &[]).await.text(), "hello, world\n");
    assert!(haproxy.cpu().0 >= 0.0);
}
