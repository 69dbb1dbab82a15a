//! A real redis-server.

use std::{process::Command, time::Duration};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    eventually::eventually,
    ports::free_port,
    process::{Process, program},
};

/// A redis-server without persistence on a port of its own. Ends with its handle.
#[derive(Debug)]
pub struct Redis {
    dir: TempDir,
    port: u16,
    args: Vec<String>,
    cpu: Option<usize>,
    process: Option<Process>,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub async fn start() -> Redis {
        Redis::with(&[]).await
    }

    /// With more arguments (`["--requirepass", "x"]`).
    pub async fn with(args: &[&str]) -> Redis {
        Redis::launch(args, None).await
    }

    /// A Sentinel, with these lines in the file that it writes to.
    pub async fn sentinel(lines: &str) -> Redis {
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("sentinel.conf"), lines).unwrap();
            let args = ["sentinel.conf", "--sentinel"].map(str::to_owned).to_vec();
            let mut redis = Redis { dir, port: free_port(), args, cpu: None, process: None };
            redis.spawn();
            if redis.came_up().await {
                return redis;
            }
        }
        panic!("no Sentinel started in five tries");
    }

    /// On this core only, if one is named.
    pub async fn on_cpu(cpu: Option<usize>) -> Redis {
        Redis::launch(&[], cpu).await
    }

    async fn launch(args: &[&str], cpu: Option<usize>) -> Redis {
        let args: Vec<String> = args.iter().map(|s| (*s).to_owned()).collect();
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let mut redis = Redis { dir, port: free_port(), args: args.clone(), cpu, process: None };
            redis.spawn();
            if redis.came_up().await {
                return redis;
            }
        }
        panic!("redis-server did not start in five tries");
    }

    /// A port where no Redis listens (yet): `restart` starts one there.
    pub fn absent() -> Redis {
        Redis { dir: tempfile::tempdir().unwrap(), port: free_port(), args: Vec::new(), cpu: None, process: None }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The `redis:` block for it, with more lines of the block (`deadline: 50ms`), each indented by the caller's
    /// choice of none.
    pub fn yaml(&self, more: &[&str]) -> String {
        let mut text = format!("redis:\n  endpoints: [\"{}\"]\n", self.address());
        for line in more {
            text.push_str(&format!("  {line}\n"));
        }
        text
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Ends it with everything it holds on disk, for [`Redis::restart_with_data`].
    pub async fn end_with_data(&mut self) {
        // The answer is the end of the connection.
        let _: Result<(), _> = redis::cmd("SHUTDOWN").arg("SAVE").query_async(&mut self.connection().await).await;
        if let Some(mut process) = self.process.take() {
            process.exited(Duration::from_secs(30)).await;
        }
    }

    /// Starts it again on the same port, with what [`Redis::end_with_data`] has kept.
    pub async fn restart_with_data(&mut self) {
        self.kill();
        self.spawn();
        assert!(self.came_up().await, "redis-server did not come back on port {}", self.port);
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub fn freeze(&self) {
        self.process.as_ref().unwrap().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.as_ref().unwrap().signal(Signal::CONT);
    }

    /// Starts it again on the same port, empty.
    pub async fn restart(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(self.dir.path().join("dump.rdb"));
        self.restart_with_data().await;
    }

    /// One command; `None`: no answer, or an error.
    pub async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let client = redis::Client::open(format!("redis://{}", self.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.ok()
    }

    /// A connection for the test itself.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(format!("redis://{}", self.address())).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Keys of all counters. The counter that a connection tries its script on is not one of them.
    pub async fn keys(&self) -> Vec<String> {
        let all: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut self.connection().await).await.unwrap();
        all.into_iter().filter(|key| !key.ends_with(":connect-probe")).collect()
    }

    /// A field of a hash; None: no such key or field.
    pub async fn hget(&self, key: &str, field: &str) -> Option<String> {
        redis::cmd("HGET").arg(key).arg(field).query_async(&mut self.connection().await).await.unwrap()
    }

    /// Remaining life of a key in milliseconds.
    pub async fn pttl(&self, key: &str) -> i64 {
        redis::cmd("PTTL").arg(key).query_async(&mut self.connection().await).await.unwrap()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Id of the process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().pid()
    }

    fn spawn(&mut self) {
        let mut command = match self.cpu {
            None => Command::new(program("redis-server")),
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cpu.to_string()]).arg(program("redis-server"));
                command
            }
        };
        command.current_dir(self.dir.path());
        if self.args.iter().any(|arg| arg == "--sentinel") {
            command.args(&self.args).args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        } else {
            command
                .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--maxclients", "2000"])
                .args(&self.args);
        }
        self.process = Some(Process::spawn(format!("redis-server:{}", self.port), &mut command));
    }

    async fn came_up(&mut self) -> bool {
        let process = std::sync::Mutex::new(self.process.as_mut().unwrap());
        eventually("redis-server answers or ends", Duration::from_secs(15), || async {
            let mut process = process.lock().unwrap();
            if ["Ready to accept connections", "+monitor master"].iter().any(|line| process.log().contains(line)) {
                Some(true)
            } else if process.is_running() {
                None
            } else {
                Some(false)
            }
        })
        .await
    }
}
