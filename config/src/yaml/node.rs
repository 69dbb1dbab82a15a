//! One value of a file (or of the environment), with its place.

use std::{fmt, sync::Arc};

/// Where a node was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Line and column of the file, from 1.
    File(u32, u32),
    /// An environment variable.
    Env(Arc<str>),
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes: the schema decides what it is.
    Plain,
    /// Quoted or a block scalar: text.
    Quoted,
    /// From the environment: the schema decides, but it is never null.
    Env,
}

/// A value and its place. No `Debug` of the content: it may be a secret.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) tree: Tree,
}

#[derive(Clone)]
pub(crate) enum Tree {
    Null,
    Scalar(String, Style),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: At,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.tree, Tree::Null)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.tree {
            Tree::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// What a person would call it.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.tree {
            Tree::Null => "nothing",
            Tree::Scalar(..) => "a single value",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a block of keys",
        }
    }
}

impl Entry {
    /// Where a person looks for this value: single values where they stand, everything else at the key.
    pub(crate) fn value_at(&self) -> &At {
        match (&self.value.at, &self.value.tree) {
            (at @ At::Env(_), _) | (at, Tree::Scalar(..)) => at,
            _ => &self.at,
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}", self.kind(), self.at)
    }
}
