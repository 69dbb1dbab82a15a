//! `edgequota explain`: the answer of `/v1/limits/effective` for people, from a control plane or from a local file.

mod remote;
mod render;

use std::{path::Path, sync::Arc};

use edgequota_config::{
    Problems,
    load::Environment,
    watch::{Content, Target, read_now},
};

pub use remote::ask;
pub use render::render;

use crate::{
    assemble::assemble,
    effective::{
        BadDescription, Described, Explained,
        answer::{Answer, PolicyAnswer},
    },
    publish::{NotServable, Prepared},
};

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The description.
    #[error(transparent)]
    Described(#[from] BadDescription),
    /// The local file or directory.
    #[error("{0}")]
    Files(#[from] Problems),
    /// Its policy.
    #[error(transparent)]
    Policy(#[from] NotServable),
    /// The URL.
    #[error("invalid control plane URL \"{0}\": write it as http://host:9090 (its admin port)")]
    Url(String),
    /// The control plane is not there.
    #[error("cannot reach the control plane at {address}: {reason}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// Why.
        reason: String,
    },
    /// It answered with a refusal.
    #[error("the control plane answered {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It answered something else than expected.
    #[error("the control plane's answer cannot be read: {0}")]
    Answer(String),
}

/// Explains with the policy of a file, or of a directory of files. Counters are not asked: what is left is unknown.
pub async fn local(path: &Path, environment: &Environment, described: &Described) -> Result<Answer, ExplainError> {
    let (target, content) = read(path)?;
    let assembled = assemble(&target, &content, environment)?;
    let prepared = Prepared::new(assembled.spec)?;
    let (hash, policy, spec) = prepared.parts();
    let hash = hash.to_string();
    let name = PolicyAnswer {
        version: format!("local-{}", hash.get(..8).unwrap_or_default()),
        generation: 0,
        hash,
        source: path.display().to_string(),
    };
    let request = described.request(&[])?;
    Ok(Explained { policy: Arc::clone(policy), spec: Arc::clone(spec), name }.answer(&request, None).await)
}

/// The content of a file, or of a directory of policy files, read once.
pub fn read(path: &Path) -> Result<(Target, Content), Problems> {
    let name = path.display().to_string();
    let is_directory = std::fs::metadata(path).map_err(|error| Problems::whole(&name, error.to_string()))?.is_dir();
    let target = if is_directory { Target::Directory(path.to_owned()) } else { Target::File(path.to_owned()) };
    let content = read_now(std::slice::from_ref(&target));
    Ok((target, content))
}
