//! `edgequota explain`: the answer of `/v1/limits/effective` for people, from a control plane or from a local file.

mod remote;
mod render;

use std::{path::Path, sync::Arc};

use edgequota_config::{
    Problems,
    load::Environment,
    watch::{Content, Target},
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
    let failed = |error: std::io::Error| Problems::whole(&name, error.to_string());
    let file = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok((Target::File(path.to_owned()), Content { files: vec![(path.to_owned(), file(path))] }));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file() {
            let text = file(&path);
            files.push((path, text));
        }
    }
    files.sort();
    Ok((Target::Directory(path.to_owned()), Content { files }))
}
