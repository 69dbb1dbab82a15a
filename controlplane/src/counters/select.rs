//! Which limits are meant.

use std::{collections::HashMap, sync::Arc};

use edgequota_counters::Ask;
use edgequota_policy::Policy;

/// Counters of one subject.
#[derive(Debug)]
pub(crate) struct Selection {
    /// In the order of the policy.
    pub(crate) asks: Vec<Ask>,
    /// Limits that can never count such a subject.
    pub(crate) skipped: usize,
    /// One of the limits counts by credentials: the subject may be one.
    pub(crate) secret: bool,
}

/// Why nothing is selected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSelection {
    #[error("unknown limit \"{name}\": the policy in force has {known} (a disabled limit has no counters)")]
    Unknown { name: String, known: String },
    #[error(
        "limit \"{name}\" counts by {kind} and can never count such a subject: name one that it counts (see \
         /v1/limits/effective), or another limit"
    )]
    Impossible { name: String, kind: &'static str },
}

/// The counters of the subject `text`: of the limits that are named, else of all that can count it.
pub(crate) fn select(policy: &Policy, text: &str, names: &[String]) -> Result<Selection, BadSelection> {
    let mut missing: HashMap<&str, ()> = names.iter().map(|name| (name.as_str(), ())).collect();
    let mut selection = Selection { asks: Vec::new(), skipped: 0, secret: false };
    for limit in policy.limits() {
        let named = missing.remove(&*limit.name).is_some();
        if !names.is_empty() && !named {
            continue;
        }
        match limit.subject_named(text) {
            Some(subject) => {
                selection.secret |= subject.secret;
                let effective = limit.effective(&subject);
                selection.asks.push(Ask { limit: Arc::clone(limit), subject, effective });
            }
            None if named => {
                return Err(BadSelection::Impossible { name: limit.name.to_string(), kind: limit.key_type() });
            }
            None => selection.skipped += 1,
        }
    }
    // In the order in which they were named.
    match names.iter().find(|name| missing.contains_key(name.as_str())) {
        Some(name) => Err(BadSelection::Unknown { name: name.chars().take(129).collect(), known: known(policy) }),
        None => Ok(selection),
    }
}

/// Some names, for an error.
fn known(policy: &Policy) -> String {
    const SOME: usize = 10;
    let names: Vec<&str> = policy.limits().iter().take(SOME).map(|limit| &*limit.name).collect();
    match policy.limits().len() {
        0 => "no limits".to_owned(),
        n if n > SOME => format!("{} and {} more", names.join(", "), n - SOME),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn policy() -> Policy {
        let text = r#"{
            "backend": { "url": "http://b" },
            "rate_limit": { "average": 10, "key_strategy": { "type": "header", "header_name": "X-T" } },
            "routes": [
                { "name": "login", "match": { "path_prefix": "/login" },
                  "rate_limit": { "average": 5, "key_strategy": { "header_name": "Authorization" } } },
                { "name": "ip", "match": { "path_prefix": "/ip" }, "rate_limit": { "average": 5, "key_strategy": { "type": "clientIP" } } },
                { "name": "off", "match": { "path_prefix": "/off" }, "rate_limit": { "mode": "disabled" } }
            ],
            "overrides": [{ "keys": ["acme"], "burst": 50 }]
        }"#;
        let spec: edgequota_policy::PolicySpec = serde_json::from_str(text).unwrap();
        Policy::compile(&spec.resolved()).unwrap()
    }

    fn selected(text: &str, names: &[&str]) -> Result<(Vec<String>, usize, bool), BadSelection> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let selection = select(&policy(), text, &names)?;
        let limits = selection.asks.iter().map(|ask| ask.limit.name.to_string());
        Ok((limits.collect(), selection.skipped, selection.secret))
    }

    #[test]
    fn every_limit_that_can_count_it_unless_some_are_named() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(selected("acme", &[]), Ok((names(&["default", "login"]), 1, true)));
        assert_eq!(selected("10.0.0.1", &[]), Ok((names(&["default", "login", "ip"]), 0, true)));
        assert_eq!(selected("acme", &["default", "default"]), Ok((names(&["default"]), 0, false)));
        let burst = select(&policy(), "acme", &[]).unwrap().asks[0].effective.numbers.burst;
        assert_eq!(burst, 50, "an override counts");
    }

    #[test]
    fn a_limit_that_is_not_there_or_cannot_count_it_is_told() {
        let unknown = selected("acme", &["dfault", "ip"]).unwrap_err().to_string();
        assert!(unknown.contains("by clientIP"), "{unknown}");
        let unknown = selected("acme", &["login", "off"]).unwrap_err().to_string();
        assert!(unknown.contains("\"off\"") && unknown.contains("default, login, ip"), "{unknown}");
    }
}
