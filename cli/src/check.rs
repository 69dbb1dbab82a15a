//! `edgequota check`.

use std::{path::Path, process::ExitCode};

use edgequota_config::{
    Document, Problems, Role, Settings,
    load::{self, process_environment},
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
    let mut parts = Vec::new();
    let single = matches!(target, edgequota_config::watch::Target::File(_));
    if single && let Some((path, Ok(text))) = content.files.first() {
        let document = Document::parse(&path.display().to_string(), text)?;
        match document.settings(&environment) {
            Ok(settings) => {
                let mut more = settings.not_built();
                more.extend(settings.role_problems(role_of(&settings)));
                problems.0.extend(document.locate_with(Some(&environment), more));
                parts.push("settings");
            }
            Err(more) => problems.0.extend(more.0),
        }
        if !document.has_policy() {
            return if problems.0.is_empty() {
                Ok("the settings are right; there is no policy in it".to_owned())
            } else {
                Err(problems)
            };
        }
    }
    match assemble::assemble(&target, &content, &environment) {
        Ok(assembled) => {
            for warning in &assembled.warnings {
                complain(&format!("warning: {warning}"));
            }
            let unbuilt = assembled.spec.not_built();
            problems.0.extend(Problems::whole(&path.display().to_string(), "").0.into_iter().flat_map(|at| {
                unbuilt.iter().map(move |p| edgequota_config::problems::Located {
                    path: p.path.clone(),
                    message: p.message.clone(),
                    ..at.clone()
                })
            }));
            parts.push("policy");
        }
        Err(more) => {
            let known: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
            problems.0.extend(more.0.into_iter().filter(|p| !known.contains(&p.to_string())));
        }
    }
    if problems.0.is_empty() {
        Ok(format!("{} right", if parts.len() == 2 { "settings and policy are" } else { "the policy is" }))
    } else {
        Err(problems)
    }
}
