//! How a process is started.

use std::{fs::File, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;

use super::{Edgequota, binary};
use crate::{ports::free_port, process::Process};

/// Subcommand of a long-running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `edgequota standalone`
    Standalone,
    /// `edgequota dataplane`
    Dataplane,
    /// `edgequota controlplane`
    Controlplane,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Standalone => "standalone",
            Role::Dataplane => "dataplane",
            Role::Controlplane => "controlplane",
        }
    }
}

/// Collects what a process gets. Addresses are `127.0.0.1:0` by environment unless a test sets them.
#[derive(Debug)]
pub struct Builder {
    role: Role,
    config: String,
    config_file: Option<PathBuf>,
    env: Vec<(String, String)>,
    dir: Option<TempDir>,
    cpu: Option<usize>,
    to_file: Option<[SocketAddr; 2]>,
}

impl Builder {
    pub(super) fn new(role: Role) -> Builder {
        let mut env = vec![("EDGEQUOTA_ADMIN_ADDRESS".to_owned(), "127.0.0.1:0".to_owned())];
        match role {
            Role::Controlplane => env.push(("EDGEQUOTA_CONTROL_PLANE_LISTEN".to_owned(), "127.0.0.1:0".to_owned())),
            _ => env.push(("EDGEQUOTA_SERVER_ADDRESS".to_owned(), "127.0.0.1:0".to_owned())),
        }
        Builder { role, config: String::new(), config_file: None, env, dir: None, cpu: None, to_file: None }
    }

    /// Text of its config file. Blocks may be concatenated from several calls.
    pub fn config(mut self, yaml: impl AsRef<str>) -> Builder {
        self.config.push_str(yaml.as_ref());
        if !self.config.ends_with('\n') {
            self.config.push('\n');
        }
        self
    }

    /// Reads this file instead of one of its own (a ConfigMap that a test mounts).
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Builder {
        self.config_file = Some(path.into());
        self
    }

    /// One environment variable; nothing but `PATH` is inherited.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Builder {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Runs in this directory instead of a fresh one.
    pub fn dir(mut self, dir: TempDir) -> Builder {
        self.dir = Some(dir);
        self
    }

    /// Runs on this core only.
    pub fn pinned(mut self, cpu: usize) -> Builder {
        self.cpu = Some(cpu);
        self
    }

    /// Its output goes to a file instead of a pipe that the test reads, as in a benchmark of its access log. The log
    /// of the handle stays empty; ports are found free beforehand.
    pub fn output_to_file(mut self) -> Builder {
        let [proxy, admin] = [free_port(), free_port()].map(|p| SocketAddr::from(([127, 0, 0, 1], p)));
        self.to_file = Some([proxy, admin]);
        self.env("EDGEQUOTA_SERVER_ADDRESS", proxy.to_string()).env("EDGEQUOTA_ADMIN_ADDRESS", admin.to_string())
    }

    /// Starts it without waiting for anything: for one that is expected to end by itself.
    pub fn spawn(self) -> Edgequota {
        let dir = self.dir.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let path = self.config_file.unwrap_or_else(|| {
            let path = dir.path().join("config.yaml");
            std::fs::write(&path, &self.config).unwrap();
            path
        });
        let mut command = match self.cpu {
            None => Command::new(binary()),
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cpu.to_string()]).arg(binary());
                command
            }
        };
        command
            .arg(self.role.name())
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .env("EDGEQUOTA_CONFIG_FILE", path)
            .envs(self.env);
        let name = format!("edgequota {}", self.role.name());
        let process = match self.to_file {
            None => Process::spawn(name, &mut command),
            Some(_) => Process::spawn_into(name, &mut command, File::create(dir.path().join("output.log")).unwrap()),
        };
        let [proxy, admin] = self.to_file.map_or([None, None], |addresses| addresses.map(Some));
        Edgequota { process, role: self.role, dir, proxy, admin, grpc: None }
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Panics
    /// When it ends, or does not listen in time.
    pub async fn start(self) -> Edgequota {
        let told = self.to_file.is_some();
        let mut edgequota = self.spawn();
        if told {
            edgequota.until_listening().await;
        } else {
            edgequota.learn_addresses().await;
        }
        edgequota
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Panics
    /// As for [`Builder::start`].
    pub async fn ready(self) -> Edgequota {
        let edgequota = self.start().await;
        edgequota.until_ready(Duration::from_secs(20)).await;
        edgequota
    }
}

/// Runs a command of the binary that ends by itself, with a clean environment, in `dir`.
pub fn run(args: &[&str], dir: &std::path::Path, env: &[(&str, &str)]) -> std::process::Output {
    Command::new(binary())
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(env.iter().copied())
        .output()
        .unwrap()
}
