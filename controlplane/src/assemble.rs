//! Documents to one checked policy spec, or everything that is wrong with them. Pure: no I/O, no clock.
//!
//! One file is taken as it is. Of several files, lists are joined in file-name order; what cannot be joined without
//! guessing (the same name twice, two default blocks that differ) is refused with both places.

mod join;
mod places;

use std::path::Path;

use edgequota_config::{
    Document, Place, Problems,
    load::Environment,
    problems::Located,
    watch::{Content, Target},
};
use edgequota_policy::{PolicySpec, Problem};

use join::Joined;

/// What the files say.
#[derive(Debug)]
pub struct Assembled {
    /// Resolved and checked.
    pub spec: PolicySpec,
    /// Each to be logged once.
    pub warnings: Vec<Located>,
    /// Settings of a process that stand beside the policy: as they should in a process's own file, and a mistake in one
    /// that holds a policy only.
    pub settings_beside: Vec<Located>,
}

/// One file of the policy: its name as it is shown, and its text or why there is none.
pub type File<'a> = (&'a Path, Result<&'a str, &'a str>);

/// Puts a policy together from what was read of `target`. `environment` is laid over it.
///
/// No files at all, or none with a policy in it, is refused: a policy never becomes "no limits" because a mount is empty.
pub fn assemble(target: &Target, content: &Content, environment: &Environment) -> Result<Assembled, Problems> {
    let files: Vec<File<'_>> =
        content.files.iter().map(|(path, text)| (path.as_path(), text.as_deref().map_err(String::as_str))).collect();
    match target {
        Target::File(path) => single(path, files.first().copied(), environment),
        Target::Directory(path) => directory(path, &files, environment),
    }
}

/// A document that stands alone, such as the body of a request.
pub fn document(document: Document, environment: Option<&Environment>) -> Result<Assembled, Problems> {
    let joined = Joined::of(vec![document], environment);
    finish(joined, environment)
}

fn single(path: &Path, file: Option<File<'_>>, environment: &Environment) -> Result<Assembled, Problems> {
    let name = path.display().to_string();
    let by_environment = join::sets_any(environment);
    let parsed = match file {
        // As for every process, defaults and environment apply where there is no file.
        None if by_environment => Document::empty(&name),
        None => return Err(whole(&name, "the file does not exist")),
        Some((_, Err(reason))) => return Err(whole(&name, reason)),
        Some((_, Ok(text))) => Document::parse(&name, text)?,
    };
    if !parsed.has_policy() && !by_environment {
        let message = "there is no policy in this file: at least `backend` or `routes` is needed";
        return Err(whole(&name, message));
    }
    let settings_beside = settings_inside(&parsed);
    Ok(Assembled { settings_beside, ..document(parsed, Some(environment))? })
}

fn directory(path: &Path, files: &[File<'_>], environment: &Environment) -> Result<Assembled, Problems> {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    for (file, text) in files {
        let name = file.display().to_string();
        match text {
            Err(reason) => problems.extend(whole(&name, reason).0),
            Ok(text) => match Document::parse(&name, text) {
                Ok(document) => documents.push(document),
                Err(found) => problems.extend(found.0),
            },
        }
    }
    if problems.is_empty() && !documents.iter().any(Document::has_policy) {
        let found = if files.is_empty() {
            "there is no *.yaml file in this directory"
        } else {
            "none of the files holds a policy"
        };
        problems.extend(whole(&path.display().to_string(), found).0);
    }
    problems.extend(disagreement(&documents));
    if !problems.is_empty() {
        // What could be read is checked too: all problems at once.
        let joined = Joined::of(documents, Some(environment));
        problems.extend(joined.problems);
        return Err(Problems(problems));
    }
    let settings_beside = documents.iter().flat_map(settings_inside).collect();
    Ok(Assembled { settings_beside, ..finish(Joined::of(documents, Some(environment)), Some(environment))? })
}

/// Structure was checked while joining; now what it means.
fn finish(joined: Joined, environment: Option<&Environment>) -> Result<Assembled, Problems> {
    let Joined { spec, places, parts, mut problems } = joined;
    // What was left out because it does not fit makes rules miss it: that is reported once, as what it is.
    let explained = |problem: &Problem| match places.resolve(&problem.path) {
        Some((document, path)) => parts[document].explains(&Problem { path, message: problem.message.clone() }),
        None => parts.iter().any(|part| part.explains(problem)),
    };
    let meant: Vec<_> = spec
        .problems()
        .into_iter()
        // A name that stands twice was reported with both places already, and a rule may miss what was left out.
        .filter(|p| !places.reported(&p.path) && !explained(p))
        .collect();
    problems.extend(places.locate(meant, environment));
    if problems.is_empty() {
        problems.extend(places.locate(spec.not_built(), environment));
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let warnings = places.locate(spec.warnings(), environment);
    Ok(Assembled { spec: spec.resolved(), warnings, settings_beside: Vec::new() })
}

/// If any file has a `revision`, all must have the same: separately mounted ConfigMaps arrive at different times.
fn disagreement(documents: &[Document]) -> Vec<Located> {
    let revisions: Vec<Option<String>> = documents.iter().map(Document::revision).collect();
    let Some((first, wanted)) = documents.iter().zip(&revisions).find_map(|(d, r)| r.as_ref().map(|r| (d, r))) else {
        return Vec::new();
    };
    let others = documents.iter().zip(&revisions).filter(|(_, revision)| revision.as_ref() != Some(wanted));
    others
        .map(|(document, revision)| Located {
            place: match revision {
                Some(_) => document.place("revision"),
                None => Place::Whole(document.name().to_owned()),
            },
            path: "revision".into(),
            message: format!(
                "{} and {} says \"{wanted}\" ({}): nothing is published until all files agree",
                revision.as_ref().map_or_else(|| "is missing".to_owned(), |r| format!("is \"{r}\"")),
                first.name(),
                first.place("revision"),
            ),
        })
        .collect()
}

fn settings_inside(document: &Document) -> Vec<Located> {
    let keys = document.settings_keys().into_iter();
    keys.map(|key| Located {
        place: document.place(&key),
        message: "is a setting of a process, not a part of a policy: ignored here".into(),
        path: key,
    })
    .collect()
}

fn whole(name: &str, message: &str) -> Problems {
    Problems(vec![Located { place: Place::Whole(name.to_owned()), path: String::new(), message: message.to_owned() }])
}
