//! What can only be seen from outside a process: its exit codes and the lines on its standard output. Run without the
//! test harness: this file plays both the parent and the children.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use edgequota_config::settings::{LogFormat, LogLevel, Logging};
use edgequota_ops::{
    access_log::AccessLog,
    logging, metrics,
    shutdown::{Shutdown, Stage},
    watchdog::Watchdog,
};
use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "EDGEQUOTA_TEST_ROLE";
const LINES: usize = 3000;
const WORKERS: usize = 3;
const LIMIT: Duration = Duration::from_secs(20);

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("writer") => writer(),
        Ok("drainer") => drainer(),
        Ok("stuck") => stuck(),
        Ok("panicker") => panicker(),
        Ok(role) => panic!("unknown role {role}"),
        Err(_) => {
            lines_of_both_logs_never_run_into_each_other();
            a_second_signal_exits_with_130();
            terminate_and_interrupt_advance_the_stages();
            a_stuck_worker_and_a_panicked_one_abort();
            println!("process: 4 passed");
        }
    }
}

fn log() -> logging::LogHandle {
    logging::init(&Logging { level: LogLevel::Info, format: LogFormat::Json, access_log_enabled: true })
}

fn child(role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A pipe that does not block takes a batch in several parts, and lines that are longer than std buffers are torn there.
fn writer() {
    rustix::io::ioctl_fionbio(std::io::stdout(), true).unwrap();
    let log = log();
    let access = AccessLog::stdout(WORKERS);
    std::thread::scope(|scope| {
        for worker in 1..=WORKERS {
            let access = &access;
            scope.spawn(move || {
                metrics::enter_worker(worker);
                for n in 0..LINES {
                    let line = format!("{{\"msg\":\"access\",\"n\":{n},\"pad\":\"{}\"}}\n", "a".repeat(n % 3000));
                    access.line(line.as_bytes());
                    // leaves the writer time: a full ring drops lines, which is not what is looked at here
                    if n % 100 == 0 {
                        access.flush(LIMIT);
                    }
                }
            });
        }
        scope.spawn(|| {
            for n in 0..LINES {
                tracing::info!(target: "edgequota_test", n, pad = "l".repeat(n % 3000), "log");
                if n % 100 == 0 {
                    log.flush(LIMIT);
                }
            }
        });
    });
    access.flush(LIMIT);
    log.flush(LIMIT);
    assert_eq!((access.dropped(), log.dropped()), (0, 0));
}

fn lines_of_both_logs_never_run_into_each_other() {
    let mut child = child("writer");
    let (mut logged, mut accessed) = (0, 0);
    for line in BufReader::with_capacity(512, child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        match value["msg"].as_str() {
            Some("log") => logged += 1,
            Some("access") => accessed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!((logged, accessed), (LINES, LINES * WORKERS));
}

/// Says when the signals are caught and when it drains; never ends by itself.
fn drainer() {
    let shutdown = Shutdown::new();
    shutdown.listen_to_signals(Duration::from_secs(3600), || println!("hangup"));
    println!("ready");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        shutdown.reached(Stage::Leaving).await;
        println!("{:?}", shutdown.stage());
        shutdown.reached(Stage::Ended).await;
    });
}

fn next(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> String {
    lines.next().expect("a line").unwrap()
}

fn a_second_signal_exits_with_130() {
    let mut child = child("drainer");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(next(&mut lines), "ready");
    signal(&child, Signal::HUP);
    assert_eq!(next(&mut lines), "hangup");
    signal(&child, Signal::TERM);
    assert_eq!(next(&mut lines), "Leaving");
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

fn terminate_and_interrupt_advance_the_stages() {
    let mut child = child("drainer");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(next(&mut lines), "ready");
    signal(&child, Signal::INT);
    assert_eq!(next(&mut lines), "Draining", "an interrupt skips the delay");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[allow(clippy::disallowed_methods, reason = "a worker that hangs is what is tested")]
fn stuck() {
    log();
    let watchdog = Watchdog::start(Duration::from_millis(300));
    let _pulse = watchdog.pulse("worker-1".to_owned());
    std::thread::sleep(LIMIT);
}

fn panicker() {
    log();
    let watchdog = Watchdog::start(Duration::from_secs(3600));
    let worker = std::thread::spawn(move || {
        let _pulse = watchdog.pulse("worker-2".to_owned());
        panic!("as the test wants it");
    });
    let _ = worker.join();
}

fn a_stuck_worker_and_a_panicked_one_abort() {
    for (role, worker) in [("stuck", "worker-1"), ("panicker", "worker-2")] {
        let mut child = child(role);
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let abort = Signal::ABORT.as_raw();
        assert_eq!(child.wait().unwrap().signal(), Some(abort), "{role}: {said}");
        let line: serde_json::Value = serde_json::from_str(said.lines().last().expect("a line")).unwrap();
        assert_eq!((&line["level"], &line["worker"]), (&"error".into(), &worker.into()), "{said}");
    }
}
