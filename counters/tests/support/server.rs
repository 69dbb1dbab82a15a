//! A redis-server process of one's own.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running redis-server, ended when dropped.
pub struct RedisServer {
    child: Child,
    pub port: u16,
    extra: Vec<String>,
}

impl RedisServer {
    pub fn start() -> RedisServer {
        RedisServer::start_with(&[])
    }

    /// With more arguments of redis-server.
    pub fn start_with(extra: &[&str]) -> RedisServer {
        let extra: Vec<String> = extra.iter().map(|s| (*s).to_owned()).collect();
        // The port is free when it is chosen; another process may take it before the server does.
        for _ in 0..20 {
            let port = free_port();
            if let Some(child) = launch(port, &extra) {
                return RedisServer { child, port, extra };
            }
        }
        panic!("redis-server did not start on any of twenty ports");
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port, empty.
    pub fn restart(&mut self) {
        self.kill();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Some(child) = launch(self.port, &self.extra) {
                self.child = child;
                return;
            }
        }
        panic!("redis-server did not start again on port {}", self.port);
    }

    /// Freezes the process.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill is installed").success());
    }

    /// A blocking connection of the test's own.
    pub fn client(&self) -> redis::Connection {
        connect(self.port).expect("redis-server answers")
    }

    /// Runs one command.
    pub fn run(&self, words: &[&str]) -> redis::Value {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command
            .query(&mut self.client())
            .expect("redis-server accepts the command")
    }

    /// Runs one command and reads an integer.
    pub fn int(&self, words: &[&str]) -> i64 {
        redis::from_redis_value(self.run(words)).expect("an integer")
    }

    /// The fields of a hash.
    pub fn hash(&self, key: &str) -> std::collections::BTreeMap<String, String> {
        redis::from_redis_value(self.run(&["HGETALL", key])).expect("a hash")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port()
}

fn launch(port: u16, extra: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ])
        .args(["--dir", &std::env::temp_dir().to_string_lossy()])
        .args(extra)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed (Debian: redis-server)");
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if child.try_wait().ok()?.is_some() {
            return None;
        }
        match connect(port) {
            Ok(_) => return Some(child),
            Err(_) if Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            // A new process needs a moment; there is nothing to wait on but the port.
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn connect(port: u16) -> redis::RedisResult<redis::Connection> {
    redis::Client::open(("127.0.0.1", port))?.get_connection_with_timeout(Duration::from_secs(2))
}
