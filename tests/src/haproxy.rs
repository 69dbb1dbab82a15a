//! A real haproxy in front of data planes, following their readiness.

use std::{net::SocketAddr, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{
    eventually::eventually,
    ports::free_port,
    process::{Process, program},
};

/// A running haproxy with one HTTP/1.1 and one h2c listener, no retries, no redispatch.
#[derive(Debug)]
pub struct Haproxy {
    /// HTTP/1.1 listener.
    pub http1: SocketAddr,
    /// h2c listener; goes to the data planes as h2c.
    pub http2: SocketAddr,
    process: Process,
    _dir: TempDir,
}

impl Haproxy {
    /// In front of `(proxy, admin)` addresses; asks `/readyz` of the admin address every 200 ms.
    pub async fn start(planes: &[(SocketAddr, SocketAddr)]) -> Haproxy {
        let dir = tempfile::tempdir().unwrap();
        let (p1, p2) = (free_port(), free_port());
        let mut text = format!(
            "global\n  maxconn 4000\n  nbthread 1\ndefaults\n  mode http\n  log stdout format raw local0\n  \
             retries 0\n  no option redispatch\n  timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n  \
             option httplog\n  option httpchk GET /readyz\n  http-check expect status 200\n\
             frontend one\n  bind 127.0.0.1:{p1}\n  default_backend planes1\n\
             frontend two\n  bind 127.0.0.1:{p2} proto h2\n  default_backend planes2\n"
        );
        for (backend, proto) in [("planes1", ""), ("planes2", "proto h2 ")] {
            text.push_str(&format!("backend {backend}\n  balance roundrobin\n"));
            for (n, (proxy, admin)) in planes.iter().enumerate() {
                text.push_str(&format!(
                    "  server dp{n} {proxy} {proto}check check-proto h1 port {} inter 200ms fall 1 rise 1\n",
                    admin.port()
                ));
            }
        }
        let path = dir.path().join("haproxy.cfg");
        std::fs::write(&path, text).unwrap();
        let process = Process::spawn("haproxy", Command::new(program("haproxy")).arg("-db").arg("-f").arg(&path));
        let haproxy = Haproxy {
            http1: SocketAddr::from(([127, 0, 0, 1], p1)),
            http2: SocketAddr::from(([127, 0, 0, 1], p2)),
            process,
            _dir: dir,
        };
        eventually("haproxy listens", Duration::from_secs(10), || async {
            let up = tokio::net::TcpStream::connect(haproxy.http2).await.is_ok();
            up.then_some(())
        })
        .await;
        haproxy
    }

    /// Its log: one line a request, and its checks.
    pub fn log(&self) -> &crate::log::Log {
        self.process.log()
    }
}
