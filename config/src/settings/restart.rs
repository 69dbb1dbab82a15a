//! What `/v1/config` shows, and which changes need a restart.

use secrecy::ExposeSecret;
use serde_json::Value;

use super::{RedisMode, Settings};
use crate::{problems::without_userinfo, schema};

pub(super) fn redacted(settings: &Settings) -> Value {
    // The type's Serialize already redacts secrets; maps with text keys and finite numbers always serialise.
    let mut value = serde_json::to_value(settings).unwrap_or_default();
    strip_userinfo(&mut value);
    value
}

/// Any text may be a URL with a password in it, wherever someone put one.
fn strip_userinfo(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_userinfo(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(strip_userinfo),
        Value::Object(fields) => fields.values_mut().for_each(strip_userinfo),
        _ => {}
    }
}

pub(super) fn needed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let (a, b) = (serde_json::to_value(old).unwrap_or_default(), serde_json::to_value(new).unwrap_or_default());
    let hidden = [
        ("admin.token", old.admin.token.expose_secret() != new.admin.token.expose_secret()),
        ("control_plane.token", old.control_plane.token.expose_secret() != new.control_plane.token.expose_secret()),
    ];
    let changed =
        |path: &str| hidden.iter().any(|(secret, differs)| *secret == path && *differs) || at(&a, path) != at(&b, path);
    let mut needed: Vec<&str> = schema::index().settings_that_need_restart().filter(|path| changed(path)).collect();
    // Other topologies change live.
    if (old.redis.mode == RedisMode::Embedded) != (new.redis.mode == RedisMode::Embedded) {
        needed.push("redis.mode");
    }
    needed
}

fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}
