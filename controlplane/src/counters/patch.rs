//! The body of `PATCH /v1/counters/{subject}`.

use edgequota_counters::store::Purpose;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// The largest whole number that every store counts exactly.
const MOST: u64 = (1 << 53) - 1;

/// A change: exactly one of `tokens` and `add`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Patch {
    /// Which limit; absent: all that can count the subject.
    #[schema(value_type = Option<String>)]
    limit: Option<Value>,
    /// Tokens that there are to be, 0 or more; as far as the burst has room.
    #[schema(value_type = Option<u64>)]
    tokens: Option<Value>,
    /// Tokens to add, or with a minus to take away; never below none, never above the burst.
    #[schema(value_type = Option<i64>)]
    add: Option<Value>,
}

/// What is asked for: which limit, and what to do.
pub(crate) type Wanted = (Option<String>, Purpose);

/// Reads a body. The error says what to change.
pub(crate) fn parse(body: &[u8]) -> Result<Wanted, String> {
    const FORM: &str = "write {\"tokens\": N} or {\"add\": N}, with \"limit\": \"NAME\" for one limit only";
    let patch: Patch = match serde_json::from_slice::<Value>(body) {
        // serde would take a list for the fields in order.
        Ok(Value::Object(_)) => serde_json::from_slice(body).map_err(|error| format!("{error}: {FORM}"))?,
        Ok(_) => return Err(format!("the body is no JSON object: {FORM}")),
        Err(error) => return Err(format!("the body is no JSON ({error}): {FORM}")),
    };
    let limit = match patch.limit {
        None => None,
        Some(Value::String(name)) => Some(name),
        Some(_) => return Err("limit must be the name of a limit, as a string".to_owned()),
    };
    let purpose = match (patch.tokens, patch.add) {
        (Some(tokens), None) => {
            let tokens = tokens.as_u64().filter(|n| *n <= MOST);
            Purpose::Set(tokens.ok_or_else(|| format!("tokens must be a whole number from 0 to {MOST}"))?)
        }
        (None, Some(add)) => {
            let add = add.as_i64().filter(|n| n.unsigned_abs() <= MOST);
            Purpose::Add(add.ok_or_else(|| format!("add must be a whole number from -{MOST} to {MOST}"))?)
        }
        (Some(_), Some(_)) => return Err(format!("tokens and add exclude each other: {FORM}")),
        (None, None) => return Err(format!("tokens or add is required: {FORM}")),
    };
    Ok((limit, purpose))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn exactly_one_change_is_read() {
        assert_eq!(parse(br#"{"tokens":5}"#), Ok((None, Purpose::Set(5))));
        assert_eq!(parse(br#"{"limit":"a/b","add":-3}"#), Ok((Some("a/b".into()), Purpose::Add(-3))));
        assert_eq!(parse(br#"{"tokens":0,"add":null}"#), Ok((None, Purpose::Set(0))));
    }

    #[test]
    fn anything_else_is_told() {
        for (body, words) in [
            (&b""[..], "no JSON"),
            (b"tokens=5", "no JSON"),
            (b"[null, 5, null]", "no JSON object"),
            (b"{}", "tokens or add is required"),
            (br#"{"tokens":null}"#, "tokens or add is required"),
            (br#"{"tokens":1,"add":1}"#, "exclude each other"),
            (br#"{"tokens":-1}"#, "tokens must be a whole number"),
            (br#"{"tokens":1.5}"#, "tokens must be a whole number"),
            (br#"{"tokens":"5"}"#, "tokens must be a whole number"),
            (br#"{"tokens":9007199254740992}"#, "tokens must be a whole number"),
            (br#"{"add":-9007199254740992}"#, "add must be a whole number"),
            (br#"{"add":1e3}"#, "add must be a whole number"),
            (br#"{"add":true}"#, "add must be a whole number"),
            (br#"{"token":1}"#, "unknown field `token`"),
            (br#"{"add":1,"limit":7}"#, "limit must be the name"),
            (br#"{"add":1,"add":2}"#, "duplicate field `add`"),
            (br#"{"add":1} x"#, "no JSON"),
        ] {
            let error = parse(body).unwrap_err();
            assert!(error.contains(words), "{}: {error}", String::from_utf8_lossy(body));
        }
    }
}
