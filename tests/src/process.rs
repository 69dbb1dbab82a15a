//! A child process that ends with its handle.

use std::{
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{eventually::eventually, log::Log};

/// A running child with captured output.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    readers: Vec<std::thread::JoinHandle<()>>,
    log: Log,
}

impl Process {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(name: impl Into<String>, command: &mut Command) -> Process {
        let name = name.into();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|e| {
                panic!("cannot start {name} ({command:?}): {e}; `make test` installs what is needed")
            });
        let log = Log::default();
        let readers = vec![log.follow(child.stdout.take().unwrap()), log.follow(child.stderr.take().unwrap())];
        Process { name, child, readers, log }
    }

    /// Starts it with its output in a file: nothing is captured.
    ///
    /// # Panics
    /// As for [`Process::spawn`].
    pub fn spawn_into(name: impl Into<String>, command: &mut Command, file: std::fs::File) -> Process {
        let name = name.into();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}"));
        Process { name, child, readers: Vec::new(), log: Log::default() }
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its output.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Sends a signal; a process that has ended already is no error.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = kill_process(pid, signal);
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.end();
        self.join();
    }

    /// Ends it with its workers: a server that is killed leaves them behind (nginx does), and one that lives replaces
    /// those that are killed before it.
    fn end(&mut self) {
        let workers = children(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for worker in workers {
            let _ = kill_process(worker, Signal::KILL);
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end; its output is complete then.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    pub async fn exited(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        let child = std::sync::Mutex::new(&mut self.child);
        let status =
            eventually(&format!("{name} has ended"), limit, || async { child.lock().unwrap().try_wait().unwrap() })
                .await;
        self.join();
        status
    }

    fn join(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            self.log.print_tail(&self.name);
        }
    }
}

/// Direct children of a process.
fn children(pid: u32) -> Vec<Pid> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// The build directory that this very test runs from (`target/debug`).
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let dir = exe.parent().unwrap();
    if dir.ends_with("deps") { dir.parent().unwrap().to_owned() } else { dir.to_owned() }
}

/// The workspace.
pub fn workspace_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A Debian program that may live outside a user's `PATH`.
///
/// # Panics
/// When it is not installed.
pub fn program(name: &str) -> PathBuf {
    find_program(name).unwrap_or_else(|| panic!("{name} is not installed; `make test` installs it"))
}

/// The same for one that can be done without.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"])
        .map(|dir| PathBuf::from(dir).join(name))
        .find(|p| p.is_file())
}
