//! Layers: defaults < file < environment, all mistakes at once.

use std::{collections::BTreeMap, path::Path};

use edgequota_policy::{PolicySpec, Problem};

use crate::{Problems, Settings, problems::{Located, Place}};

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

/// A process's environment, injectable in tests.
pub type Environment = BTreeMap<String, String>;

/// The environment of this process; values that are no UTF-8 are left out with no error.
pub fn process_environment() -> Environment {
    todo!()
}

/// One parsed YAML document that keeps the place of every value.
#[derive(Clone, Debug)]
pub struct Document {}

impl Document {
    /// Parses text (16 MiB at most, alias expansion bounded). `name` is shown in problems. Empty text is an empty map.
    pub fn parse(_name: &str, _text: &str) -> Result<Document, Problems> {
        todo!()
    }
    /// Place of the nearest existing ancestor of `path`.
    pub fn place(&self, _path: &str) -> Place {
        todo!()
    }
    /// Turns semantic problems into located ones.
    pub fn locate(&self, _problems: Vec<Problem>) -> Vec<Located> {
        todo!()
    }
    /// Whether any policy key (backend, backends, routes, overrides, rate_limit, auth, events) stands in it.
    pub fn has_policy(&self) -> bool {
        todo!()
    }
    /// Top-level settings keys in it, for the warning about settings inside policy files.
    pub fn settings_keys(&self) -> Vec<String> {
        todo!()
    }
    /// The optional `revision`.
    pub fn revision(&self) -> Option<String> {
        todo!()
    }
    /// The policy part, structure checked, environment laid over it when given. NOT semantically checked.
    pub fn policy(&self, _env: Option<&Environment>) -> Result<PolicySpec, Problems> {
        todo!()
    }
    /// The settings part, structure and meaning checked, environment laid over it.
    pub fn settings(&self, _env: &Environment) -> Result<Settings, Problems> {
        todo!()
    }
}

/// What a config file and the environment say.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Settings in force.
    pub settings: Settings,
    /// The policy part, resolved and checked, if the file or environment holds any. For DataPlane its problems
    /// are warnings and this is None.
    pub policy: Option<PolicySpec>,
    /// Warnings, each to be logged once.
    pub warnings: Vec<Located>,
}

/// Reads `path` (missing: an empty document) and lays the environment over it.
pub fn load(_path: &Path, _env: &Environment, _role: Role) -> Result<Loaded, Problems> {
    todo!()
}

/// JSON Schema of a config file, settings and policy in one.
pub fn schema() -> serde_json::Value {
    todo!()
}
