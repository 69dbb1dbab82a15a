//! The contenders and what stands behind them. Proxies run on the first core, everything else on the second.

use std::{fmt::Write, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::cpu;
use crate::{
    edgequota::Edgequota,
    eventually::eventually,
    ports::free_port,
    process::{Process, program},
    redis_server::Redis,
};

/// Core of the proxy that is measured.
pub fn proxy_cpu() -> usize {
    0
}

/// Core of load, origin and Redis: the second, where there is one.
pub fn others_cpu() -> usize {
    usize::from(std::thread::available_parallelism().is_ok_and(|n| n.get() > 1))
}

fn pinned(cpu: usize, name: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string()]).arg(program(name));
    command
}

/// An nginx of one worker with this `http` block.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    async fn start(cpu: usize, http: impl Fn(u16, &PathBuf) -> String) -> Nginx {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = dir.path().join("nginx.conf");
        let logs = dir.path().to_owned();
        let text = format!(
            "daemon off;\nmaster_process on;\nuser root;\nworker_processes 1;\npid {0}/nginx.pid;\nerror_log {0}/error.log;\n\
             worker_rlimit_nofile 4096;\nevents {{ worker_connections 2048; }}\nhttp {{\n  client_body_temp_path {0}/body;\n  \
             proxy_temp_path {0}/proxy;\n  fastcgi_temp_path {0}/f;\n  uwsgi_temp_path {0}/u;\n  scgi_temp_path {0}/s;\n  \
             keepalive_requests 100000000;\n  tcp_nodelay on;\n{1}\n}}\n",
            logs.display(),
            http(port, &logs)
        );
        std::fs::write(&path, text).unwrap();
        let mut command = pinned(cpu, "nginx");
        let process = Process::spawn("nginx", command.arg("-c").arg(&path).arg("-p").arg(dir.path()));
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        listens(addr).await;
        Nginx { process, addr, _dir: dir }
    }

    /// Answers 200 with a small body.
    pub async fn origin() -> Nginx {
        Nginx::start(others_cpu(), |port, _| {
            format!(
                "  access_log off;\n  server {{ listen 127.0.0.1:{port} reuseport; location / {{ default_type text/plain; \
                 return 200 \"hello, world\\n\"; }} }}"
            )
        })
        .await
    }

    /// Forwards to `origin`, doing this job.
    pub async fn proxy(origin: SocketAddr, job: Job) -> Nginx {
        Nginx::start(proxy_cpu(), |port, logs| {
            let mut text = format!(
                "  upstream origin {{ server {origin}; keepalive 256; keepalive_requests 100000000; }}\n"
            );
            let (zone, limit) = match job {
                Job::Forward => ("", ""),
                Job::HotKey => ("  limit_req_zone $http_x_tenant_id zone=z:32m rate=1000000r/s;\n", "limit_req zone=z burst=1000000 nodelay;"),
                Job::ManyKeys => ("  limit_req_zone $http_x_tenant_id zone=z:32m rate=100000r/s;\n", "limit_req zone=z burst=100000 nodelay;"),
                Job::Flood => ("  limit_req_zone $http_x_tenant_id zone=z:32m rate=1r/s;\n", "limit_req zone=z nodelay;"),
                Job::Seed => ("  limit_req_zone $http_x_tenant_id zone=z:32m rate=100r/s;\n", "limit_req zone=z burst=50 nodelay;"),
            };
            text.push_str(zone);
            if job == Job::Seed {
                let _ = writeln!(
                    text,
                    "  log_format json escape=json '{{\"time\":\"$time_iso8601\",\"method\":\"$request_method\",\"path\":\"$uri\",\
                     \"status\":$status,\"duration\":$request_time,\"bytes\":$body_bytes_sent,\"remote_addr\":\"$remote_addr\",\
                     \"request_id\":\"$request_id\",\"user_agent\":\"$http_user_agent\",\"host\":\"$host\",\
                     \"upstream\":\"$upstream_addr\",\"tenant\":\"$http_x_tenant_id\"}}';\n  \
                     access_log {}/access.log json buffer=64k flush=1s;",
                    logs.display()
                );
            } else {
                text.push_str("  access_log off;\n");
            }
            let _ = writeln!(text, "  server {{\n    listen 127.0.0.1:{port} reuseport;\n    location / {{\n      limit_req_status 429; {limit}");
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
        })
        .await
    }
}

/// What a proxy is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Forward.
    Forward,
    /// Forward under a limit that is never reached, one key.
    HotKey,
    /// The same, 10,000 keys.
    ManyKeys,
    /// Refuse: one key, one request a second.
    Flood,
    /// The seed's ConfigMap as it stands.
    Seed,
}

