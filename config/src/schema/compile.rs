//! JSON Schema into shapes: the part of JSON Schema that schemars writes for our types.

use serde_json::{Map, Value};

use super::{Field, Shape};
use crate::settings::cidr;

/// Definitions to follow `$ref`s into. Types nest, they do not recurse: deeper than this is cut off.
const DEEPEST: usize = 32;

pub(super) struct Compiler<'a> {
    pub(super) definitions: &'a Map<String, Value>,
}

impl Compiler<'_> {
    /// Fields of an object's schema, in the order of the type.
    pub(super) fn fields(&self, schema: &Map<String, Value>, hot: bool, depth: usize) -> Vec<Field> {
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = schema.get("properties").and_then(Value::as_object);
        properties
            .into_iter()
            .flatten()
            .filter_map(|(name, field)| {
                let field = field.as_object()?;
                let resolved = self.resolve(field, depth);
                let hot = hot || flag(field, "x-hot") || flag(resolved, "x-hot");
                let description = text(field, "description").or_else(|| text(resolved, "description"));
                Some(Field {
                    name: name.clone(),
                    shape: self.shape(resolved, hot, depth + 1),
                    required: required.contains(&name.as_str()),
                    default: field.get("default").or_else(|| resolved.get("default")).cloned(),
                    description: description.unwrap_or_default().to_owned(),
                    hot,
                })
            })
            .collect()
    }

    /// Follows `$ref`, and the one alternative that is not null.
    fn resolve<'s>(&'s self, schema: &'s Map<String, Value>, depth: usize) -> &'s Map<String, Value> {
        if depth > DEEPEST {
            return schema;
        }
        if let Some(Value::String(reference)) = schema.get("$ref") {
            let name = reference.rsplit('/').next().unwrap_or_default();
            return match self.definitions.get(name).and_then(Value::as_object) {
                Some(found) => self.resolve(found, depth + 1),
                None => schema,
            };
        }
        let alternatives =
            ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema.get(*key)).and_then(Value::as_array);
        let mut real = alternatives.into_iter().flatten().filter_map(Value::as_object).filter(|s| !is_null(s));
        match (real.next(), real.next()) {
            (Some(only), None) if only.get("const").is_none() => self.resolve(only, depth + 1),
            _ => schema,
        }
    }

    fn shape(&self, schema: &Map<String, Value>, hot: bool, depth: usize) -> Shape {
        if depth > DEEPEST {
            return Shape::Any;
        }
        if flag(schema, "x-secret") {
            let by_reference = schema.contains_key("anyOf") || schema.contains_key("oneOf");
            return Shape::Secret { by_reference };
        }
        if let Some(names) = choices(schema) {
            return Shape::Choice(names);
        }
        match kind(schema) {
            Some("string") => match text(schema, "format") {
                Some("go-duration") => Shape::Duration,
                Some(cidr::FORMAT) => Shape::Cidr,
                _ => Shape::Text,
            },
            Some("boolean") => Shape::Bool,
            Some("integer") => integer(schema),
            Some("number") => {
                let bound = |key, other| schema.get(key).and_then(Value::as_f64).unwrap_or(other);
                Shape::Number { min: bound("minimum", f64::MIN), max: bound("maximum", f64::MAX) }
            }
            Some("array") => Shape::List(Box::new(self.item(schema.get("items"), hot, depth))),
            Some("object") => match schema.get("additionalProperties") {
                Some(Value::Object(_) | Value::Bool(true)) => {
                    Shape::Map(Box::new(self.item(schema.get("additionalProperties"), hot, depth)))
                }
                _ => Shape::Object(self.fields(schema, hot, depth + 1)),
            },
            _ => Shape::Any,
        }
    }

    fn item(&self, schema: Option<&Value>, hot: bool, depth: usize) -> Shape {
        match schema.and_then(Value::as_object) {
            Some(item) => self.shape(self.resolve(item, depth), hot, depth + 1),
            None => Shape::Any,
        }
    }
}

fn integer(schema: &Map<String, Value>) -> Shape {
    let (least, most) = match text(schema, "format") {
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint" | "uint64") => (0, u64::MAX.into()),
        Some("int8") => (i8::MIN.into(), i8::MAX.into()),
        Some("int16") => (i16::MIN.into(), i16::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN.into(), i128::from(i64::MAX)),
    };
    let bound = |key: &str| schema.get(key).and_then(whole);
    Shape::Integer {
        min: bound("minimum").unwrap_or(least).max(least),
        max: bound("maximum").unwrap_or(most).min(most),
    }
}

fn whole(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

/// The names of an enum: `enum: [..]`, or `oneOf` constants when the variants are documented, or both mixed.
fn choices(schema: &Map<String, Value>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    collect(schema, &mut names).then_some(names).filter(|names| !names.is_empty())
}

fn collect(schema: &Map<String, Value>, names: &mut Vec<String>) -> bool {
    if let Some(Value::String(name)) = schema.get("const") {
        names.push(name.clone());
        return true;
    }
    if let Some(Value::Array(values)) = schema.get("enum") {
        names.extend(values.iter().filter_map(Value::as_str).map(str::to_owned));
        return true;
    }
    match schema.get("oneOf").and_then(Value::as_array) {
        Some(alternatives) => alternatives.iter().all(|a| a.as_object().is_some_and(|a| collect(a, names))),
        None => false,
    }
}

fn kind(schema: &Map<String, Value>) -> Option<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => Some(kind),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        _ => schema.contains_key("properties").then_some("object"),
    }
}

fn is_null(schema: &Map<String, Value>) -> bool {
    matches!(schema.get("type"), Some(Value::String(kind)) if kind == "null")
}

fn flag(schema: &Map<String, Value>, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

fn text<'s>(schema: &'s Map<String, Value>, key: &str) -> Option<&'s str> {
    schema.get(key).and_then(Value::as_str)
}
