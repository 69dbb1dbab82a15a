//! Numbers of single subjects.

use std::{collections::HashMap, fmt};

use crate::Numbers;

/// What an override says about one subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Override {
    pub(crate) numbers: Numbers,
    pub(crate) blocked: bool,
    /// Into the spec's `overrides`.
    pub(crate) index: usize,
}

/// By subject, as it is extracted. Not printed: keys may be credentials.
#[derive(Default)]
pub(super) struct Overrides(HashMap<Box<str>, Override>);

impl Overrides {
    pub(super) fn get(&self, subject: &str) -> Option<&Override> {
        self.0.get(subject)
    }
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
    pub(super) fn reserve(&mut self, more: usize) {
        self.0.reserve(more);
    }
    pub(super) fn insert(&mut self, subject: String, over: Override) {
        self.0.insert(subject.into_boxed_str(), over);
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Overrides({})", self.0.len())
    }
}
