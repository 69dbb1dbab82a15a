//! One parsed file, and what it says about settings and policy.

use std::{borrow::Cow, fmt, sync::Arc};

use edgequota_policy::{PolicySpec, Problem};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    Problems, Settings,
    check::{self, Bad, Checked},
    environment::{self, Environment},
    problems::{Located, Place},
    schema::{self, Part, path},
    yaml::{self, At, Node, Tree},
};

/// One parsed YAML document that keeps the place of every value.
#[derive(Clone)]
pub struct Document {
    name: Arc<str>,
    root: Arc<Node>,
}

/// The content may hold secrets.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The policy part of a document, as far as it fits.
#[derive(Debug)]
pub struct PolicyPart {
    /// What fits; the rest is at its default.
    pub spec: PolicySpec,
    /// What does not.
    pub problems: Vec<Located>,
    bad: Bad,
}

impl PolicyPart {
    /// Whether a semantic problem of this document is only a consequence of a structural one: its value was left out,
    /// or stands there under a wrong name, and a rule now misses it. It need not be reported.
    pub fn explains(&self, problem: &Problem) -> bool {
        self.bad.explains(problem)
    }
}

impl Document {
    /// Parses text (16 MiB at most, alias expansion bounded). `name` is shown in problems. Empty text is an empty map.
    pub fn parse(name: &str, text: &str) -> Result<Document, Problems> {
        Ok(Document { name: name.into(), root: Arc::new(yaml::parse(name, text)?) })
    }

    /// A document with nothing in it, for a file that does not exist.
    pub fn empty(name: &str) -> Document {
        Document { name: name.into(), root: Arc::new(Node { at: At::File(1, 1), tree: Tree::Null }) }
    }

    /// As it is shown in problems.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Place of the nearest existing ancestor of `path`; the whole file when not even its first step exists.
    pub fn place(&self, path: &str) -> Place {
        let mut found = None;
        let mut node = self.root.as_ref();
        for step in path::steps(path) {
            match (step, &node.tree) {
                (path::Step::Key(key), Tree::Map(_)) => match node.get(key) {
                    Some(entry) => (found, node) = (Some(entry.value_at()), &entry.value),
                    None => break,
                },
                (path::Step::Item(i), Tree::List(items)) => match items.get(i) {
                    Some(item) => (found, node) = (Some(&item.at), item),
                    None => break,
                },
                _ => break,
            }
        }
        found.map_or_else(|| Place::Whole(self.name.to_string()), |at| check::place(&self.name, at))
    }

    /// Turns semantic problems into located ones.
    pub fn locate(&self, problems: Vec<Problem>) -> Vec<Located> {
        self.locate_with(None, problems)
    }

    /// The same, where the environment was laid over the document: what a variable set is placed there.
    pub fn locate_with(&self, environment: Option<&Environment>, problems: Vec<Problem>) -> Vec<Located> {
        let locate = |Problem { path, message }| {
            let variable = environment.and_then(|environment| environment::place_of(environment, &path));
            Located { place: variable.unwrap_or_else(|| self.place(&path)), path, message }
        };
        problems.into_iter().map(locate).collect()
    }

    /// Whether any policy key (backend, backends, routes, overrides, rate_limit, auth, events) stands in it.
    pub fn has_policy(&self) -> bool {
        self.keys(Part::Policy).next().is_some()
    }

    /// Top-level settings keys in it, for the warning about settings inside policy files.
    pub fn settings_keys(&self) -> Vec<String> {
        self.keys(Part::Settings).map(str::to_owned).collect()
    }

    /// Keys of one part that have a value.
    fn keys(&self, part: Part) -> impl Iterator<Item = &str> {
        let of_part = move |key: &str| schema::index().top(key).is_some_and(|(its, _)| *its == part);
        let entries = self.root.entries().iter().filter(|entry| !entry.value.is_null());
        entries.map(|entry| entry.key.as_str()).filter(move |key| of_part(key))
    }

    /// The optional `revision`.
    pub fn revision(&self) -> Option<String> {
        match &self.root.get(schema::REVISION)?.value.tree {
            Tree::Scalar(text, _) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    /// The policy part, structure checked, environment laid over it when given. NOT semantically checked.
    pub fn policy(&self, environment: Option<&Environment>) -> Result<PolicySpec, Problems> {
        let (spec, problems) = self.policy_and_problems(environment);
        Problems(problems).into_result().map(|()| spec)
    }

    /// The same, but what fits is returned beside what does not: so that semantic problems can be reported together
    /// with structural ones.
    pub fn policy_part(&self, environment: Option<&Environment>) -> PolicyPart {
        let mut checked = self.checked(environment, Part::Policy);
        let spec = self.read(&mut checked);
        PolicyPart { spec, problems: checked.problems, bad: checked.bad }
    }

    /// [`Document::policy_part`] in pieces; pair it with [`follows`].
    pub fn policy_and_problems(&self, environment: Option<&Environment>) -> (PolicySpec, Vec<Located>) {
        let part = self.policy_part(environment);
        (part.spec, part.problems)
    }

    /// The settings part, structure and meaning checked, environment laid over it.
    pub fn settings(&self, environment: &Environment) -> Result<Settings, Problems> {
        let (settings, problems, _) = self.settings_part(environment);
        Problems(problems).into_result().map(|()| settings)
    }

    /// The same, but what fits is returned beside what does not.
    pub(crate) fn settings_part(&self, environment: &Environment) -> (Settings, Vec<Located>, Bad) {
        let mut checked = self.checked(Some(environment), Part::Settings);
        let settings: Settings = self.read(&mut checked);
        let semantic = settings.problems(&checked.bad);
        checked.problems.extend(self.locate_with(Some(environment), semantic));
        (settings.normalised(), checked.problems, checked.bad)
    }

    /// One part as JSON that fits the types, with the environment over it.
    pub(crate) fn checked(&self, environment: Option<&Environment>, part: Part) -> Checked {
        let root = match environment {
            Some(environment) => environment::over(&self.root, environment, part),
            None => Cow::Borrowed(self.root.as_ref()),
        };
        check::check(&self.name, &root, part)
    }

    /// What the check has let through always fits the types, unless schema and type disagree: said, not panicked.
    fn read<T: DeserializeOwned + Default>(&self, checked: &mut Checked) -> T {
        match from_value(std::mem::take(&mut checked.value)) {
            Ok(value) => value,
            Err((path, message)) => {
                // After other problems this is a consequence of a placeholder.
                if checked.problems.is_empty() {
                    checked.problems.push(Located { place: self.place(&path), path, message });
                }
                T::default()
            }
        }
    }
}

/// Deserialises; the error is a path and a message that holds no value of a secret.
pub(crate) fn from_value<T: DeserializeOwned>(value: Map<String, Value>) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(Value::Object(value)).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        (path, "cannot be read: wrong type or a value out of range".to_owned())
    })
}

/// Whether a problem at `path` is only a consequence of one of `structural`: its value was left out, or stands there
/// under a wrong name, and a rule now misses it.
pub fn follows(path: &str, structural: &[Located]) -> bool {
    Bad::of(structural).covers(path)
}
