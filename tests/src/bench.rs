//! Side by side with nginx and haproxy, CPU time per request, in interleaved rounds of one run.

pub mod cases;
pub mod cpu;
pub mod options;
pub mod report;
pub mod servers;
pub mod wrk;

use std::process::ExitCode;

pub use options::Options;

/// Runs what the options ask for, prints the table, and writes it into `docs/performance.md` unless told not to.
#[allow(clippy::print_stdout)]
pub async fn run(options: Options) -> ExitCode {
    let mut results = Vec::new();
    for case in cases::all() {
        if options.only.is_empty() || options.only.iter().any(|o| case.name.contains(o.as_str())) {
            println!("== {} ({} rounds of {} s)", case.title, options.rounds, options.seconds);
            results.push(cases::measure(&case, &options).await);
        }
    }
    let table = report::table(&results, &options);
    println!("\n{table}");
    if options.write {
        let path = crate::process::workspace_dir().join("docs/performance.md");
        report::write(&path, &table);
        println!("written to {}", path.display());
    }
    if results.iter().any(|r| !r.complaints.is_empty()) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
