//! Text becomes nodes that remember where they were written. Nothing is typed here: whether `off` is text or a
//! boolean is the schema's to say.
//!
//! Bounds: [`MAX_TEXT`], [`MAX_DEPTH`], [`MAX_NODES`] and [`MAX_EXPANDED`] with aliases expanded. No message holds
//! text of the file other than names of keys.

mod bounds;
mod build;
pub(crate) mod node;
mod syntax;

pub(crate) use self::{
    build::parse,
    node::{At, Entry, Node, Style, Tree},
};

/// Most bytes of one file.
pub(crate) const MAX_TEXT: usize = 16 << 20;
/// Deepest nesting of blocks and lists.
pub(crate) const MAX_DEPTH: usize = 64;
/// Most values, those that aliases repeat included.
pub(crate) const MAX_NODES: usize = 1_000_000;
/// Most bytes of keys and values, those that aliases repeat included.
pub(crate) const MAX_EXPANDED: usize = 2 * MAX_TEXT;

#[cfg(test)]
mod tests;
