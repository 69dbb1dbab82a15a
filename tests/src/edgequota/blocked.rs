//! A process whose output nobody reads.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::binary;
use crate::{body, client::try_send, eventually::eventually, ports::free_port};

/// A standalone process whose stdout is a pipe that fills up. Killed when dropped.
#[derive(Debug)]
pub struct Blocked {
    /// Address of the proxy.
    pub proxy: SocketAddr,
    /// Address of the admin server.
    pub admin: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl Blocked {
    /// Starts it and waits until it is ready.
    pub async fn start(yaml: &str) -> Blocked {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, yaml).unwrap();
        let [proxy, admin] = [free_port(), free_port()].map(|p| SocketAddr::from(([127, 0, 0, 1], p)));
        let child = Command::new(binary())
            .arg("standalone")
            .env_clear()
            .env("EDGEQUOTA_CONFIG_FILE", &path)
            .env("EDGEQUOTA_SERVER_ADDRESS", proxy.to_string())
            .env("EDGEQUOTA_ADMIN_ADDRESS", admin.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let blocked = Blocked { proxy, admin, child, _dir: dir };
        eventually("ready", Duration::from_secs(20), || async {
            let answer = try_send(admin, "GET", "/readyz", &[], body::empty()).await;
            answer.is_ok_and(|a| a.status == 200).then_some(())
        })
        .await;
        blocked
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
