//! The environment: names that follow from the paths of settings, and the ones that Kubernetes adds.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use crate::{
    check::suggest,
    problems::{Located, Place},
    schema::{self, Leaf, Part, path},
    yaml::{At, Entry, Node, Style, Tree},
};

/// A process's environment, injectable in tests.
pub type Environment = BTreeMap<String, String>;

/// Names that a process reads beside those of settings.
const OTHER_NAMES: &[&str] = &[CONFIG_FILE];

/// Names the config file; the default is [`DEFAULT_CONFIG_FILE`].
pub const CONFIG_FILE: &str = "EDGEQUOTA_CONFIG_FILE";
/// Where the config file is when nothing names another.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/edgequota/config.yaml";

const PREFIX: &str = "EDGEQUOTA_";

/// The environment of this process; values that are no UTF-8 are left out with no error.
pub fn process_environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The variables that are set for one part: empty ones count as unset, service links are none.
fn set(environment: &Environment, part: Part) -> impl Iterator<Item = (&str, &str, &'static Leaf)> {
    environment.range(PREFIX.to_owned()..).take_while(|(name, _)| name.starts_with(PREFIX)).filter_map(
        move |(name, value)| {
            let leaf = schema::index().variable(name)?;
            let counts = leaf.part == part && !value.is_empty() && !is_service_link(name, value);
            counts.then_some((name.as_str(), value.as_str(), leaf))
        },
    )
}

/// Whether any variable sets something of this part.
pub(crate) fn sets(environment: &Environment, part: Part) -> bool {
    set(environment, part).next().is_some()
}

/// The tree with the variables of one part laid over it.
pub(crate) fn over<'n>(root: &'n Node, environment: &Environment, part: Part) -> Cow<'n, Node> {
    let mut root = Cow::Borrowed(root);
    for (name, value, leaf) in set(environment, part) {
        let name: Arc<str> = name.into();
        insert(root.to_mut(), &leaf.path, &name, node(&name, value, leaf));
    }
    root
}

/// What a variable holds, as a node; lists are comma-separated.
fn node(name: &Arc<str>, value: &str, leaf: &Leaf) -> Node {
    let at = At::Env(name.clone());
    let scalar = |text: &str| Node { at: at.clone(), tree: Tree::Scalar(text.to_owned(), Style::Env) };
    if leaf.list {
        let items = value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(scalar).collect();
        return Node { at: at.clone(), tree: Tree::List(items) };
    }
    // White space around a secret may be part of it.
    scalar(if leaf.secret { value } else { value.trim() })
}

/// Puts `value` at `path`, making the blocks on the way. A block that is something else in the file stays what it is:
/// that is a problem of its own, which the check reports.
fn insert(root: &mut Node, path: &str, name: &Arc<str>, value: Node) {
    let mut node = root;
    let mut steps = path.split('.').peekable();
    while let Some(key) = steps.next() {
        if node.is_null() {
            node.tree = Tree::Map(Vec::new());
        }
        let Tree::Map(entries) = &mut node.tree else {
            return;
        };
        let found = match entries.iter().position(|entry| entry.key == key) {
            Some(found) => found,
            None => {
                let at = At::Env(name.clone());
                entries.push(Entry { key: key.to_owned(), at: at.clone(), value: Node { at, tree: Tree::Null } });
                entries.len() - 1
            }
        };
        let Some(entry) = entries.get_mut(found) else {
            return;
        };
        if steps.peek().is_none() {
            entry.at = At::Env(name.clone());
            entry.value = value;
            return;
        }
        node = &mut entry.value;
    }
}

/// Variables that look like ours and name nothing, each with the nearest name.
pub(crate) fn unknown(environment: &Environment) -> Vec<Located> {
    let index = schema::index();
    let ours = environment.range(PREFIX.to_owned()..).take_while(|(name, _)| name.starts_with(PREFIX));
    ours.filter(|(name, value)| {
        let known = index.variable(name).is_some() || OTHER_NAMES.contains(&name.as_str());
        !known && !value.is_empty() && !is_service_link(name, value)
    })
    .map(|(name, _)| {
        let names = index.variables().chain(OTHER_NAMES.iter().copied());
        let message = match suggest::nearest(name, names) {
            Some((near, likeness)) if likeness >= 0.9 => {
                format!("names no setting, did you mean {near}?")
            }
            _ => "names no setting and is ignored".to_owned(),
        };
        Located { place: Place::Env(name.clone()), path: String::new(), message }
    })
    .collect()
}

/// Variables that set policy, for a process that does not read it from its environment.
pub(crate) fn policy_not_applied(environment: &Environment) -> Vec<Located> {
    let message = "is not applied: this process takes its policy from the control plane";
    set(environment, Part::Policy)
        .map(|(name, _, leaf)| Located {
            place: Place::Env(name.to_owned()),
            path: leaf.path.clone(),
            message: message.to_owned(),
        })
        .collect()
}

/// Kubernetes describes every Service of the namespace to every container, so a Service called `edgequota` or
/// `edgequota-admin` makes variables that begin like ours: `EDGEQUOTA_PORT=tcp://10.0.0.1:8080`,
/// `EDGEQUOTA_ADMIN_SERVICE_HOST`, `EDGEQUOTA_PORT_8080_TCP_ADDR`.
pub fn is_service_link(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix("EDGEQUOTA") else {
        return false;
    };
    if rest.ends_with("_SERVICE_HOST") || rest.ends_with("_SERVICE_PORT") || rest.contains("_SERVICE_PORT_") {
        return true;
    }
    if rest.ends_with("_PORT") && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)) {
        return true;
    }
    // `_PORT_<n>_TCP`, with `_ADDR`, `_PORT` or `_PROTO` after it. The name of the Service may hold `_PORT_` too.
    let tails = rest.char_indices().filter_map(|(at, _)| rest.get(at..)?.strip_prefix("_PORT_"));
    tails.into_iter().any(|tail| {
        let mut parts = tail.split('_');
        let number = parts.next().is_some_and(|n| n.parse::<u16>().is_ok());
        let protocol = parts.next().is_some_and(|p| matches!(p, "TCP" | "UDP" | "SCTP"));
        let detail = parts.next().is_none_or(|d| matches!(d, "ADDR" | "PORT" | "PROTO"));
        number && protocol && detail && parts.next().is_none()
    })
}

/// The name of the variable that sets `path`, if the environment does.
pub(crate) fn place_of(environment: &Environment, at: &str) -> Option<Place> {
    [Part::Settings, Part::Policy].into_iter().find_map(|part| {
        let (name, ..) = set(environment, part).find(|(_, _, leaf)| path::covers(&leaf.path, at))?;
        Some(Place::Env(name.to_owned()))
    })
}
