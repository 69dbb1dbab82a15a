//! How much of a file may become a tree.

use super::{MAX_EXPANDED, MAX_NODES};

/// What has been built so far: the tree with aliases expanded, and the copies kept for anchors.
#[derive(Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
}

impl Spent {
    /// `None` above the bounds.
    pub(super) fn add(&mut self, more: Spent) -> Option<()> {
        self.nodes = self.nodes.saturating_add(more.nodes);
        self.bytes = self.bytes.saturating_add(more.bytes);
        (self.nodes <= MAX_NODES && self.bytes <= MAX_EXPANDED).then_some(())
    }

    /// What has been added since `before`.
    pub(super) fn since(&self, before: Spent) -> Spent {
        Spent { nodes: self.nodes - before.nodes, bytes: self.bytes - before.bytes }
    }
}

/// What is said above the bounds.
pub(super) fn too_large() -> String {
    format!("too large: more than {MAX_NODES} values or {} MiB of text once aliases are expanded", MAX_EXPANDED >> 20)
}
