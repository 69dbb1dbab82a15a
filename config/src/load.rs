//! Layers: defaults < file < environment, all mistakes at once.

use std::path::Path;

use edgequota_policy::PolicySpec;

use crate::{
    Problems, Settings, environment,
    problems::{Located, Place},
    schema::{self, Part},
    watch::{
        Content,
        read::{self, ReadError},
    },
};
pub use crate::{
    document::Document,
    environment::{Environment, process_environment},
};

/// Which part of a file a process takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Settings and policy, environment over both.
    Standalone,
    /// Settings; the policy part only as bootstrap, without environment over it (variables that name policy
    /// settings are a warning).
    DataPlane,
    /// Settings; policy with environment over it when `control_plane.policy_path` is empty.
    ControlPlane,
}

/// What a config file and the environment say.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Settings in force.
    pub settings: Settings,
    /// The policy part, resolved and checked, if the file or environment holds any. For the data plane and the
    /// control plane its problems are warnings and this is `None`: they start without it and say so, because they
    /// have other sources (the last good policy, the other plane).
    pub policy: Option<PolicySpec>,
    /// Warnings, each to be logged once.
    pub warnings: Vec<Located>,
}

/// Reads `path` (missing: an empty document) and lays the environment over it.
pub fn load(path: &Path, env: &Environment, role: Role) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let document = match read::file(path) {
        Ok(Some(text)) => Document::parse(&name, &text)?,
        Ok(None) => Document::empty(&name),
        Err(error) => return Err(unreadable(&name, &error)),
    };
    from_document(&document, env, role)
}

/// The same for a document that has been parsed already.
pub fn from_document(document: &Document, env: &Environment, role: Role) -> Result<Loaded, Problems> {
    let (settings, mut problems, bad) = document.settings_part(env);
    let for_role = settings.role_problems(role).into_iter().filter(|p| !bad.explains(p)).collect();
    problems.extend(document.locate_with(Some(env), for_role));
    problems.extend(document.locate_with(Some(env), settings.not_built()));
    let mut warnings = environment::unknown(env);
    warnings.extend(document.locate_with(Some(env), settings.warnings()));

    let (policy, policy_problems) = match role {
        Role::Standalone => read_policy(document, Some(env), &mut warnings, true),
        Role::ControlPlane if settings.control_plane.policy_path.is_empty() => {
            read_policy(document, Some(env), &mut warnings, false)
        }
        Role::ControlPlane => (None, Vec::new()),
        Role::DataPlane => {
            warnings.extend(environment::policy_not_applied(env));
            read_policy(document, None, &mut warnings, false)
        }
    };
    // An unknown top-level key is found by the check of either part.
    let new = policy_problems.into_iter().filter(|problem| !problems.contains(problem)).collect::<Vec<_>>();
    match role {
        Role::Standalone => problems.extend(new),
        Role::DataPlane | Role::ControlPlane => warnings.extend(new),
    }
    sort(&mut problems);
    Problems(problems).into_result()?;
    Ok(Loaded { settings, policy, warnings })
}

/// What a watched config file says. A missing file is an empty one while nothing is in force yet (`at_start`), and a
/// mistake later: it will come back.
pub fn from_content(
    name: &str,
    content: Content,
    env: &Environment,
    role: Role,
    at_start: bool,
) -> Result<Loaded, Problems> {
    let document = match content.files.into_iter().next() {
        None if at_start => Document::empty(name),
        None => return Err(Problems::whole(name, "the file is gone")),
        Some((_, Err(reason))) => return Err(Problems::whole(name, reason)),
        Some((_, Ok(text))) => Document::parse(name, &text)?,
    };
    from_document(&document, env, role)
}

/// The policy, or all that is wrong with it. One that is not `needed` may be absent.
fn read_policy(
    document: &Document,
    env: Option<&Environment>,
    warnings: &mut Vec<Located>,
    needed: bool,
) -> (Option<PolicySpec>, Vec<Located>) {
    let set = document.has_policy() || env.is_some_and(|env| environment::sets(env, Part::Policy));
    if !set && !needed {
        return (None, Vec::new());
    }
    let mut part = document.policy_part(env);
    let semantic = part.spec.problems().into_iter().filter(|p| !part.explains(p)).collect();
    part.problems.extend(document.locate_with(env, semantic));
    part.problems.extend(document.locate_with(env, part.spec.not_built()));
    if part.problems.is_empty() {
        warnings.extend(document.locate_with(env, part.spec.warnings()));
        (Some(part.spec.resolved()), part.problems)
    } else {
        (None, part.problems)
    }
}

/// In the order of the file, then the environment, then what has no place.
fn sort(problems: &mut [Located]) {
    problems.sort_by_key(|problem| match &problem.place {
        Place::File { line, column, .. } => (0, *line, *column),
        Place::Env(_) => (1, 0, 0),
        Place::Whole(_) => (2, 0, 0),
    });
}

fn unreadable(name: &str, error: &ReadError) -> Problems {
    let place = match *error {
        ReadError::NotUtf8 { line, column } => Place::File { file: name.to_owned(), line, column },
        _ => Place::Whole(name.to_owned()),
    };
    Problems(vec![Located { place, path: String::new(), message: error.to_string() }])
}

/// JSON Schema of a config file, settings and policy in one.
pub fn schema() -> serde_json::Value {
    schema::json()
}
