//! What a config file may hold: the JSON Schema that schemars makes of the types, and the same compiled into shapes
//! that a tree can be checked against.

mod compile;
mod index;
pub(crate) mod path;

use std::sync::OnceLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

pub(crate) use self::index::{Index, Leaf};
use crate::Settings;

/// Which half of a file a top-level key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Told to a process about itself.
    Settings,
    /// Told to all data planes.
    Policy,
    /// About the file itself (`revision`).
    File,
}

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Shape {
    Object(Vec<Field>),
    Map(Box<Shape>),
    List(Box<Shape>),
    Text,
    Cidr,
    Duration,
    /// Text, or where the flag says so `{env}` or `{file}`. Never shown.
    Secret {
        by_reference: bool,
    },
    Bool,
    Integer {
        min: i128,
        max: i128,
    },
    Number {
        min: f64,
        max: f64,
    },
    Choice(Vec<String>),
    /// Whatever stands there.
    Any,
}

/// A key of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    /// Without it the object has no meaning.
    pub(crate) required: bool,
    /// What absent means, as JSON, where the types state one.
    pub(crate) default: Option<Value>,
    pub(crate) description: String,
    /// A change is taken up without a restart.
    pub(crate) hot: bool,
}

/// The compiled schema of the types in this build.
pub(crate) fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| Index::new(&combined()))
}

/// Both halves as JSON Schema, before they are joined.
struct Halves {
    settings: Schema,
    policy: Schema,
    definitions: Map<String, Value>,
}

fn combined() -> Halves {
    // One generator for both, so that two types of the same name get two definitions.
    let mut generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let settings = Settings::json_schema(&mut generator);
    let policy = policy(&mut generator);
    Halves { settings, policy, definitions: generator.take_definitions(true) }
}

fn policy(generator: &mut SchemaGenerator) -> Schema {
    edgequota_policy::PolicySpec::json_schema(generator)
}

/// JSON Schema of a config file, settings and policy in one, for editors.
pub(crate) fn json() -> Value {
    let halves = combined();
    let mut properties = Map::new();
    for half in [&halves.settings, &halves.policy] {
        if let Some(Value::Object(half)) = half.get("properties") {
            properties.extend(half.clone());
        }
    }
    properties.insert(REVISION.to_owned(), json!({ "type": ["string", "null"], "description": REVISION_TEXT }));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "EdgeQuota configuration",
        "description": "Settings and policy of EdgeQuota. A process takes its part of a file and ignores the other.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": halves.definitions,
    })
}

/// The key that belongs to a file as such.
pub(crate) const REVISION: &str = "revision";
const REVISION_TEXT: &str = "Free text. If any file of a policy directory has one, all must have the same before the \
                             policy is published: so that separately mounted files are never mixed.";

#[cfg(test)]
mod tests;
