//! The structural check: a tree is walked together with the shapes of the schema, and everything that does not fit is
//! collected at once. What does not fit is left out of the result (a default takes its place), so that the rules that
//! come after still run and their problems are reported together with these.

mod bad;
mod scalar;
pub(crate) mod suggest;

use serde_json::{Map, Value};

use crate::{
    problems::{Located, Place},
    schema::{self, Field, Part, Shape, path},
    yaml::{At, Entry, Node, Tree},
};

pub(crate) use self::bad::Bad;

/// Most problems of one check. A file of another kind has a problem in every line, and looking for the name that was
/// meant costs time for each.
pub(crate) const MAX_PROBLEMS: usize = 1_000;

/// What a tree says about one part, and what is wrong with it.
pub(crate) struct Checked {
    pub(crate) value: Map<String, Value>,
    pub(crate) problems: Vec<Located>,
    pub(crate) bad: Bad,
}

/// Checks one part of a tree; unknown top-level keys are reported with either.
pub(crate) fn check(file: &str, root: &Node, part: Part) -> Checked {
    let mut walk = Walk { file, problems: Vec::new(), bad: Bad::default() };
    let mut value = Map::new();
    match &root.tree {
        Tree::Null => {}
        Tree::Map(entries) => {
            for entry in entries {
                match schema::index().top(&entry.key) {
                    Some((its, field)) if *its == part || *its == Part::File => {
                        let checked = walk.entry(entry, field, "");
                        if *its == part {
                            value.extend(checked.map(|checked| (field.name.clone(), checked)));
                        }
                    }
                    Some(_) => {}
                    None => {
                        let known = schema::index().top.iter().map(|(_, field)| field.name.as_str());
                        walk.unknown(entry, &known.collect::<Vec<_>>(), "");
                    }
                }
            }
        }
        _ => walk.wrong(&root.at, "", "a block of keys", root),
    }
    Checked { value, problems: walk.problems, bad: walk.bad }
}

/// The place of a node of this file.
pub(crate) fn place(file: &str, at: &At) -> Place {
    match at {
        At::File(line, column) => Place::File { file: file.to_owned(), line: *line as usize, column: *column as usize },
        At::Env(name) => Place::Env(name.to_string()),
    }
}

/// Index of the last problem that is kept.
const LAST: usize = MAX_PROBLEMS - 1;

struct Walk<'a> {
    file: &'a str,
    problems: Vec<Located>,
    bad: Bad,
}

