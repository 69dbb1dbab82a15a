#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::{
    io::{self, Write},
    sync::Mutex,
};

use super::*;

#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<u8>>>);

impl Write for Taken {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `log` writes with these settings.
fn logged(level: LogLevel, format: LogFormat, log: impl FnOnce(&LogHandle)) -> Vec<String> {
    let taken = Taken::default();
    let config = Config { name: "test-log", shards: 1, capacity: RING, gather: Duration::ZERO };
    let settings = Logging { level, format, access_log_enabled: false };
    let handle = LogHandle::new(&settings, Lines::start(&config, Box::new(taken.clone())));
    let subscriber = tracing_subscriber::registry().with(layer::Lined::new(handle.state.clone()));
    tracing::subscriber::with_default(subscriber, || log(&handle));
    assert!(handle.state.lines.flush(Duration::from_secs(20)));
    let text = String::from_utf8(taken.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn json_lines_have_time_level_msg_and_the_fields_flat() {
    let error = io::Error::new(io::ErrorKind::NotFound, "no \"such\" file");
    let lines = logged(LogLevel::Info, LogFormat::Json, |_| {
        tracing::warn!(
            path = "/a\nb",
            n = 7,
            ratio = 0.5,
            ok = true,
            level = "mine",
            error = &error as &dyn std::error::Error,
            "cannot {}",
            "read"
        );
    });
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let object = value.as_object().unwrap();
    let keys: Vec<&str> = object.keys().map(String::as_str).collect();
    assert_eq!(keys, ["time", "level", "msg", "path", "n", "ratio", "ok", "field_level", "error"]);
    assert_eq!(value["level"], "warn");
    assert_eq!(value["msg"], "cannot read");
    assert_eq!(value["path"], "/a\nb");
    assert_eq!(value["n"], 7);
    assert_eq!(value["ratio"], 0.5);
    assert_eq!(value["ok"], true);
    assert_eq!(value["error"], "no \"such\" file");
    let time = value["time"].as_str().unwrap();
    assert!(time.len() == "2026-11-24T13:45:14.123456Z".len() && time.ends_with('Z'), "{time}");
}

#[test]
fn text_lines_are_for_people_and_cannot_be_forged() {
    let lines = logged(LogLevel::Info, LogFormat::Text, |_| {
        tracing::info!(host = "a.example", agent = "x y", "listening\nnot a line");
    });
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(&line[27..], " INFO  listening\\nnot a line host=a.example agent=\"x y\"");
}

#[test]
fn the_level_changes_in_a_running_process() {
    let lines = logged(LogLevel::Warn, LogFormat::Text, |handle| {
        let log = |n: u32| tracing::debug!(n, "detail");
        log(1);
        handle.set_level(LogLevel::Debug);
        log(2);
        handle.set_level(LogLevel::Info);
        log(3);
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with("detail n=2"));
}

#[test]
fn other_crates_speak_from_warn_upwards() {
    let lines = logged(LogLevel::Debug, LogFormat::Text, |_| {
        tracing::info!(target: "hyper::proto", "chatter");
        tracing::warn!(target: "hyper::proto", "trouble");
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with("trouble"));
}

#[test]
fn long_values_are_cut() {
    let lines = logged(LogLevel::Info, LogFormat::Text, |_| tracing::info!("{}", "ä".repeat(20_000)));
    assert!(lines[0].len() < 17_000);
}
