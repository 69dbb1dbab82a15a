//! A secret inside a policy.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};

use super::written::Canonical;

/// What people see instead of a literal secret.
pub const REDACTED: &str = "[REDACTED]";
const WANTED: &str = "a string, {env: NAME} or {file: PATH}";

/// A secret: literal text, or where the data plane finds it. Neither `Debug` nor `Serialize` ever shows a literal one;
/// only the canonical form of a whole policy does.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret itself; empty for none.
    Literal(String),
    /// Name of an environment variable of the data plane.
    Env(String),
    /// Path of a file on the data plane, watched.
    File(String),
}

impl Secret {
    /// The text of a literal, non-empty secret.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Secret::Literal(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
    /// Nothing was written.
    pub fn is_empty(&self) -> bool {
        matches!(self, Secret::Literal(text) if text.is_empty())
    }
}

impl Default for Secret {
    fn default() -> Self {
        Secret::Literal(String::new())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret::Literal(text.to_owned())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Literal(text) if text.is_empty() => Ok(()),
            Secret::Literal(_) => f.write_str(REDACTED),
            Secret::Env(name) => write!(f, "{{env: {name}}}"),
            Secret::File(path) => write!(f, "{{file: {path}}}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

fn write<S: Serializer>(secret: &Secret, literal: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let (key, value) = match secret {
        Secret::Literal(_) => return serializer.serialize_str(literal),
        Secret::Env(name) => ("env", name),
        Secret::File(path) => ("file", path),
    };
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(self, if self.is_empty() { "" } else { REDACTED }, serializer)
    }
}

impl Canonical for Secret {
    fn canonical<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(self, self.literal().unwrap_or_default(), serializer)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> de::Visitor<'de> for Form {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(WANTED)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(text.into())
            }
            // serde's own errors would print the value, and a password of digits is a password.
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(wrong())
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(wrong())
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(wrong())
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                Err(wrong())
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
                let Some(key) = map.next_key::<String>()? else {
                    return Err(wrong());
                };
                let secret = match key.as_str() {
                    "env" => Secret::Env(map.next_value()?),
                    "file" => Secret::File(map.next_value()?),
                    _ => return Err(wrong()),
                };
                match map.next_key::<String>()? {
                    None => Ok(secret),
                    Some(_) => Err(wrong()),
                }
            }
        }
        fn wrong<E: de::Error>() -> E {
            E::custom(format!("must be {WANTED}"))
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let reference = |name: &str| {
            serde_json::json!({
                "type": "object",
                "properties": { name: { "type": "string" } },
                "required": [name],
                "additionalProperties": false
            })
        };
        json_schema!({
            "oneOf": [{ "type": "string" }, reference("env"), reference("file")],
            "x-secret": true
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::written::Wire;
    use super::*;

    #[test]
    fn reads_its_three_forms() {
        for (json, secret) in [
            (r#""hunter2""#, Secret::from("hunter2")),
            (r#"{"env":"TOKEN"}"#, Secret::Env("TOKEN".into())),
            (r#"{"file":"/run/token"}"#, Secret::File("/run/token".into())),
        ] {
            assert_eq!(serde_json::from_str::<Secret>(json).unwrap(), secret);
            assert_eq!(serde_json::to_string(&Wire(&secret)).unwrap(), json);
        }
    }

    #[test]
    fn a_wrong_form_is_refused_without_showing_it() {
        for json in ["12345", "-5", "1.5", "true", "{}", r#"{"hunter2":"x"}"#, r#"{"env":"A","file":"hunter2"}"#] {
            let error = serde_json::from_str::<Secret>(json).unwrap_err().to_string();
            assert!(error.starts_with("must be a string, {env: NAME} or {file: PATH}"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("12345"), "{error}");
        }
    }

    #[test]
    fn nothing_for_people_shows_a_literal_one() {
        let secret = Secret::from("hunter2");
        for shown in [format!("{secret}"), format!("{secret:?}"), serde_json::to_string(&secret).unwrap()] {
            assert!(shown.contains(REDACTED) && !shown.contains("hunter2"), "{shown}");
        }
    }
}