impl Walk<'_> {
    fn add(&mut self, at: &At, path: &str, message: impl Into<String>) {
        let (path, message) = match self.problems.len() {
            MAX_PROBLEMS.. => return,
            LAST => (String::new(), "too many problems: the further ones are not listed".to_owned()),
            _ => (path.to_owned(), message.into()),
        };
        let problem = Located { place: place(self.file, at), path, message };
        self.bad.add(&problem);
        self.problems.push(problem);
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    fn wrong(&mut self, at: &At, path: &str, expected: &str, found: &Node) {
        self.add(at, path, format!("{expected} is expected here, not {}", found.kind()));
    }

    fn entry(&mut self, entry: &Entry, field: &Field, parent: &str) -> Option<Value> {
        let path = path::join(parent, &entry.key);
        if entry.value.is_null() {
            self.null(entry, field, &path);
            return None;
        }
        self.value(&entry.value, entry.value_at(), &field.shape, &path)
    }

    /// A key without a value is like no key where absent means nothing; a number or a switch that someone forgot to
    /// write must not silently become a default.
    fn null(&mut self, entry: &Entry, field: &Field, path: &str) {
        let nothing = match (&field.shape, &field.default) {
            (Shape::Object(_) | Shape::Map(_) | Shape::List(_) | Shape::Any, _) => true,
            (Shape::Text | Shape::Secret { .. } | Shape::Duration | Shape::Cidr, default) => match default {
                None | Some(Value::Null) => !field.required,
                Some(Value::String(text)) => text.is_empty() || text == "0s",
                Some(_) => false,
            },
            _ => false,
        };
        if !nothing {
            let default = match &field.default {
                Some(Value::Null) | None => String::new(),
                Some(default) => format!(" for the default {default}"),
            };
            let expected = scalar::expected(&field.shape);
            let advice = if field.required { String::new() } else { format!(", or remove the key{default}") };
            self.add(&entry.at, path, format!("no value: write {expected}{advice}"));
        }
    }

    /// `None`: it does not fit, which has been said.
    fn value(&mut self, node: &Node, at: &At, shape: &Shape, path: &str) -> Option<Value> {
        match (shape, &node.tree) {
            (Shape::Any, _) => Some(scalar::untyped(node)),
            (Shape::Object(fields), Tree::Map(entries)) => Some(self.object(entries, at, fields, path)),
            (Shape::Map(value), Tree::Map(entries)) => Some(self.map(entries, value, path)),
            (Shape::List(item), Tree::List(items)) => Some(self.list(items, item, path)),
            (Shape::List(_), Tree::Scalar(..)) => {
                self.add(at, path, "a list is expected here, not a single value: put it in [brackets]");
                None
            }
            (Shape::Secret { by_reference }, tree) => self.secret(tree, at, *by_reference, path),
            (_, Tree::Scalar(text, style)) if !matches!(shape, Shape::Object(_) | Shape::Map(_)) => {
                match scalar::read(text, *style, shape, path) {
                    Ok(value) => Some(value),
                    Err(message) => {
                        self.add(at, path, message);
                        None
                    }
                }
            }
            _ => {
                self.wrong(at, path, &scalar::expected(shape), node);
                None
            }
        }
    }

    fn object(&mut self, entries: &[Entry], at: &At, fields: &[Field], path: &str) -> Value {
        let mut object = Map::new();
        for entry in entries {
            match fields.iter().find(|field| field.name == entry.key) {
                Some(field) => {
                    let checked = self.entry(entry, field, path);
                    object.extend(checked.map(|checked| (field.name.clone(), checked)));
                }
                None => {
                    let known: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                    self.unknown(entry, &known, path);
                }
            }
        }
        for field in fields.iter().filter(|field| field.required) {
            if object.contains_key(&field.name) {
                continue;
            }
            let missing = path::join(path, &field.name);
            if !self.bad.covers(&missing) {
                self.add(at, &missing, format!("{missing} is required"));
            }
            object.insert(field.name.clone(), scalar::placeholder(&field.shape));
        }
        Value::Object(object)
    }

    fn map(&mut self, entries: &[Entry], shape: &Shape, parent: &str) -> Value {
        let mut object = Map::new();
        for entry in entries {
            let path = path::join(parent, &entry.key);
            if entry.value.is_null() {
                // `{ token }` is a key without a value: what stands there was perhaps meant to be the value.
                let shown = if matches!(shape, Shape::Secret { .. }) { parent } else { &path };
                let message = format!("a key without a value: write {}", scalar::expected(shape));
                self.add(&entry.at, shown, message);
            } else if let Some(value) = self.value(&entry.value, entry.value_at(), shape, &path) {
                object.insert(entry.key.clone(), value);
            }
        }
        Value::Object(object)
    }

    /// Items that do not fit leave a placeholder, so that the numbers of the others stay what the reader counts.
    fn list(&mut self, items: &[Node], shape: &Shape, path: &str) -> Value {
        let mut list = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let path = format!("{path}[{i}]");
            if item.is_null() {
                self.add(&item.at, &path, format!("an empty item: {} is expected", scalar::expected(shape)));
            }
            let value = if item.is_null() { None } else { self.value(item, &item.at, shape, &path) };
            list.push(value.unwrap_or_else(|| scalar::placeholder(shape)));
        }
        Value::Array(list)
    }

    /// Nothing of what stands there is shown, not even a key.
    fn secret(&mut self, tree: &Tree, at: &At, by_reference: bool, path: &str) -> Option<Value> {
        match tree {
            Tree::Scalar(text, _) => return Some(Value::String(text.clone())),
            Tree::Map(entries) if by_reference => {
                if let [entry] = entries.as_slice()
                    && matches!(entry.key.as_str(), "env" | "file")
                    && let Tree::Scalar(name, _) = &entry.value.tree
                    && !name.is_empty()
                {
                    return Some(Value::Object(Map::from_iter([(entry.key.clone(), Value::String(name.clone()))])));
                }
            }
            _ => {}
        }
        let forms = if by_reference { "text, {env: NAME} or {file: PATH}" } else { "text" };
        self.add(at, path, format!("{forms} is expected here (a secret, not shown)"));
        None
    }

    fn unknown(&mut self, entry: &Entry, known: &[&str], parent: &str) {
        if self.is_full() {
            return;
        }
        let path = path::join(parent, &entry.key);
        let message = suggest::guess(&entry.key, known, parent);
        self.add(&entry.at, &path, message);
    }
}
