//! Several documents, one policy.

use std::collections::HashMap;

use edgequota_config::{
    Document, Place, document::PolicyPart, environment::is_service_link, load::Environment, problems::Located,
};
use edgequota_policy::PolicySpec;

use super::places::Places;

/// The blocks of which a policy has one each.
const BLOCKS: [&str; 4] = ["backend", "rate_limit", "auth", "events"];

/// A joined policy, not yet checked for what it means.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) spec: PolicySpec,
    pub(super) places: Places,
    /// Of each document, its spec taken out.
    pub(super) parts: Vec<PolicyPart>,
    /// Wrong structure, the same name twice, blocks that differ.
    pub(super) problems: Vec<Located>,
}

impl Joined {
    /// Joins in the order given. The environment is laid over the document that has the block, or over the first.
    pub(super) fn of(documents: Vec<Document>, environment: Option<&Environment>) -> Joined {
        let mut joined = Joined {
            spec: PolicySpec::default(),
            places: Places::of(documents),
            parts: Vec::new(),
            problems: Vec::new(),
        };
        let specs = joined.read(environment);
        for (index, spec) in specs.into_iter().enumerate() {
            joined.blocks(index, &spec);
            joined.lists(index, spec);
        }
        joined.duplicates();
        joined
    }

    fn read(&mut self, environment: Option<&Environment>) -> Vec<PolicySpec> {
        let mut owners: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut count = 0;
        while count < self.places.len() {
            for block in BLOCKS {
                if has(self.places.document(count), block) {
                    owners.entry(block).or_default().push(count);
                }
            }
            count += 1;
        }
        let mut specs = Vec::with_capacity(count);
        for index in 0..count {
            let own = environment.map(|environment| {
                let mine = |block: &str| owners.get(block).map_or(index == 0, |owners| owners.contains(&index));
                let theirs: Vec<String> = BLOCKS.iter().filter(|b| !mine(b)).map(|b| prefix(b)).collect();
                let keep = |name: &str| !theirs.iter().any(|prefix| name.starts_with(prefix));
                environment.iter().filter(|(name, _)| keep(name)).map(|(k, v)| (k.clone(), v.clone())).collect()
            });
            let own: Option<Environment> = own;
            let mut part = self.places.document(index).policy_part(own.as_ref());
            for block in BLOCKS {
                let first = owners.get(block).map_or(0, |owners| owners[0]);
                let owned = owners.contains_key(block) || own.as_ref().is_some_and(|e| sets(e, block));
                if owned && first == index {
                    self.places.block(block, index);
                }
            }
            self.problems.append(&mut part.problems);
            specs.push(std::mem::take(&mut part.spec));
            self.parts.push(part);
        }
        specs
    }

    /// A block that stands in several files must say the same in all of them.
    fn blocks(&mut self, index: usize, spec: &PolicySpec) {
        for block in BLOCKS {
            let Some(first) = self.places.block_document(block) else {
                continue;
            };
            if first == index {
                match block {
                    "backend" => self.spec.backend = spec.backend.clone(),
                    "rate_limit" => self.spec.rate_limit = spec.rate_limit.clone(),
                    "auth" => self.spec.auth = spec.auth.clone(),
                    _ => self.spec.events = spec.events.clone(),
                }
                continue;
            }
            if !has(self.places.document(index), block) {
                continue;
            }
            let same = match block {
                "backend" => self.spec.backend == spec.backend,
                "rate_limit" => self.spec.rate_limit == spec.rate_limit,
                "auth" => self.spec.auth == spec.auth,
                _ => self.spec.events == spec.events,
            };
            if !same {
                let other = self.places.document(first).place(block);
                self.problems.push(Located {
                    place: self.places.document(index).place(block),
                    path: block.into(),
                    message: format!("differs from the one at {other}: keep one of them"),
                });
            }
        }
    }

    fn lists(&mut self, index: usize, spec: PolicySpec) {
        macro_rules! join {
            ($($list:ident),*) => {$(
                let start = self.spec.$list.len();
                self.spec.$list.extend(spec.$list);
                self.places.list(stringify!($list), start..self.spec.$list.len(), index);
            )*};
        }
        join!(backends, routes, overrides);
    }

    /// The same name in two files. Within one file the policy's own check says it.
    fn duplicates(&mut self) {
        let backends: Vec<String> = self.spec.backends.iter().map(|b| b.name.clone()).collect();
        let routes: Vec<String> = self.spec.routes.iter().map(|r| r.name.clone()).collect();
        for (list, what, names) in [("backends", "backend", backends), ("routes", "route", routes)] {
            let mut seen: HashMap<&str, usize> = HashMap::new();
            for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                let Some(first) = seen.insert(name, index) else {
                    continue;
                };
                seen.insert(name, first);
                let (Some(here), Some(there)) = (
                    self.places.resolve(&format!("{list}[{index}].name")),
                    self.places.resolve(&format!("{list}[{first}].name")),
                ) else {
                    continue;
                };
                if here.0 == there.0 {
                    continue;
                }
                let other = self.places.document(there.0).place(&there.1);
                self.problems.push(Located {
                    place: self.places.document(here.0).place(&here.1),
                    path: here.1,
                    message: format!("{what} \"{name}\" stands at {other} too: names must be unique"),
                });
                self.places.report(format!("{list}[{index}].name"));
            }
        }
    }
}

fn has(document: &Document, block: &str) -> bool {
    matches!(document.place(block), Place::File { .. })
}

/// `EDGEQUOTA_RATE_LIMIT_`.
fn prefix(block: &str) -> String {
    format!("EDGEQUOTA_{}_", block.to_ascii_uppercase())
}

/// Whether the environment says anything about a policy. Kubernetes' service links do not.
pub(super) fn sets_any(environment: &Environment) -> bool {
    BLOCKS.iter().any(|block| sets(environment, block))
}

fn sets(environment: &Environment, block: &str) -> bool {
    let prefix = prefix(block);
    environment
        .iter()
        .any(|(name, value)| name.starts_with(&prefix) && !value.is_empty() && !is_service_link(name, value))
}
