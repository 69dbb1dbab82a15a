//! What a server says of its part in a replication.

use redis::Value;

/// The answer to `ROLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Primary(Standing),
    Replica,
}

/// Of two primaries, the greater one is likelier to be the one in charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    /// Replicas that follow it.
    pub(super) replicas: usize,
    /// How far its history goes.
    pub(super) offset: i64,
}

impl Role {
    /// `None`: a sentinel, or something else.
    pub(super) fn of(answer: &Value) -> Option<Role> {
        let Value::Array(items) = answer else { return None };
        match text(items.first()?)?.as_str() {
            "master" => {
                let offset = match items.get(1) {
                    Some(Value::Int(offset)) => *offset,
                    _ => 0,
                };
                let replicas = match items.get(2) {
                    Some(Value::Array(replicas)) => replicas.len(),
                    _ => 0,
                };
                Some(Role::Primary(Standing { replicas, offset }))
            }
            "slave" => Some(Role::Replica),
            _ => None,
        }
    }
}

/// A text, however the server sent it.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<Role> {
        Role::of(&redis::parse_redis_value(line.as_bytes()).ok()?)
    }

    #[test]
    fn roles() {
        let primary = "*3\r\n$6\r\nmaster\r\n:42\r\n*1\r\n*3\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\n2\r\n";
        assert_eq!(of(primary), Some(Role::Primary(Standing { replicas: 1, offset: 42 })));
        assert_eq!(of("*1\r\n$5\r\nslave\r\n"), Some(Role::Replica));
        assert_eq!(of("*1\r\n$8\r\nsentinel\r\n"), None);
        assert_eq!(of("+OK\r\n"), None);
        assert_eq!(of("*0\r\n"), None);
        assert!(Standing { replicas: 1, offset: 0 } > Standing { replicas: 0, offset: 9 });
    }
}
