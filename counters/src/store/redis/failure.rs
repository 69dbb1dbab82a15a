//! What an error of the client means for the connection and the call.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::{StoreError, script};

/// The classes of failure that are handled differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The script is not loaded; nothing was executed.
    NoScript,
    /// The connection is gone; the call may have been executed.
    Broken(String),
    /// A replica, or a primary that takes no writes (`READONLY`).
    NotWritable(String),
    /// `LOADING`, `MASTERDOWN`.
    NotReady(String),
    /// `NOPERM`, of the call or of a command inside the script.
    NoPermission(String),
    /// Everything else that the server may say.
    Server(String),
}

impl Failure {
    pub(super) fn of(error: &RedisError) -> Failure {
        // Of the server's own words, enough to act on and never a subject or a secret of ours.
        let text = short(&error.to_string());
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Failure::NoScript,
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Failure::NotWritable(text),
            ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => {
                Failure::NotReady(text)
            }
            ErrorKind::Server(ServerErrorKind::NoPerm) => Failure::NoPermission(named(text)),
            // Inside a script the server wraps the code of the command that failed.
            _ if text.contains("NOPERM")
                || text.contains("ACL failure")
                || text.contains("executing the script can't") =>
            {
                Failure::NoPermission(named(text))
            }
            _ if text.contains("READONLY") => Failure::NotWritable(text),
            ErrorKind::Io | ErrorKind::Parse => Failure::Broken(text),
            _ if error.is_unrecoverable_error() || error.is_connection_dropped() => {
                Failure::Broken(text)
            }
            _ => Failure::Server(text),
        }
    }

    /// About keys, not commands: says nothing about what other keys may.
    pub(super) fn is_about_keys(&self) -> bool {
        matches!(self, Failure::NoPermission(text) if text.contains("key"))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        match failure {
            Failure::NoScript => StoreError::Server("the script cannot be loaded".to_owned()),
            Failure::Broken(text) => StoreError::Connection(text),
            Failure::NotWritable(text) | Failure::NotReady(text) => StoreError::NotWritable(text),
            Failure::NoPermission(text) => StoreError::NoPermission(text),
            Failure::Server(text) => StoreError::Server(text),
        }
    }
}

/// Names the rule when the message does not.
fn named(text: String) -> String {
    match script::refused_command(&text) {
        Some(command) => format!("+{} is missing ({text})", command.to_lowercase()),
        None => text,
    }
}

fn short(text: &str) -> String {
    /// Longest message that is kept, in characters.
    const LONGEST: usize = 200;
    text.chars()
        .filter(|c| !c.is_control())
        .take(LONGEST)
        .collect()
}
