//! Python programs with grpcio, from the environment that `make test` makes.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use crate::process::{Process, target_dir, workspace_dir};

/// The interpreter that has grpcio: `EDGEQUOTA_TEST_PYTHON`, else `test-venv` in the build directory.
///
/// # Panics
/// When there is none.
pub fn interpreter() -> PathBuf {
    if let Some(path) = std::env::var_os("EDGEQUOTA_TEST_PYTHON") {
        return PathBuf::from(path);
    }
    let path = target_dir().parent().unwrap().join("test-venv/bin/python");
    assert!(path.is_file(), "{} does not exist: run `tests/install.sh` (or `make test`)", path.display());
    path
}

fn script(name: &str) -> PathBuf {
    workspace_dir().join("tests/python").join(name)
}

/// Starts a script of `tests/python` that runs until it is dropped.
pub fn spawn(name: &str, args: &[&str]) -> Process {
    Process::spawn(name, Command::new(interpreter()).arg("-u").arg(script(name)).args(args))
}

/// Runs a script of `tests/python` to its end, off the runtime's threads.
pub async fn run(name: &str, args: &[String]) -> Output {
    let (name, args) = (script(name), args.to_vec());
    tokio::task::spawn_blocking(move || Command::new(interpreter()).arg(name).args(args).output().unwrap())
        .await
        .unwrap()
}
