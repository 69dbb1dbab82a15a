//! `edgequota check`.

use std::{path::Path, process::ExitCode};

use edgequota_config::{
    Document, Place, Problems, Role, Settings,
    load::{self, Environment, process_environment},
    problems::Located,
    watch::Target,
};
use edgequota_controlplane::{assemble, explain};

use crate::args::{Check, complain, say};

pub(crate) fn run(check: &Check) -> ExitCode {
    let Some(path) = check.path.as_deref().filter(|_| !check.schema) else {
        say(&serde_json::to_string_pretty(&load::schema()).unwrap_or_default());
        return ExitCode::SUCCESS;
    };
    match problems_of(path) {
        Ok(summary) => {
            say(&format!("{}: {summary}", path.display()));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            complain(&problems.to_string());
            complain(&format!("{} problem(s) in {}", problems.0.len(), path.display()));
            ExitCode::FAILURE
        }
    }
}

/// What a process with these settings would be started as.
fn role_of(settings: &Settings) -> Role {
    let plane = &settings.control_plane;
    if !plane.address.is_empty() {
        Role::DataPlane
    } else if !plane.policy_path.is_empty() {
        Role::ControlPlane
    } else {
        Role::Standalone
    }
}

/// Settings and policy of a file, or the policy of a directory.
fn problems_of(path: &Path) -> Result<String, Problems> {
    let environment = process_environment();
    let (target, content) = explain::read(path)?;
    let mut problems = Problems::default();
    let (mut settings, mut policy) = (false, true);
    if let (Target::File(_), Some((file, Ok(text)))) = (&target, content.files.first()) {
        let document = Document::parse(&file.display().to_string(), text)?;
        settings = true;
        policy = document.has_policy();
        problems.0.extend(problems_of_settings(&document, &environment));
    }
    if policy {
        match assemble::assemble(&target, &content, &environment) {
            Ok(assembled) => {
                // In a single file they may be meant: it may be a process's own.
                let beside = assembled.settings_beside.iter().filter(|_| !settings);
                beside.chain(&assembled.warnings).for_each(|warning| complain(&format!("warning: {warning}")));
            }
            Err(more) => {
                // An unknown top-level key is found by the check of either part.
                let known: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
                problems.0.extend(more.0.into_iter().filter(|p| !known.contains(&p.to_string())));
            }
        }
    }
    problems.0.sort_by_key(|problem| match &problem.place {
        Place::File { file, line, column } => (file.clone(), *line, *column),
        Place::Whole(file) => (file.clone(), usize::MAX, 0),
        Place::Env(_) => (String::new(), 0, 0),
    });
    problems.into_result()?;
    Ok(match (settings, policy) {
        (true, true) => "settings and policy are right".to_owned(),
        (true, false) => "the settings are right; there is no policy in it".to_owned(),
        (false, _) => "the policy is right".to_owned(),
    })
}

fn problems_of_settings(document: &Document, environment: &Environment) -> Vec<Located> {
    match document.settings(environment) {
        Ok(settings) => {
            let mut more = settings.not_built();
            more.extend(settings.role_problems(role_of(&settings)));
            document.locate_with(Some(environment), more)
        }
        Err(problems) => problems.0,
    }
}
