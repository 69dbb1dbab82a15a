//! A whole control plane on ports of its own, and data planes that are nothing but a gRPC client.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod http;
pub mod plane;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use edgequota_config::{
    Document,
    load::Environment,
    watch::{Pace, Poke},
};
use edgequota_controlplane::{ControlPlane, Options, Times};
use edgequota_counters::{Counters, counters::FleetSize};
use edgequota_ops::{
    metrics::Metrics,
    probes::Probes,
    shutdown::{Shutdown, Stage},
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle, time::Instant};

/// The only place that sleeps: until something is so, or 10 s.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Times that make a test quick; the order of the real ones is kept.
pub fn quick() -> Times {
    Times {
        heartbeat: Duration::from_millis(50),
        dead: Duration::from_secs(5),
        hello: Duration::from_millis(500),
        deference: Duration::from_millis(300),
        retry_first: Duration::from_millis(150),
        retry_most: Duration::from_millis(600),
        fleet_quiet: Duration::from_millis(100),
        fleet_shrink: Duration::from_millis(500),
        adopt_gather: Duration::from_millis(150),
        adopt_answer: Duration::from_millis(500),
        send_turn: Duration::from_millis(100),
    }
}

/// `limit` as the average of the default limit.
pub fn policy(limit: u64) -> String {
    format!("backend: {{ url: \"http://backend:8080\" }}\nrate_limit: {{ average: {limit}, burst: 5, period: 1m }}\n")
}

/// Where a control plane lives: its files outlast its processes.
pub struct Home {
    pub dir: TempDir,
    pub times: Times,
    /// Lines of `control_plane`, beyond the paths.
    pub extra: String,
    pub environment: Environment,
    /// `admin.token`; empty: none.
    pub token: String,
    /// Whether `state_dir` is set.
    pub keeps: bool,
}

impl Home {
    pub fn new() -> Home {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("policy")).unwrap();
        Home {
            dir,
            times: quick(),
            extra: String::new(),
            environment: Environment::new(),
            token: String::new(),
            keeps: true,
        }
    }

    pub fn with(limit: u64) -> Home {
        let home = Home::new();
        home.write("policy.yaml", &policy(limit));
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("policy").join(name)
    }

    /// Replaces a file as an editor does.
    pub fn write(&self, name: &str, text: &str) {
        let temporary = self.dir.path().join("writing");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.path(name)).unwrap();
    }

    /// A policy is served first and kept a moment later: who kills between the two kills its only copy.
    pub async fn until_kept(&self) {
        // Opening the directory a second time would remove the file that is just being written.
        let kept = self.state_dir().join("policy.json");
        eventually("a policy is kept", async || kept.exists().then_some(())).await;
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub async fn start(&self) -> Running {
        edgequota_ops::tls::install_provider();
        let state = if self.keeps { self.state_dir().display().to_string() } else { String::new() };
        let text = format!(
            "redis: {{ mode: embedded }}\nadmin: {{ address: \"127.0.0.1:0\", token: \"{}\" }}\ncontrol_plane:\n  listen: \
             \"127.0.0.1:0\"\n  policy_path: \"{}\"\n  state_dir: \"{state}\"\n{}",
            self.token,
            self.dir.path().join("policy").display(),
            self.extra,
        );
        let settings = Document::parse("settings", &text).unwrap().settings(&Environment::new());
        let settings = Arc::new(settings.unwrap_or_else(|problems| panic!("{problems}")));
        let (_redis, redis) = watch::channel(Arc::new(settings.redis.clone()));
        let metrics = Metrics::new(1);
        let counters = Counters::new(redis, &metrics, FleetSize::default(), "test");
        let (probes, shutdown) = (Probes::new(), Shutdown::new());
        let (_settings, settings) = watch::channel(settings);
        let bound = ControlPlane::start(Options {
            settings,
            config_path: self.dir.path().join("config.yaml"),
            environment: self.environment.clone(),
            counters: counters.clone(),
            metrics: metrics.clone(),
            probes: probes.clone(),
            shutdown: shutdown.clone(),
            pace: Pace {
                quiet: Duration::from_millis(20),
                most: Duration::from_millis(200),
                poll: Duration::from_millis(500),
            },
            times: self.times,
        })
        .await
        .unwrap_or_else(|error| panic!("{error}"));
        let (grpc, admin) = (bound.grpc_addr, bound.admin_addr);
        let (poked, poke) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(bound.run(|poke| drop(poked.send(poke))));
        let poke = poke.await.expect("the watch starts");
        Running { grpc, admin, probes, metrics, counters, shutdown, poke, task }
    }
}

/// A control plane that runs.
pub struct Running {
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    pub probes: Probes,
    pub metrics: Metrics,
    pub counters: Counters,
    pub shutdown: Shutdown,
    pub poke: Poke,
    task: JoinHandle<Result<(), edgequota_controlplane::StartError>>,
}

impl Running {
    pub async fn stop(self) {
        self.shutdown.advance(Stage::Draining);
        tokio::time::timeout(Duration::from_secs(10), self.task)
            .await
            .expect("it stops")
            .expect("it does not panic")
            .expect("it leaves in order");
    }

    /// Gone without a word.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// The version that is served, once it is `wanted`.
    pub async fn serving(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        eventually("the wanted policy is served", async || {
            let (status, policy) = http::get(self.admin, "/v1/policy").await;
            (status == 200 && wanted(&policy)).then_some(policy)
        })
        .await
    }

    pub async fn average(&self, average: u64) -> serde_json::Value {
        self.serving(|policy| policy["policy"]["rate_limit"]["average"] == average).await
    }

    /// A value of `/metrics`, by the start of its line.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.render(false);
        text.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
    }
}
