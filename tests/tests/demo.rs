//! `edgequota demo`: what it prints can be done, and does what it says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{process::Command, time::Duration};

use edgequota_tests::{edgequota::binary, eventually, process::Process};

/// Commands that the demo prints: lines that begin with `$ ` or with a program's name after white space.
fn commands(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .map(|l| l.strip_prefix("$ ").unwrap_or(l))
        .filter(|l| {
            ["curl ", "sed ", "edgequota ", "for ", "echo "]
                .iter()
                .any(|p| l.starts_with(p))
        })
        .map(str::to_owned)
        .collect()
}

/// Runs a printed line as a person would, with the binary on the path.
fn shell(line: &str) -> (bool, String) {
    let bin = binary();
    let path = format!(
        "{}:{}",
        bin.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("sh")
        .arg("-c")
        .arg(line)
        .env("PATH", path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[tokio::test]
async fn what_it_prints_works() {
    let mut command = Command::new(binary());
    command.arg("demo").env("EDGEQUOTA_DEMO_PORTS", "free");
    let mut demo = Process::spawn("edgequota demo", &mut command);
    eventually("three commands to try", Duration::from_secs(30), || async {
        (commands(&demo.log().text()).len() >= 3).then_some(())
    })
    .await;
    let lines = commands(&demo.log().text());
    println!("{lines:#?}");
    for line in &lines {
        let (ok, text) = shell(line);
        assert!(ok, "{line}\n{text}");
    }
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("sed ") || l.contains("sed -i")),
        "no command edits the policy: {lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.contains("explain") || l.contains("/v1/limits/effective")),
        "nothing asks why: {lines:?}"
    );
    demo.signal(rustix::process::Signal::INT);
    let status = demo.exited(Duration::from_secs(15)).await;
    assert!(status.success(), "{status}");
}
