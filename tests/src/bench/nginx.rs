//! nginx as origin and as counterpart.

use std::{fmt::Write, net::SocketAddr, path::Path};

use tempfile::TempDir;

use super::servers::{Job, Setup, listens, on};
use crate::{ports::free_port, process::Process};

/// A running nginx; ends with its handle.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    /// Answers 200 with a small body.
    pub async fn origin(cpu: Option<usize>) -> Nginx {
        Nginx::start(cpu, Setup::default(), |port, _| {
            format!(
                "  access_log off;\n  server {{ listen 127.0.0.1:{port} reuseport; location / {{ default_type text/plain; \
                 return 200 \"hello, world\\n\"; }} }}"
            )
        })
        .await
    }

    /// Forwards to `origin`, doing this job.
    pub async fn proxy(origin: SocketAddr, job: Job, setup: Setup) -> Nginx {
        Nginx::start(setup.cpu(), setup, |port, dir| http(origin, job, port, dir)).await
    }

    /// Id of its master process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    async fn start(cpu: Option<usize>, setup: Setup, http: impl Fn(u16, &Path) -> String) -> Nginx {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = dir.path().join("nginx.conf");
        let text = format!(
            "daemon off;\nmaster_process on;\nuser root;\nworker_processes {2};\npid {0}/nginx.pid;\nerror_log {0}/error.log;\n\
             worker_rlimit_nofile {4};\nevents {{ worker_connections {3}; }}\nhttp {{\n  client_body_temp_path {0}/body;\n  \
             proxy_temp_path {0}/proxy;\n  fastcgi_temp_path {0}/f;\n  uwsgi_temp_path {0}/u;\n  scgi_temp_path {0}/s;\n  \
             keepalive_requests 100000000;\n  tcp_nodelay on;\n{1}\n}}\n",
            dir.path().display(),
            http(port, dir.path()),
            setup.workers,
            setup.connections,
            setup.connections * 2
        );
        std::fs::write(&path, text).unwrap();
        let mut command = on(cpu, "nginx");
        let process = Process::spawn("nginx", command.arg("-c").arg(&path).arg("-p").arg(dir.path()));
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        listens(addr).await;
        Nginx { process, addr, _dir: dir }
    }
}

fn http(origin: SocketAddr, job: Job, port: u16, dir: &Path) -> String {
    let mut text = format!("  upstream origin {{ server {origin}; keepalive 256; keepalive_requests 100000000; }}\n");
    let limit = |rate: &str, allowance: &str| {
        let zone = format!("  limit_req_zone $http_x_tenant_id zone=z:32m rate={rate}r/s;\n");
        (zone, format!("limit_req zone=z {allowance} nodelay;"))
    };
    let (zone, limit) = match job {
        Job::Forward => (String::new(), String::new()),
        Job::HotKey | Job::Leased => limit("1000000", "burst=1000000"),
        Job::ManyKeys => limit("100000", "burst=100000"),
        Job::Flood => limit("1", ""),
        Job::Seed => limit("100", "burst=50"),
    };
    text.push_str(&zone);
    if job == Job::Seed {
        let _ = writeln!(
            text,
            "  log_format json escape=json '{{\"time\":\"$time_iso8601\",\"method\":\"$request_method\",\"path\":\"$uri\",\
             \"status\":$status,\"duration\":$request_time,\"bytes\":$body_bytes_sent,\"remote_addr\":\"$remote_addr\",\
             \"request_id\":\"$request_id\",\"user_agent\":\"$http_user_agent\",\"host\":\"$host\",\
             \"upstream\":\"$upstream_addr\",\"tenant\":\"$http_x_tenant_id\"}}';\n  \
             access_log {}/access.log json buffer=64k flush=1s;",
            dir.display()
        );
    } else {
        text.push_str("  access_log off;\n");
    }
    let _ = writeln!(
        text,
        "  server {{\n    listen 127.0.0.1:{port} reuseport backlog=4096;\n    keepalive_timeout 1h;\n    location / {{\n      \
         limit_req_status 429; {limit}"
    );
    text.push_str("      proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_pass http://origin;\n");
    if job == Job::Seed {
        text.push_str(
            "      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n      \
             proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Proto $scheme;\n      \
             proxy_set_header X-Request-Id $request_id; add_header X-Request-Id $request_id always;\n      \
             proxy_connect_timeout 30s; proxy_read_timeout 30s; proxy_send_timeout 30s;\n",
        );
    }
    text.push_str("    }\n  }");
    text
}
