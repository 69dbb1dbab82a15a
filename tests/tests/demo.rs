//! `edgequota demo`: what it prints can be done, and does what it says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::{process::Command, time::Duration};

use edgequota_tests::{edgequota::binary, process::Process};

/// Commands that the demo prints: lines that begin like one.
fn commands(text: &str) -> Vec<String> {
    let starts = ["curl ", "sed ", "edgequota ", "for ", "sleep "];
    text.lines().map(str::trim).filter(|l| starts.iter().any(|s| l.starts_with(s))).map(str::to_owned).collect()
}

/// Runs a printed line as a person would, with the binary on the path.
fn shell(line: &str) -> String {
    let bin = binary();
    let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh").arg("-c").arg(line).env("PATH", path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{text}");
    text
}

#[tokio::test]
async fn what_it_prints_works() {
    let mut demo = Process::spawn("edgequota demo", Command::new(binary()).arg("demo"));
    demo.log().until("Ctrl-C", Duration::from_secs(30)).await;
    let lines = commands(&demo.log().text());
    assert!(lines.len() >= 3, "fewer than three commands: {lines:?}");
    let mut said = String::new();
    for line in &lines {
        let text = shell(line);
        println!("$ {line}\n{text}");
        said.push_str(&format!("$ {line}\n{text}\n"));
    }
    let edit = said.find("$ sed ").expect("no command edits the policy");
    let (before, after) = said.split_at(edit);
    assert!(before.contains("429"), "no limit was used up before the edit");
    // With the blanks: an identifier of a request may hold these digits.
    assert!(after.contains(" 200 ") && !after.contains(" 429 "), "the edit was not enforced at once: {after}");
    assert!(said.contains("$ edgequota explain"), "nothing asks why");

    demo.signal(rustix::process::Signal::INT);
    let status = demo.exited(Duration::from_secs(15)).await;
    assert!(status.success(), "{status}");
}
