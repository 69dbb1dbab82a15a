//! `make bench`: how much CPU a request costs, side by side with nginx.

use std::process::ExitCode;

use edgequota_tests::bench::{Options, run};

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(options) => match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
            Ok(runtime) => runtime.block_on(run(options)),
            Err(e) => {
                eprintln!("no runtime: {e}");
                ExitCode::FAILURE
            }
        },
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
