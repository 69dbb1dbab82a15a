//! Single values, typed by the schema: `off` is text where text belongs, and no boolean anywhere.

use edgequota_policy::GoDuration;
use serde_json::{Map, Number, Value};

use crate::{
    problems::shown,
    schema::{Shape, path},
    settings::cidr,
    yaml::{Node, Style, Tree},
};

/// Reads `text` as what the shape asks for; `Err` says what is wrong. Never called for secrets.
pub(super) fn read(text: &str, style: Style, shape: &Shape, path: &str) -> Result<Value, String> {
    let invalid = || format!("invalid {path} {}: {} is expected", shown(text), expected(shape));
    let unquoted = || {
        if style == Style::Quoted { Err(format!("{} without quotes", invalid())) } else { Ok(()) }
    };
    match shape {
        Shape::Text => Ok(text.into()),
        Shape::Cidr => match cidr::parse(text) {
            Some(_) => Ok(text.into()),
            None => {
                let key = last_key(path);
                Err(format!("invalid {key} CIDR {}: a network such as 10.0.0.0/8, or an address", shown(text)))
            }
        },
        Shape::Duration => match text.parse::<GoDuration>() {
            Ok(_) => Ok(text.into()),
            Err(error) => {
                // Its own words name the value again, uncut.
                let error = error.to_string();
                let reason = error.rsplit_once(": ").map_or(error.as_str(), |(_, reason)| reason);
                Err(format!("invalid {path} {}: {reason}", shown(text)))
            }
        },
        Shape::Bool => {
            unquoted()?;
            match text {
                "true" => Ok(true.into()),
                "false" => Ok(false.into()),
                _ => Err(invalid()),
            }
        }
        Shape::Integer { min, max } => {
            unquoted()?;
            integer(text, *min, *max, path).unwrap_or_else(|| Err(invalid()))
        }
        Shape::Number { min, max } => {
            unquoted()?;
            number(text, *min, *max, path).unwrap_or_else(|| Err(invalid()))
        }
        Shape::Choice(names) => match names.iter().find(|name| name.eq_ignore_ascii_case(text)) {
            Some(name) => Ok(name.as_str().into()),
            None => Err(invalid()),
        },
        Shape::Object(_) | Shape::Map(_) | Shape::List(_) | Shape::Secret { .. } | Shape::Any => Err(invalid()),
    }
}

/// Decimal digits, no leading zero (which others read as octal), no fraction, no exponent. `None`: not a number.
fn integer(text: &str, min: i128, max: i128, path: &str) -> Option<Result<Value, String>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || (digits.len() > 1 && digits.starts_with('0'))
    {
        return None;
    }
    // More digits than an i128 holds are out of every range on the side of their sign.
    let value = text.parse::<i128>().unwrap_or(if text.starts_with('-') { i128::MIN } else { i128::MAX });
    if value < min {
        return Some(Err(format!("{path} must be >= {min}, not {}", shown(text))));
    }
    if value > max {
        return Some(Err(format!("{path} must be <= {max}, not {}", shown(text))));
    }
    let number = u64::try_from(value).map(Number::from).or_else(|_| i64::try_from(value).map(Number::from)).ok()?;
    Some(Ok(Value::Number(number)))
}

fn number(text: &str, min: f64, max: f64, path: &str) -> Option<Result<Value, String>> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'e' | b'E' | b'+'));
    let value = text.parse::<f64>().ok().filter(|value| plain && value.is_finite())?;
    if value < min {
        return Some(Err(format!("{path} must be >= {min}, not {}", shown(text))));
    }
    if value > max {
        return Some(Err(format!("{path} must be <= {max}, not {}", shown(text))));
    }
    Number::from_f64(value).map(|number| Ok(Value::Number(number)))
}

/// What a shape asks for, in words.
pub(super) fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Object(_) | Shape::Map(_) => "a block of keys",
        Shape::List(_) => "a list",
        Shape::Text | Shape::Secret { .. } => "text",
        Shape::Cidr => "a network such as 10.0.0.0/8",
        Shape::Duration => "a duration such as 300ms, 1.5s or 1h30m",
        Shape::Bool => "true or false",
        Shape::Integer { .. } => "a whole number",
        Shape::Number { .. } => "a number",
        Shape::Choice(names) => return format!("one of {}", names.join(", ")),
        Shape::Any => "a value",
    }
    .to_owned()
}

/// Stands for a required value that could not be read. Whatever a later rule says about it is not reported, because
/// its path already has a problem.
pub(super) fn placeholder(shape: &Shape) -> Value {
    match shape {
        Shape::Object(fields) => {
            let required = fields.iter().filter(|field| field.required);
            Value::Object(required.map(|field| (field.name.clone(), placeholder(&field.shape))).collect())
        }
        Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Text | Shape::Secret { .. } => "".into(),
        Shape::Cidr => "0.0.0.0/32".into(),
        Shape::Duration => "0s".into(),
        Shape::Bool => false.into(),
        Shape::Integer { min, .. } => u64::try_from(*min).unwrap_or(0).into(),
        Shape::Number { min, .. } => if *min > 0.0 { *min } else { 0.0 }.into(),
        Shape::Choice(names) => names.first().map(String::as_str).unwrap_or_default().into(),
        Shape::Any => Value::Null,
    }
}

/// For values that no type of ours describes: the usual reading of YAML.
pub(super) fn untyped(node: &Node) -> Value {
    match &node.tree {
        Tree::Null => Value::Null,
        Tree::List(items) => items.iter().map(untyped).collect(),
        Tree::Map(entries) => Value::Object(entries.iter().map(|e| (e.key.clone(), untyped(&e.value))).collect()),
        Tree::Scalar(text, Style::Quoted) => text.as_str().into(),
        Tree::Scalar(text, _) => match text.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            text => match integer(text, i64::MIN.into(), u64::MAX.into(), "") {
                Some(Ok(value)) => value,
                _ => text.into(),
            },
        },
    }
}

/// The last named step: what messages about items of a list talk about.
fn last_key(path: &str) -> &str {
    let key = path::steps(path).into_iter().rev().find_map(|step| match step {
        path::Step::Key(key) => Some(key),
        path::Step::Item(_) => None,
    });
    key.unwrap_or(path)
}
