//! The shapes of a whole file, and what is looked up in them: leaves, environment names, names of other blocks.

use std::collections::HashMap;

use schemars::Schema;
use serde_json::Value;

use super::{Field, Halves, Part, REVISION, REVISION_TEXT, Shape, compile::Compiler, path};

/// Everything a file may hold.
#[derive(Debug)]
pub(crate) struct Index {
    /// Top-level keys.
    pub(crate) top: Vec<(Part, Field)>,
    /// Every scalar, list of scalars, and map, in the order of the types.
    pub(crate) leaves: Vec<Leaf>,
    /// Name of a key -> the paths at which it may stand.
    places: HashMap<String, Vec<String>>,
    /// Environment name -> index into `leaves`.
    variables: HashMap<String, usize>,
}

/// A place for a value.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// `redis.pool_size`, `routes[].match.hosts`.
    pub(crate) path: String,
    pub(crate) part: Part,
    pub(crate) hot: bool,
    /// `EDGEQUOTA_REDIS_POOL_SIZE`; none inside of lists of blocks, and for maps.
    pub(crate) variable: Option<String>,
    /// Whether the variable holds a comma-separated list.
    pub(crate) list: bool,
    /// What a person calls the type.
    pub(crate) kind: String,
    pub(crate) default: Option<Value>,
    pub(crate) required: bool,
    pub(crate) secret: bool,
    pub(crate) description: String,
}

impl Index {
    pub(super) fn new(halves: &Halves) -> Index {
        let compiler = Compiler { definitions: &halves.definitions };
        let fields =
            |schema: &Schema| schema.as_object().map(|object| compiler.fields(object, false, 0)).unwrap_or_default();
        let mut top: Vec<(Part, Field)> = Vec::new();
        top.extend(fields(&halves.settings).into_iter().map(|field| (Part::Settings, field)));
        top.extend(fields(&halves.policy).into_iter().map(|field| (Part::Policy, field)));
        top.retain(|(_, field)| field.name != REVISION);
        top.push((Part::File, revision()));
        let mut index =
            Index { leaves: Vec::new(), places: HashMap::new(), variables: HashMap::new(), top: Vec::new() };
        for (part, field) in &top {
            index.enter(*part, field, "", field.default.as_ref(), *part != Part::File);
        }
        index.top = top;
        index
    }

    fn enter(&mut self, part: Part, field: &Field, parent: &str, default: Option<&Value>, named: bool) {
        let at = path::join(parent, &field.name);
        self.places.entry(field.name.clone()).or_default().push(at.clone());
        match &field.shape {
            Shape::Object(fields) => self.enter_all(part, fields, &at, default, named),
            Shape::List(item) => {
                if let Shape::Object(fields) = item.as_ref() {
                    return self.enter_all(part, fields, &format!("{at}[]"), None, false);
                }
                self.leaf(part, field, at, default, named);
            }
            _ => self.leaf(part, field, at, default, named),
        }
    }

    fn enter_all(&mut self, part: Part, fields: &[Field], at: &str, default: Option<&Value>, named: bool) {
        for inner in fields {
            // The default of a block says more than that of its type: a block may be made with other values.
            let default = default.and_then(|block| block.get(&inner.name)).or(inner.default.as_ref());
            self.enter(part, inner, at, default, named);
        }
    }

    fn leaf(&mut self, part: Part, field: &Field, at: String, default: Option<&Value>, named: bool) {
        let variable = (named && !matches!(field.shape, Shape::Map(_) | Shape::Any))
            .then(|| format!("EDGEQUOTA_{}", at.replace('.', "_").to_ascii_uppercase()));
        if let Some(name) = &variable {
            self.variables.insert(name.clone(), self.leaves.len());
        }
        self.leaves.push(Leaf {
            path: at,
            part,
            hot: field.hot || part != Part::Settings,
            variable,
            list: matches!(field.shape, Shape::List(_)),
            kind: kind(&field.shape),
            default: default.cloned(),
            required: field.required,
            secret: matches!(field.shape, Shape::Secret { .. }),
            description: field.description.clone(),
        });
    }

    /// The leaf that an environment variable names.
    pub(crate) fn variable(&self, name: &str) -> Option<&Leaf> {
        self.variables.get(name).and_then(|i| self.leaves.get(*i))
    }

    /// All names of variables.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.leaves.iter().filter_map(|leaf| leaf.variable.as_deref())
    }

    pub(crate) fn top(&self, name: &str) -> Option<&(Part, Field)> {
        self.top.iter().find(|(_, field)| field.name == name)
    }

    /// Where else a key of this name may stand, the place most like `here` first.
    pub(crate) fn elsewhere(&self, name: &str, here: &str) -> Option<&str> {
        let places = self.places.get(name)?;
        let shared = |place: &str| place.bytes().zip(here.bytes()).take_while(|(a, b)| a == b).count();
        let best = places.iter().map(|place| shared(place)).max()?;
        places.iter().find(|place| shared(place) == best).map(String::as_str)
    }

    /// Names of all keys, once each.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Paths of settings that a process reads once.
    pub(crate) fn settings_that_need_restart(&self) -> impl Iterator<Item = &str> {
        self.leaves.iter().filter(|leaf| leaf.part == Part::Settings && !leaf.hot).map(|leaf| leaf.path.as_str())
    }
}

fn revision() -> Field {
    Field {
        name: REVISION.to_owned(),
        shape: Shape::Text,
        required: false,
        default: Some(Value::String(String::new())),
        description: REVISION_TEXT.to_owned(),
        hot: true,
    }
}

fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Object(_) => "block".to_owned(),
        Shape::Map(value) => format!("map of {}", kind(value)),
        Shape::List(item) => format!("list of {}", kind(item)),
        Shape::Text => "text".to_owned(),
        Shape::Cidr => "network".to_owned(),
        Shape::Duration => "duration".to_owned(),
        Shape::Secret { by_reference: false } => "secret".to_owned(),
        Shape::Secret { by_reference: true } => "secret, `{env: NAME}` or `{file: PATH}`".to_owned(),
        Shape::Bool => "boolean".to_owned(),
        Shape::Integer { .. } => "integer".to_owned(),
        Shape::Number { .. } => "number".to_owned(),
        Shape::Choice(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        Shape::Any => "any".to_owned(),
    }
}
