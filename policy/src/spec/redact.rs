//! What people may see of a policy.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    DEFAULT, KeyStrategySpec, PolicySpec, REDACTED, Secret,
    resolve::{LimitValues, further_name},
};
use crate::limit::{self, Subject};

const CHANGED: &str = "[REDACTED, changed]";

/// Whether each limit counts by the value of a credential header, by name.
fn secret_limits(spec: &PolicySpec) -> HashMap<String, bool> {
    let is_secret = |key: &KeyStrategySpec| limit::shows_hash(key);
    let mut known = HashMap::from([(DEFAULT.to_owned(), is_secret(&spec.rate_limit.key_strategy))]);
    for route in &spec.routes {
        if let Some(limit) = &route.rate_limit {
            known.insert(route.name.clone(), is_secret(&LimitValues::of(limit, &spec.rate_limit).key));
        }
        for limit in &route.limits {
            let values = LimitValues::of(&limit.plain(), &spec.rate_limit);
            known.insert(further_name(&route.name, &limit.name), is_secret(&values.key));
        }
    }
    known
}

fn secrets(spec: &PolicySpec) -> impl Iterator<Item = (&str, &Secret)> {
    let http = &spec.events.http;
    http.headers.iter().map(|(name, secret)| (name.as_str(), secret)).chain([("", &http.auth_token)])
}

pub(super) fn has_literal_secrets(spec: &PolicySpec) -> bool {
    if secrets(spec).any(|(_, secret)| secret.literal().is_some()) {
        return true;
    }
    if spec.overrides.is_empty() {
        return false;
    }
    let by_limit = secret_limits(spec);
    spec.overrides.iter().any(|over| !over.keys.is_empty() && by_limit.get(&over.limit).copied().unwrap_or(true))
}

pub(super) fn redacted(spec: &PolicySpec) -> Value {
    // Writing strings, numbers and string-keyed maps into memory has no way to fail.
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    hide_user_info(&mut value);
    if spec.overrides.is_empty() {
        return value;
    }
    let by_limit = secret_limits(spec);
    for (index, over) in spec.overrides.iter().enumerate() {
        // An unknown limit: better a hash too many.
        if by_limit.get(&over.limit).copied().unwrap_or(true)
            && let Some(keys) = value["overrides"][index]["keys"].as_array_mut()
        {
            for key in keys {
                if let Value::String(raw) = key {
                    *key = Subject { raw: std::mem::take(raw), secret: true }.display().into_owned().into();
                }
            }
        }
    }
    value
}

pub(super) fn redacted_after(spec: &PolicySpec, previous: &PolicySpec) -> Value {
    let mut value = redacted(spec);
    let before: HashMap<&str, &Secret> = secrets(previous).collect();
    for (name, secret) in secrets(spec) {
        let differs = before.get(name).is_some_and(|old| *old != secret && !old.is_empty());
        if secret.literal().is_some() && differs {
            let http = &mut value["events"]["http"];
            let place = if name.is_empty() { &mut http["auth_token"] } else { &mut http["headers"][name] };
            *place = CHANGED.into();
        }
    }
    value
}

/// `http://user:password@host` is refused in a policy that is in force; a refused one may still be shown.
fn hide_user_info(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://")
                && let Some(at) = rest.split(['/', '?', '#']).next().and_then(|authority| authority.rfind('@'))
            {
                *text = format!("{scheme}://{REDACTED}{}", &rest[at..]);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_user_info),
        Value::Object(fields) => fields.values_mut().for_each(hide_user_info),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::*;

    fn with_header(value: &str) -> PolicySpec {
        let mut spec = PolicySpec::default();
        spec.events.http.headers.insert("X-Token".into(), value.into());
        spec
    }

    #[test]
    fn a_literal_secret_is_found_and_hidden() {
        let spec = with_header("hunter2");
        assert!(spec.has_literal_secrets());
        assert_eq!(spec.redacted()["events"]["http"]["headers"]["X-Token"], REDACTED);
        let mut reference = PolicySpec::default();
        reference.events.http.headers.insert("X-Token".into(), Secret::Env("TOKEN".into()));
        assert!(!reference.has_literal_secrets());
        assert_eq!(reference.redacted()["events"]["http"]["headers"]["X-Token"]["env"], "TOKEN");
    }

    #[test]
    fn a_changed_secret_says_so_without_being_shown() {
        let shown = with_header("new").redacted_after(&with_header("old"));
        assert_eq!(shown["events"]["http"]["headers"]["X-Token"], "[REDACTED, changed]");
        let same = with_header("old").redacted_after(&with_header("old"));
        assert_eq!(same["events"]["http"]["headers"]["X-Token"], REDACTED);
    }

    #[test]
    fn override_keys_that_are_credentials_are_hashed() {
        let mut spec = PolicySpec::default();
        spec.overrides.push(OverrideSpec { keys: vec!["api-key-1".into()], block: true, ..Default::default() });
        assert_eq!(spec.redacted()["overrides"][0]["keys"][0], "api-key-1");
        assert!(!spec.has_literal_secrets());
        spec.rate_limit.key_strategy.r#type = KeyType::Header;
        spec.rate_limit.key_strategy.header_name = "x-API-key".into();
        let shown = spec.redacted().to_string();
        assert!(!shown.contains("api-key-1") && shown.contains("sha256:"), "{shown}");
        assert!(spec.has_literal_secrets());
    }

    #[test]
    fn a_password_in_a_url_is_hidden() {
        let mut spec = PolicySpec::default();
        spec.auth.http.url = "https://me:hunter2@auth/x?y".into();
        assert_eq!(spec.redacted()["auth"]["http"]["url"], "https://[REDACTED]@auth/x?y");
    }
}
