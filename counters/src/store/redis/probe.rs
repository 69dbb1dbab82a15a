//! What is asked of a new connection before it is used.

use redis::{Cmd, Value, aio::MultiplexedConnection};

use super::{
    failure::Failure,
    request::{Credits, by_hash, with_source},
    role::Role,
    slots,
};
use crate::store::{Counter, Plan, Purpose};

/// A key that no subject's counter has: subjects are not empty and hold no bare brace. In a cluster it must be of a slot
/// that the node has.
fn probe_key(slot: Option<u16>) -> String {
    let Some(slot) = slot else { return "{rl:edgequota:}:connect-probe".to_owned() };
    let keys = (0..u32::MAX).map(|n| format!("{{rl:edgequota:{{{n}}}:connect-probe"));
    keys.into_iter().find(|key| slots::of(key) == slot).unwrap_or_default()
}

/// Runs every command that counting needs, on a counter that no subject has. A connect is good only when this worked: a
/// replica, a server that still loads its data and a missing ACL rule show here, and the script is loaded for the calls
/// to come.
pub(super) async fn probe(handle: &mut MultiplexedConnection, slot: Option<u16>) -> Result<Option<String>, Failure> {
    let numbers = edgequota_policy::Numbers {
        average: 1,
        burst: 2,
        period_us: 1_000_000,
        tick_us: 1_000_000,
        grains_per_token: 1,
        grains_per_tick: 1,
    };
    let mut plan = Plan::new(Purpose::Spend, String::new());
    let counter = Counter { cost: 1, numbers, enforce: true, min_ttl_ms: 0 };
    let probe_key = probe_key(slot);
    plan.push(counter, |key| key.push_str(&probe_key));
    let plan = [plan];
    let mut delete = Cmd::new();
    delete.arg("DEL").arg(&probe_key);
    let mut asking = Cmd::new();
    asking.arg("ASKING");
    if slot.is_some()
        && let Err(Failure::NoPermission(text)) = answer(handle, &asking).await
    {
        return Ok(Some(format!("+asking is missing ({text})")));
    }
    // The second count finds the counter of the first and the script loaded.
    for command in [&delete, &with_source(&plan, Credits::Give), &by_hash(&plan, Credits::Give), &delete] {
        match answer(handle, command).await {
            Ok(_) => {}
            // The ACL may name the keys of one `key_prefix` only: whether those are allowed, the first call tells.
            Err(failure) if failure.is_about_keys() => return Ok(None),
            Err(Failure::NoPermission(text)) => return Ok(Some(text)),
            // The slot went elsewhere in the meantime; the node counts for others.
            Err(Failure::Elsewhere(_)) if slot.is_some() => return Ok(None),
            Err(failure) => return Err(failure),
        }
    }
    Ok(None)
}

/// `ROLE` says `master`. A replica may be writable, so it is not enough that a write succeeds.
pub(super) async fn is_primary(handle: &mut MultiplexedConnection) -> Result<(), Failure> {
    let mut role = Cmd::new();
    role.arg("ROLE");
    match Role::of(&answer(handle, &role).await?) {
        Some(Role::Primary(_)) => Ok(()),
        _ => Err(Failure::NotWritable("it is not the primary".to_owned())),
    }
}

/// `maxmemory-policy`; refused twice: unknown.
pub(super) async fn eviction_policy(handle: &mut MultiplexedConnection) -> Option<String> {
    let mut config = Cmd::new();
    config.arg("CONFIG").arg("GET").arg("maxmemory-policy");
    if let Ok(value) = answer(handle, &config).await
        && let Ok(pairs) = redis::from_redis_value::<std::collections::HashMap<String, String>>(value)
        && let Some(policy) = pairs.get("maxmemory-policy")
    {
        return Some(policy.clone());
    }
    let mut info = Cmd::new();
    info.arg("INFO").arg("memory");
    let value = answer(handle, &info).await.ok()?;
    let text = redis::from_redis_value::<String>(value).ok()?;
    text.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).map(str::to_owned)
}

async fn answer(handle: &mut MultiplexedConnection, command: &Cmd) -> Result<Value, Failure> {
    handle.send_packed_command(command).await.and_then(Value::extract_error).map_err(|error| Failure::of(&error, ""))
}

/// So that `CLIENT LIST` shows whose connection it is. Refused: it has no name.
pub(super) async fn name_connection(handle: &mut MultiplexedConnection, node: &str) {
    // The server allows no blanks and no control characters in it.
    let name: String = node.chars().map(|c| if c.is_ascii_graphic() { c } else { '-' }).collect();
    let mut command = Cmd::new();
    command.arg("CLIENT").arg("SETNAME").arg(format!("edgequota-{name}"));
    if let Err(error) = answer(handle, &command).await {
        tracing::debug!(?error, "redis refuses CLIENT SETNAME");
    }
}
