//! What an error of the client means for the connection and the call.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::endpoint::Endpoint;
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
    /// `LOADING`, `MASTERDOWN`, or it does not know us any more.
    NotReady(String),
    /// `NOPERM`, of the call or of a command inside the script.
    NoPermission(String),
    /// It answers, but cannot write now: `OOM`, `MISCONF`, `NOREPLICAS`, `CLUSTERDOWN`.
    Unable(String),
    /// Another node of the cluster is to be asked; nothing was executed.
    Elsewhere(Redirect),
    /// Everything else that the server may say.
    Server(String),
}

/// Where a node of a cluster sends a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// `MOVED`: the slot is there from now on.
    Moved { slot: u16, to: Endpoint },
    /// `ASK`: this once, with `ASKING`.
    Ask { to: Endpoint },
    /// `TRYAGAIN`: the keys of the call are apart while their slot moves.
    Apart,
}

/// What a server that cannot write begins its error with.
const UNABLE: [&str; 4] = ["OOM", "MISCONF", "NOREPLICAS", "CLUSTERDOWN"];

impl Failure {
    /// `host`: who said it.
    pub(super) fn of(error: &RedisError, host: &str) -> Failure {
        // Of the server's own words, enough to act on and never a subject or a secret of ours.
        let text = short(&error.to_string());
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Failure::NoScript,
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Failure::NotWritable(text),
            ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => Failure::NotReady(text),
            ErrorKind::Server(ServerErrorKind::TryAgain) => Failure::Elsewhere(Redirect::Apart),
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => redirect(error, host, text),
            ErrorKind::Server(ServerErrorKind::ClusterDown) => Failure::Unable(text),
            ErrorKind::Server(ServerErrorKind::NoPerm) => Failure::NoPermission(named(text)),
            // Inside a script the server wraps the code of the command that failed.
            _ if text.contains("NOPERM")
                || text.contains("ACL failure")
                || text.contains("executing the script can't") =>
            {
                Failure::NoPermission(named(text))
            }
            _ if text.contains("READONLY") => Failure::NotWritable(text),
            _ if text.contains("MASTERDOWN") || text.contains("LOADING") || text.contains("NOAUTH") => {
                Failure::NotReady(text)
            }
            _ if UNABLE.iter().any(|code| error.code() == Some(code) || text.contains(&format!(" -{code}"))) => {
                Failure::Unable(text)
            }
            ErrorKind::Io | ErrorKind::Parse => Failure::Broken(text),
            _ if error.is_unrecoverable_error() || error.is_connection_dropped() => Failure::Broken(text),
            _ => Failure::Server(text),
        }
    }

    /// About keys, not commands: says nothing about what other keys may.
    pub(super) fn is_about_keys(&self) -> bool {
        // What is refused stands behind these words; a name with "key" in it may stand before them.
        let refused = |text: &str| {
            let mut ends = ["permissions to access ", "can't access "].iter().filter_map(|w| text.split_once(w));
            ends.any(|(_, what)| what.contains("key"))
        };
        matches!(self, Failure::NoPermission(text) if refused(text))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        match failure {
            Failure::NoScript => StoreError::Server("the script cannot be loaded".to_owned()),
            Failure::Broken(text) => StoreError::Connection(text),
            Failure::NotWritable(text) | Failure::NotReady(text) => StoreError::NotWritable(text),
            Failure::NoPermission(text) => StoreError::NoPermission(text),
            Failure::Elsewhere(_) => {
                StoreError::NotWritable("it is a node of a cluster: set redis.mode to cluster".to_owned())
            }
            Failure::Unable(text) => StoreError::NotWritable(text),
            Failure::Server(text) => StoreError::Server(text),
        }
    }
}

fn redirect(error: &RedisError, host: &str, text: String) -> Failure {
    let there = error.redirect_node().and_then(|(to, slot)| Some((Endpoint::parse_redirect(to, host)?, slot)));
    match there {
        Some((to, slot)) if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) => {
            Failure::Elsewhere(Redirect::Moved { slot, to })
        }
        Some((to, _)) => Failure::Elsewhere(Redirect::Ask { to }),
        None => Failure::Server(text),
    }
}

