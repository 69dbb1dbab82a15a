//! Measures beside the tests: side by side with nginx and haproxy in one run, memory, the fleet.

pub mod cases;
pub mod count;
pub mod cpu;
pub mod fleet;
pub mod machine;
pub mod memory;
pub mod nginx;
pub mod options;
pub mod paced;
pub mod report;
pub mod scaling;
pub mod servers;
pub mod wrk;

use std::process::ExitCode;

pub use options::{Options, Part};

/// Runs the parts that the options ask for, prints their tables, and writes each into `docs/performance.md` as soon as
/// it is there, unless told not to.
#[allow(clippy::print_stdout)]
pub async fn run(options: Options) -> ExitCode {
    let path = crate::process::workspace_dir().join("docs/performance.md");
    let mut complaints = Vec::new();
    for part in options.parts.clone() {
        println!("== {}", part.name());
        let asked = options.clone();
        // In a task of its own: a part that fails does not take the others with it.
        match tokio::spawn(async move { measure(part, &asked).await }).await {
            Ok((table, wrong)) => {
                println!("\n{table}");
                if options.write {
                    report::write(&path, part.name(), &table);
                    println!("written to {}", path.display());
                }
                complaints.extend(wrong);
            }
            Err(e) => complaints.push(format!("{}: {e}", part.name())),
        }
    }
    for complaint in &complaints {
        println!("not what was meant to be measured: {complaint}");
    }
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The table of a part, and what went wrong.
async fn measure(part: Part, options: &Options) -> (String, Vec<String>) {
    match part {
        Part::Requests => requests(options).await,
        Part::Scaling => {
            let result = scaling::measure(options).await;
            (scaling::table(&result, options), result.complaints)
        }
        Part::Memory => {
            let results = memory::measure().await;
            (memory::table(&results), memory::complaints(&results))
        }
        Part::Fleet => (fleet::table(&fleet::measure(options).await), Vec::new()),
    }
}

#[allow(clippy::print_stdout)]
async fn requests(options: &Options) -> (String, Vec<String>) {
    let (mut results, mut wrong) = (Vec::new(), Vec::new());
    for case in cases::all() {
        if !options.only.is_empty() && !options.only.iter().any(|o| case.name.contains(o.as_str())) {
            continue;
        }
        println!("-- {} ({} rounds of {} s)", case.title, options.rounds, options.seconds);
        let asked = options.clone();
        match tokio::spawn(async move { cases::measure(&case, &asked).await }).await {
            Ok(measured) => {
                wrong.extend(measured.complaints.iter().map(|c| format!("{}: {c}", measured.title)));
                results.push(measured);
            }
            Err(e) => wrong.push(format!("{}: {e}", case.title)),
        }
    }
    (report::table(&results, options), wrong)
}
