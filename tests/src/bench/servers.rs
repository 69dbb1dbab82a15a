//! The contenders and what stands behind them.

use std::{net::SocketAddr, process::Command, time::Duration};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{
    cpu::{self, Memory},
    machine,
    nginx::Nginx,
};
use crate::{
    edgequota::Edgequota,
    eventually::eventually,
    ports::free_port,
    process::{Process, program},
    redis_server::Redis,
};

/// How a contender runs.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Worker threads or processes; 0: the contender's own choice (ours only).
    pub workers: usize,
    /// On the first core only, with load, origin and Redis on the second; else wherever the kernel puts it.
    pub pinned: bool,
    /// Connections that it makes room for; ours does not need to be told below some thousands.
    pub connections: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Setup { workers: 1, pinned: true, connections: 2048 }
    }
}

impl Setup {
    /// Core of the contender.
    pub fn cpu(self) -> Option<usize> {
        self.pinned.then_some(0)
    }

    /// Core of load, origin and Redis: the second, where there is one.
    pub fn others(self) -> Option<usize> {
        self.pinned.then(|| usize::from(machine::cores() > 1))
    }
}

/// A program, on this core if one is named.
pub fn on(cpu: Option<usize>, name: &str) -> Command {
    let Some(cpu) = cpu else { return Command::new(program(name)) };
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string()]).arg(program(name));
    command
}

/// What a proxy is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Forward.
    Forward,
    /// Forward under a leased limit that is never reached, one key.
    Leased,
    /// Forward under an exact limit that is never reached, one key.
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
        let cpu = Setup::default().cpu();
        let process = Process::spawn("haproxy", on(cpu, "haproxy").arg("-db").arg("-f").arg(&path));
        listens(addr).await;
        Contender::Haproxy { process, addr, _dir: dir }
    }

    /// nginx, doing this job.
    pub async fn nginx(origin: SocketAddr, job: Job, setup: Setup) -> Contender {
        Contender::Nginx(Nginx::proxy(origin, job, setup).await)
    }

    /// Ours, doing this job.
    pub async fn edgequota(origin: SocketAddr, job: Job, setup: Setup) -> Contender {
        let quiet = "logging: { access_log_enabled: false }\n";
        let key = "key_strategy: { type: header, header_name: X-Tenant-Id }";
        let limit = |numbers: &str| format!("rate_limit: {{ {numbers}, period: 1s, {key} }}\n");
        let limit = match job {
            Job::Forward | Job::Seed => String::new(),
            Job::Leased => limit("average: 1000000, burst: 1000000, accuracy: leased"),
            Job::HotKey => limit("average: 1000000, burst: 1000000"),
            Job::ManyKeys => limit("average: 100000, burst: 100000"),
            Job::Flood => limit("average: 1, burst: 1"),
        };
        let redis = if job == Job::Forward { None } else { Some(Redis::on_cpu(setup.others()).await) };
        let mut builder = Edgequota::standalone();
        if let Some(cpu) = setup.cpu() {
            builder = builder.pinned(cpu);
        }
        if setup.workers > 0 {
            builder = builder.env("EDGEQUOTA_SERVER_WORKERS", setup.workers.to_string());
        }
        if setup.connections > Setup::default().connections {
            builder = builder.env("EDGEQUOTA_SERVER_MAX_CONNECTIONS", setup.connections.to_string());
        }
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

    /// Id of its first process.
    pub fn pid(&self) -> u32 {
        match self {
            Contender::Nginx(nginx) => nginx.pid(),
            Contender::Haproxy { process, .. } => process.pid(),
            Contender::Edgequota(eq, _) => eq.pid(),
        }
    }

    /// Seconds of CPU of the proxy, and of its Redis.
    pub fn cpu(&self) -> (f64, f64) {
        let redis = match self {
            Contender::Edgequota(_, Some(redis)) => cpu::seconds(redis.pid()),
            _ => 0.0,
        };
        (cpu::seconds(self.pid()), redis)
    }

    /// Seconds of CPU of each worker thread of ours, in their order; empty for the others.
    pub fn by_worker(&self) -> Vec<f64> {
        let Contender::Edgequota(eq, _) = self else { return Vec::new() };
        let threads = cpu::by_thread(eq.pid());
        threads.into_iter().filter(|(name, _)| name.starts_with("worker-")).map(|(_, seconds)| seconds).collect()
    }

    /// Memory of the proxy with its children.
    pub fn memory(&self) -> Memory {
        cpu::memory(self.pid())
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

pub(super) async fn listens(addr: SocketAddr) {
    eventually(&format!("{addr} listens"), Duration::from_secs(10), || async {
        TcpStream::connect(addr).await.is_ok().then_some(())
    })
    .await;
}
