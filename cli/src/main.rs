//! The one binary, `edgequota`.

mod args;
mod check;
mod demo;
mod explain;
mod plane;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `edgequota <version>`.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    // Two crypto providers in one binary panic at the first handshake: the choice is made before anything else.
    edgequota_ops::tls::install_provider();
    let args = Args::parse();
    let config = args.config.clone();
    match args.command.unwrap_or(Command::Standalone) {
        Command::Standalone => plane::standalone(config),
        Command::Dataplane => plane::dataplane(config),
        Command::Controlplane => plane::controlplane(config),
        Command::Demo => demo::run(),
        Command::Check(check) => check::run(&check),
        Command::Explain(explain) => explain::run(explain, &config),
        Command::Version => {
            args::say(&format!("edgequota {VERSION}"));
            ExitCode::SUCCESS
        }
    }
}
