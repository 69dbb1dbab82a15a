//! A redis-server process of one's own.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// A running redis-server, ended when dropped.
pub struct RedisServer {
    child: Child,
    pub port: u16,
    /// Where it speaks TLS, if it was told to, by `{tls}` in its arguments.
    pub tls_port: Option<u16>,
    start: Start,
}

/// How it is started, again and again.
struct Start {
    extra: Vec<String>,
    /// Its own, with what it keeps there.
    dir: tempfile::TempDir,
    /// What stands in its configuration file, when it needs one that it can write; as in the arguments `{port}` becomes the
    /// port, `{tls}` that of TLS.
    file: Option<String>,
    /// What it says when it is ready.
    ready: &'static str,
}

impl RedisServer {
    pub fn start() -> RedisServer {
        RedisServer::start_with(&[])
    }

    /// With more arguments of redis-server; `{port}` in them becomes the port.
    pub fn start_with(extra: &[&str]) -> RedisServer {
        let common = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"];
        let tls = extra.contains(&"{tls}").then(free_port);
        let text = tls.unwrap_or_default().to_string();
        let extra: Vec<&str> = extra.iter().map(|arg| if *arg == "{tls}" { &text } else { *arg }).collect();
        let mut server = RedisServer::begin(&[&common[..], &extra].concat(), None, "Ready to accept connections");
        server.tls_port = tls;
        server
    }

    /// One that is ready before it has read its data, for which it takes so long a key.
    pub fn slow_to_load(key: Duration) -> RedisServer {
        let delay = key.as_micros().to_string();
        let slow = ["--key-load-delay", &delay, "--loading-process-events-interval-bytes", "1024"];
        let common = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"];
        RedisServer::begin(&[&common[..], &slow].concat(), None, "Server initialized")
    }

    /// A Sentinel with these lines in its file.
    pub fn sentinel(file: &str) -> RedisServer {
        let tls = file.contains("{tls}").then(free_port);
        let file = file.replace("{tls}", &tls.unwrap_or_default().to_string());
        let file = format!("port {{port}}\nbind 127.0.0.1\n{file}\n");
        let mut server = RedisServer::begin(&["--sentinel"], Some(file), "+monitor master");
        server.tls_port = tls;
        server
    }

    fn begin(extra: &[&str], file: Option<String>, ready: &'static str) -> RedisServer {
        let extra = extra.iter().map(|s| (*s).to_owned()).collect();
        let start = Start { extra, dir: tempfile::tempdir().expect("a directory"), file, ready };
        // The port is free when it is chosen; another process may take it before the server does.
        for _ in 0..20 {
            let port = free_port();
            start.write_file(port);
            if let Some(child) = start.launch(port) {
                return RedisServer { child, port, tls_port: None, start };
            }
        }
        panic!("redis-server did not start on any of twenty ports");
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port by which other servers know it.
    pub fn known_port(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }

    /// That port as an address.
    pub fn known_address(&self) -> String {
        format!("127.0.0.1:{}", self.known_port())
    }

    /// The directory that it writes to.
    pub fn dir(&self) -> &std::path::Path {
        self.start.dir.path()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port, with what it kept (nothing, unless it was told to).
    pub fn restart(&mut self) {
        self.kill();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Some(child) = self.start.launch(self.port) {
                self.child = child;
                return;
            }
        }
        panic!("redis-server did not start again on port {}", self.port);
    }

    /// Starts it again on another port.
    pub fn move_away(&mut self) {
        self.kill();
        for _ in 0..20 {
            self.port = free_port();
            if let Some(child) = self.start.launch(self.port) {
                self.child = child;
                return;
            }
        }
        panic!("redis-server did not start on any of twenty ports");
    }

    /// Freezes the process.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill is installed").success());
    }

    /// A blocking connection of the test's own.
    pub fn client(&self) -> redis::Connection {
        connect(self.port).expect("redis-server answers")
    }

    /// The same, with a password.
    pub fn client_with(&self, password: &str) -> redis::Connection {
        let login = redis::RedisConnectionInfo::default().set_password(password);
        let address = redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port);
        let info = redis::IntoConnectionInfo::into_connection_info(address).expect("an address");
        let client = redis::Client::open(info.set_redis_settings(login)).expect("an address");
        bounded(client).expect("the password is right")
    }

    /// Runs one command.
    pub fn run(&self, words: &[&str]) -> redis::Value {
        self.try_run(words).expect("redis-server accepts the command")
    }

    /// Runs one command that may be refused.
    pub fn try_run(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connect(self.port)?)
    }

    /// Runs one command and reads a text; empty when there is no answer.
    pub fn text(&self, words: &[&str]) -> String {
        self.try_run(words).and_then(|value| Ok(redis::from_redis_value(value)?)).unwrap_or_default()
    }

    /// Script calls since the start.
    pub fn script_calls(&self) -> u64 {
        let info: String = redis::from_redis_value(self.run(&["INFO", "commandstats"])).expect("text");
        let of = |command: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
            line.and_then(|line| line.split(',').next()).map_or(0, |n| n.parse::<u64>().expect("a number"))
        };
        of("evalsha") + of("eval")
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

/// A port that nobody listens on. Below the range from which the system takes ports for outgoing connections: those would
/// take it while a server is away, or a client would even meet itself there.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const MANY: u32 = 20_000;
    loop {
        // Test processes that run at the same time begin at different places.
        let turn = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() * 97;
        let port = u16::try_from(FIRST + turn % MANY).expect("below 32768");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Start {
    fn write_file(&self, port: u16) {
        if let Some(file) = &self.file {
            let text = file.replace("{port}", &port.to_string());
            std::fs::write(self.dir.path().join("conf"), text).expect("a file can be written");
        }
    }

    /// The process once it accepts connections; `None` when it ends instead (the port was taken).
    fn launch(&self, port: u16) -> Option<Child> {
        let mut command = Command::new("redis-server");
        if self.file.is_some() {
            command.arg(self.dir.path().join("conf"));
        } else {
            command.args(["--port", &port.to_string()]);
        }
        let mut child = command
            .args(["--logfile", "", "--dir", &self.dir.path().to_string_lossy()])
            .args(self.extra.iter().map(|arg| arg.replace("{port}", &port.to_string())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed (Debian: redis-server)");
        let mut log = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = log.by_ref().map_while(Result::ok).any(|line| line.contains(self.ready));
        if !ready {
            let _ = child.wait();
            return None;
        }
        // Read on, or the server would wait for somebody to.
        std::thread::spawn(move || log.for_each(drop));
        Some(child)
    }
}

fn connect(port: u16) -> redis::RedisResult<redis::Connection> {
    bounded(redis::Client::open(("127.0.0.1", port))?)
}

/// A connection whose every answer is bounded: a frozen server must fail a test, not hang it.
fn bounded(client: redis::Client) -> redis::RedisResult<redis::Connection> {
    let connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
    connection.set_read_timeout(Some(Duration::from_secs(15)))?;
    Ok(connection)
}