/// Names the rule when the message does not.
fn named(text: String) -> String {
    match script::refused_command(&text) {
        Some(command) => format!("+{} is missing ({text})", command.to_lowercase()),
        None => text,
    }
}

/// The beginning of what the server said, without the arguments that it repeats: a subject may be among them.
fn short(text: &str) -> String {
    /// Longest message that is kept, in characters.
    const LONGEST: usize = 200;
    let text = text.split(", with args").next().unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client makes of a server's error line.
    fn of(line: &str) -> Failure {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        let error = value.and_then(redis::Value::extract_error).map(drop);
        Failure::of(&error.err().unwrap_or_else(|| (ErrorKind::Client, "no error").into()), "asked")
    }

    #[test]
    fn classes() {
        assert_eq!(of("NOSCRIPT No matching script."), Failure::NoScript);
        let readonly = of("READONLY You can't write against a read only replica.");
        assert!(matches!(readonly, Failure::NotWritable(_)));
        // As older servers wrap what happens inside a script.
        let wrapped =
            of("ERR Error running script (call to f_0): @user_script:90: @user_script: 90: -READONLY You can't");
        assert!(matches!(wrapped, Failure::NotWritable(_)));
        for line in
            ["LOADING Redis is loading", "MASTERDOWN Link with MASTER is down", "NOAUTH Authentication required."]
        {
            assert!(matches!(of(line), Failure::NotReady(_)), "{line}");
        }
        for line in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "OOM command not allowed when used memory > 'maxmemory'. script: f0, on @user_script:90.",
            "ERR Error running script (call to f_0): @user_script:90: @user_script: 90: -OOM command not allowed",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist on disk.",
            "CLUSTERDOWN Hash slot not served",
        ] {
            assert!(matches!(of(line), Failure::Unable(_)), "{line}: {:?}", of(line));
        }
        assert!(matches!(of("ERR something else"), Failure::Server(_)));
        let moved = Redirect::Moved { slot: 3999, to: Endpoint::new("10.0.0.1", 6381) };
        assert_eq!(of("MOVED 3999 10.0.0.1:6381"), Failure::Elsewhere(moved));
        assert_eq!(of("ASK 3999 :6381"), Failure::Elsewhere(Redirect::Ask { to: Endpoint::new("asked", 6381) }));
        let broken = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(matches!(Failure::of(&broken, "asked"), Failure::Broken(_)));
    }

    #[test]
    fn a_refused_command_is_named_whichever_way_the_server_tells() {
        let lines = script::SOURCE.lines();
        let hset = lines.zip(1..).find(|(line, _)| line.contains("'HSET'")).map_or(0, |(_, number)| number);
        for line in [
            format!("ERR Error running script (call to f_0): @user_script:{hset}: @user_script: {hset}: -NOPERM No"),
            format!("NOPERM User edge has no permissions script: 0, on @user_script:{hset}."),
            format!("ERR The user executing the script can't run this command script: 0, on @user_script:{hset}."),
        ] {
            let Failure::NoPermission(text) = of(&line) else { unreachable!("{line}") };
            assert!(text.starts_with("+hset is missing"), "{text}");
        }
    }

    #[test]
    fn a_user_with_key_in_its_name_makes_no_problem_of_keys() {
        for (line, keys) in [
            ("NOPERM No permissions to access a key", true),
            ("NOPERM User edge has no permissions to access the '{rl:edgequota:}:x' key", true),
            ("NOPERM this user has no permissions to access one of the keys used as arguments", true),
            ("ERR The user executing the script can't access at least one of the keys mentioned", true),
            ("NOPERM User monkey has no permissions to run the 'eval' command", false),
            ("NOPERM User edge has no permissions to run the 'keys' command", false),
        ] {
            assert_eq!(of(line).is_about_keys(), keys, "{line}");
        }
    }

    #[test]
    fn arguments_are_not_repeated() {
        let Failure::Server(text) =
            of("ERR unknown command 'EVALSHA', with args beginning with: 'rl:edgequota:s3cret'")
        else {
            unreachable!("an error of the server")
        };
        assert!(text.contains("EVALSHA") && !text.contains("s3cret"), "{text}");
    }
}
