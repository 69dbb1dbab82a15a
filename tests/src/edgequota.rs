//! Real `edgequota` processes.

mod admin;
mod blocked;
mod builder;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

pub use blocked::Blocked;
pub use builder::{Builder, Role, run};

use crate::{
    configmap::replace,
    eventually::eventually,
    log::Log,
    process::{Process, target_dir},
};

/// How long a start may take on a busy machine.
pub const START: Duration = Duration::from_secs(20);

/// The binary under test: `EDGEQUOTA_BIN`, else the one that cargo built next to this test.
///
/// # Panics
/// When there is none: tests of the whole never skip.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("EDGEQUOTA_BIN").map_or_else(|| target_dir().join("edgequota"), PathBuf::from);
    assert!(
        path.is_file(),
        "{} does not exist: run `cargo build --workspace` (or `make test`), or name the binary in EDGEQUOTA_BIN",
        path.display()
    );
    path
}

/// A running process; killed when dropped, its log printed when the test fails.
#[derive(Debug)]
pub struct Edgequota {
    process: Process,
    role: Role,
    dir: TempDir,
    proxy: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
}

impl Edgequota {
    /// One process with its own policy.
    pub fn standalone() -> Builder {
        Builder::new(Role::Standalone)
    }

    /// Follows a control plane.
    pub fn dataplane() -> Builder {
        Builder::new(Role::Dataplane)
    }

    /// Watches and publishes.
    pub fn controlplane() -> Builder {
        Builder::new(Role::Controlplane)
    }

    /// Address of the proxy.
    pub fn proxy(&self) -> SocketAddr {
        self.proxy.expect("this role has no proxy listener")
    }

    /// Address of the admin server.
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("no admin listener")
    }

    /// Address of the stream for data planes.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc.expect("this role has no gRPC listener")
    }

    /// Directory of its own, with `config.yaml` in it; ends with the handle.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its config file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    /// Replaces its config file at once.
    pub fn write_config(&self, yaml: &str) {
        replace(&self.config_path(), yaml);
    }

    /// Its output.
    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits for the end.
    pub async fn exited(&mut self, limit: Duration) -> ExitStatus {
        self.process.exited(limit).await
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    async fn until_listening(&self) {
        for addr in [self.proxy(), self.admin()] {
            eventually(&format!("edgequota listens on {addr}"), START, || async {
                tokio::net::TcpStream::connect(addr).await.is_ok().then_some(())
            })
            .await;
        }
    }

    /// Waits until it has said where it listens.
    ///
    /// # Panics
    /// When it ends, or does not say so in time.
    pub async fn learn_addresses(&mut self) {
        let wanted: &[&str] = match self.role {
            Role::Standalone | Role::Dataplane => &["proxy", "admin"],
            Role::Controlplane => &["grpc", "admin"],
        };
        self.learn(wanted).await;
    }

    /// The same for the admin port alone, which is there first.
    pub async fn learn_admin_address(&mut self) {
        self.learn(&["admin"]).await;
    }

    async fn learn(&mut self, wanted: &[&str]) {
        for listener in wanted {
            let found = std::sync::Mutex::new(&mut self.process);
            let addr = eventually(&format!("log line with the address of listener {listener}"), START, || async {
                let mut process = found.lock().unwrap();
                let addr = listening(process.log(), listener);
                assert!(addr.is_some() || process.is_running(), "edgequota ended before it listened on {listener}");
                addr
            })
            .await;
            match *listener {
                "proxy" => self.proxy = Some(addr),
                "admin" => self.admin = Some(addr),
                _ => self.grpc = Some(addr),
            }
        }
    }
}

/// The address that a listener logged: `listening`, or `control plane started`, which names both of its own.
pub fn listening(log: &Log, listener: &str) -> Option<SocketAddr> {
    let by_name = log.with_msg("listening").into_iter().find(|l| l["listener"] == listener);
    let line = by_name.map(|l| l["address"].clone());
    let line = line.or_else(|| log.with_msg("control plane started").into_iter().next().map(|l| l[listener].clone()));
    line?.as_str()?.parse().ok()
}