/// Something that is measured.
#[derive(Debug)]
pub enum Contender {
    /// nginx.
    Nginx(Nginx),
    /// haproxy.
    #[allow(missing_docs)]
    Haproxy { process: Process, addr: SocketAddr, _dir: TempDir },
    /// Ours, with the Redis it counts in.
    Edgequota(Box<Edgequota>, Option<Redis>),
}

impl Contender {
    /// haproxy of one thread, forwarding.
    pub async fn haproxy(origin: SocketAddr) -> Contender {
        let dir = tempfile::tempdir().unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let text = format!(
            "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  \
             timeout server 30s\n  http-reuse always\nfrontend f\n  bind {addr}\n  default_backend b\nbackend b\n  server s {origin}\n"
        );
        let path = dir.path().join("haproxy.cfg");
        std::fs::write(&path, text).unwrap();
        let process = Process::spawn("haproxy", pinned(proxy_cpu(), "haproxy").arg("-db").arg("-f").arg(&path));
        listens(addr).await;
        Contender::Haproxy { process, addr, _dir: dir }
    }

    /// Ours, one worker, doing this job.
    pub async fn edgequota(origin: SocketAddr, job: Job) -> Contender {
        let quiet = "logging: { access_log_enabled: false }\n";
        let key = "key_strategy: { type: header, header_name: X-Tenant-Id }";
        let limit = match job {
            Job::Forward => String::new(),
            Job::HotKey => format!("rate_limit: {{ average: 1000000, burst: 1000000, period: 1s, {key} }}\n"),
            Job::ManyKeys => format!("rate_limit: {{ average: 100000, burst: 100000, period: 1s, {key} }}\n"),
            Job::Flood => format!("rate_limit: {{ average: 1, burst: 1, period: 1s, {key} }}\n"),
            Job::Seed => String::new(),
        };
        let redis = if job == Job::Forward { None } else { Some(Redis::start().await) };
        let builder = Edgequota::standalone().pinned(proxy_cpu()).env("EDGEQUOTA_SERVER_WORKERS", "1");
        let builder = match (&redis, job) {
            (Some(redis), Job::Seed) => {
                let path = crate::process::workspace_dir().join("tests/fixtures/seed-config.yaml");
                builder
                    .config(std::fs::read_to_string(path).unwrap())
                    .env("EDGEQUOTA_BACKEND_URL", format!("http://{origin}"))
                    .env("EDGEQUOTA_REDIS_ENDPOINTS", redis.address())
                    .output_to_file()
            }
            (Some(redis), _) => builder
                .config(quiet)
                .config(redis.yaml(&[]))
                .config(format!("backend: {{ url: \"http://{origin}\" }}\n{limit}")),
            (None, _) => builder
                .config(quiet)
                .config(format!("redis: {{ mode: embedded }}\nbackend: {{ url: \"http://{origin}\" }}\n")),
        };
        Contender::Edgequota(Box::new(builder.ready().await), redis)
    }

    /// Name in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Contender::Nginx(_) => "nginx",
            Contender::Haproxy { .. } => "haproxy",
            Contender::Edgequota(..) => "edgequota",
        }
    }

    /// Where load goes.
    pub fn addr(&self) -> SocketAddr {
        match self {
            Contender::Nginx(nginx) => nginx.addr,
            Contender::Haproxy { addr, .. } => *addr,
            Contender::Edgequota(eq, _) => eq.proxy(),
        }
    }

    /// Seconds of CPU of the proxy, and of its Redis.
    pub fn cpu(&self) -> (f64, f64) {
        match self {
            Contender::Nginx(nginx) => (cpu::seconds(nginx.process.pid()), 0.0),
            Contender::Haproxy { process, .. } => (cpu::seconds(process.pid()), 0.0),
            Contender::Edgequota(eq, redis) => {
                (cpu::seconds(eq.pid()), redis.as_ref().map_or(0.0, |r| cpu::seconds(r.pid())))
            }
        }
    }

    /// Resident bytes of our process; 0 for the others.
    pub fn memory(&self) -> u64 {
        match self {
            Contender::Edgequota(eq, _) => eq.memory(),
            _ => 0,
        }
    }

    /// Script calls that its Redis has served.
    pub async fn calls(&self) -> f64 {
        let Contender::Edgequota(_, Some(redis)) = self else { return 0.0 };
        let mut connection = redis.connection().await;
        let text: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
        text.lines()
            .filter(|l| ["cmdstat_eval:", "cmdstat_evalsha:", "cmdstat_fcall:"].iter().any(|p| l.starts_with(p)))
            .filter_map(|l| l.split("calls=").nth(1)?.split(',').next()?.parse::<f64>().ok())
            .sum()
    }
}

async fn listens(addr: SocketAddr) {
    eventually(&format!("{addr} listens"), Duration::from_secs(10), || async {
        TcpStream::connect(addr).await.is_ok().then_some(())
    })
    .await;
}
