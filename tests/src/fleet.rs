//! A control plane with data planes.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    configmap::replace,
    edgequota::{Builder, Edgequota},
    eventually::eventually,
    ports::free_port,
};

/// One control plane, N data planes, and the policy file between the test and them.
#[derive(Debug)]
pub struct Fleet {
    /// Policy file, state directories.
    pub dir: TempDir,
    /// None: killed.
    pub control: Option<Edgequota>,
    /// The data planes.
    pub planes: Vec<Edgequota>,
    /// Port of the stream; kept over restarts.
    pub port: u16,
    settings: String,
}

impl Fleet {
    /// Starts all of it and waits until every data plane is ready. `settings` go to every process (`redis`, `server`,
    /// ...), `policy` is the watched file.
    pub async fn start(planes: usize, settings: &str, policy: &str) -> Fleet {
        let mut fleet = Fleet::control_only(settings, policy).await;
        for n in 0..planes {
            fleet.add(n, "").await;
        }
        for plane in &fleet.planes {
            plane.until_ready(Duration::from_secs(30)).await;
        }
        fleet
    }

    /// Starts the control plane only.
    pub async fn control_only(settings: &str, policy: &str) -> Fleet {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("policy.yaml"), policy).unwrap();
        let mut fleet =
            Fleet { dir, control: None, planes: Vec::new(), port: free_port(), settings: settings.to_owned() };
        fleet.start_control().await;
        fleet
    }

    /// The watched file.
    pub fn policy_path(&self) -> PathBuf {
        self.dir.path().join("policy.yaml")
    }

    /// Replaces the watched file at once.
    pub fn edit(&self, policy: &str) {
        replace(&self.policy_path(), policy);
    }

    /// Starts the control plane (again), on the same port, with the same state directory.
    pub async fn start_control(&mut self) {
        self.control = None;
        let state = self.dir.path().join("state-control");
        std::fs::create_dir_all(&state).unwrap();
        let yaml = format!(
            "control_plane:\n  policy_path: \"{}\"\n  state_dir: \"{}\"\n{}",
            self.policy_path().display(),
            state.display(),
            self.settings
        );
        let control = Edgequota::controlplane()
            .config(yaml)
            .env("EDGEQUOTA_CONTROL_PLANE_LISTEN", format!("127.0.0.1:{}", self.port))
            .start()
            .await;
        self.control = Some(control);
    }

    /// kill -9 of the control plane.
    pub fn kill_control(&mut self) {
        if let Some(mut control) = self.control.take() {
            control.kill();
        }
    }

    /// The control plane.
    ///
    /// # Panics
    /// When it was killed.
    pub fn control(&self) -> &Edgequota {
        self.control.as_ref().expect("the control plane was killed")
    }

    /// State directory of data plane `n`.
    pub fn state_dir(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("state-{n}"))
    }

    /// Waits until data plane `n` has kept the version that the control plane serves: it does so after it enforces it.
    pub async fn kept(&self, n: usize) {
        let version = self.version().await;
        let (_, hash) = version.split_once('-').expect("generation and hash");
        let file = self.state_dir(n).join("policy.json");
        eventually("the policy is kept", Duration::from_secs(10), || async {
            let text = std::fs::read(&file).ok()?;
            String::from_utf8_lossy(&text).contains(hash).then_some(())
        })
        .await;
    }

    /// How data plane `n` is started; `own` is more text of its config file.
    pub fn builder(&self, n: usize, own: &str) -> Builder {
        let state = self.state_dir(n);
        std::fs::create_dir_all(&state).unwrap();
        let yaml = format!(
            "control_plane:\n  address: \"http://127.0.0.1:{}\"\n  node_id: \"dp-{n}\"\n  state_dir: \"{}\"\n  initial_wait: 1s\n{}{own}",
            self.port,
            state.display(),
            self.settings,
        );
        Edgequota::dataplane().config(yaml)
    }

    /// Starts data plane `n`; it listens, it need not be ready.
    pub async fn add(&mut self, n: usize, own: &str) -> &Edgequota {
        let plane = self.builder(n, own).start().await;
        self.planes.push(plane);
        self.planes.last().unwrap()
    }

    /// `/v1/dataplanes` of the control plane.
    pub async fn listed(&self) -> Value {
        self.control().admin_json("/v1/dataplanes").await
    }

    /// Version that the control plane publishes, once it does.
    pub async fn version(&self) -> String {
        eventually("the control plane serves a policy", Duration::from_secs(35), || async {
            let answer = self.control().admin_get("/v1/policy").await;
            if answer.status != 200 {
                return None;
            }
            Some(answer.json()["version"].as_str().expect("a policy has a version").to_owned())
        })
        .await
    }

    /// Version that a data plane enforces, by its metric.
    pub async fn enforced(plane: &Edgequota) -> Option<String> {
        let text = plane.admin_get("/metrics").await.text();
        let line = text.lines().find(|l| l.starts_with("edgequota_policy_version_info{") && l.ends_with(" 1"))?;
        Some(line.split("version=\"").nth(1)?.split('"').next()?.to_owned())
    }

    /// Waits until every data plane enforces what the control plane publishes.
    pub async fn in_step(&self, limit: Duration) {
        eventually("all data planes enforce the published version", limit, || async {
            let wanted = self.version().await;
            for plane in &self.planes {
                if Fleet::enforced(plane).await.as_deref() != Some(wanted.as_str()) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
}
