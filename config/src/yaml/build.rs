//! Builds the tree from the parser's events, within bounds.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::{
    At, Entry, MAX_DEPTH, MAX_TEXT, Node, Style, Tree,
    bounds::{Spent, too_large},
    syntax,
};
use crate::problems::{Located, Place, Problems};

/// Reads one document. Empty text is null. Duplicate keys are all reported at once; anything that leaves the rest
/// without meaning ends the reading.
pub(crate) fn parse(name: &str, text: &str) -> Result<Node, Problems> {
    if text.len() > MAX_TEXT {
        return Err(Problems::whole(name, format!("the file is larger than {} MiB", MAX_TEXT >> 20)));
    }
    syntax::refuse_controls(name, text)?;
    let mut builder = Builder::default();
    let end = builder.run(text);
    let mut problems = builder.problems;
    problems.extend(end.err());
    if !problems.is_empty() {
        let locate = |Fault { line, column, message }| Located {
            place: Place::File { file: name.to_owned(), line, column },
            path: String::new(),
            message,
        };
        return Err(Problems(problems.into_iter().map(locate).collect()));
    }
    Ok(builder.root.unwrap_or(Node { at: At::File(1, 1), tree: Tree::Null }))
}

struct Fault {
    line: usize,
    column: usize,
    message: String,
}

fn fault(at: &Marker, message: impl Into<String>) -> Fault {
    Fault { line: at.line().max(1), column: at.col() + 1, message: message.into() }
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, Anchored>,
    spent: Spent,
    problems: Vec<Fault>,
}

struct Anchored {
    node: Node,
    size: Spent,
}

struct Frame {
    at: At,
    anchor: usize,
    before: Spent,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, pending: Option<(String, At)> },
}

impl Builder {
    fn run(&mut self, text: &str) -> Result<(), Fault> {
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| fault(error.marker(), syntax::message(error.info())))?;
            self.event(event, &span)?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(fault(&span.start, "only one document is allowed in a file; a second one starts here"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text.into_owned(), style, anchor, tag.as_deref(), span)?
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(Content::List(Vec::new()), anchor, tag.as_deref(), span)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.open(Content::Map { entries: Vec::new(), pending: None }, anchor, tag.as_deref(), span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
            Event::Alias(anchor) => self.alias(anchor, span)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: String,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<(), Fault> {
        let text_tag = known_tag(tag, span)?;
        let size = Spent { nodes: usize::from(!self.expects_key()), bytes: text.len() };
        self.spent.add(size).ok_or_else(|| fault(&span.start, too_large()))?;
        if self.expects_key() {
            return self.key(text, style, anchor, span);
        }
        let style = if style == ScalarStyle::Plain && !text_tag { Style::Plain } else { Style::Quoted };
        let tree = if style == Style::Plain && syntax::is_null(&text) { Tree::Null } else { Tree::Scalar(text, style) };
        self.add(Node { at: at(&span.start), tree }, anchor, size, span)
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { content: Content::Map { pending: None, .. }, .. }))
    }

    fn key(&mut self, text: String, style: ScalarStyle, anchor: usize, span: &Span) -> Result<(), Fault> {
        let plain = style == ScalarStyle::Plain;
        if plain && text == "<<" {
            return Err(fault(&span.start, "merge keys (<<) are not supported: write the keys out"));
        }
        if plain && syntax::is_null(&text) {
            return Err(fault(&span.start, "a key is missing before the colon"));
        }
        if anchor != 0 {
            return Err(fault(&span.start, "an anchor on a key is not supported"));
        }
        if let Some(Frame { content: Content::Map { pending, .. }, .. }) = self.stack.last_mut() {
            *pending = Some((text, at(&span.start)));
        }
        Ok(())
    }

    fn open(&mut self, content: Content, anchor: usize, tag: Option<&Tag>, span: &Span) -> Result<(), Fault> {
        known_tag(tag, span)?;
        if self.expects_key() {
            return Err(fault(&span.start, "a key must be text, not a list or a block"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(fault(&span.start, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let before = self.spent;
        self.spent.add(Spent { nodes: 1, bytes: 0 }).ok_or_else(|| fault(&span.start, too_large()))?;
        self.stack.push(Frame { at: at(&span.start), anchor, before, content });
        Ok(())
    }

    fn close(&mut self, span: &Span) -> Result<(), Fault> {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let tree = match frame.content {
            Content::List(items) => Tree::List(items),
            Content::Map { entries, .. } => {
                self.duplicates(&entries);
                Tree::Map(entries)
            }
        };
        let size = self.spent.since(frame.before);
        self.add(Node { at: frame.at, tree }, frame.anchor, size, span)
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<(), Fault> {
        if self.expects_key() {
            return Err(fault(&span.start, "a key must be text, not an alias"));
        }
        let Some(Anchored { node, size }) = self.anchors.get(&anchor) else {
            return Err(fault(&span.start, "an alias must not stand inside of what it names"));
        };
        // Counted before it is copied: the copy is what a bomb is made of.
        let size = *size;
        self.spent.add(size).ok_or_else(|| fault(&span.start, too_large()))?;
        let node = node.clone();
        self.add(node, 0, size, span)
    }

    fn add(&mut self, node: Node, anchor: usize, size: Spent, span: &Span) -> Result<(), Fault> {
        if anchor != 0 {
            self.spent.add(size).ok_or_else(|| fault(&span.start, too_large()))?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), size });
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame { content: Content::List(items), .. }) => items.push(node),
            Some(Frame { content: Content::Map { entries, pending }, .. }) => {
                if let Some((key, at)) = pending.take() {
                    entries.push(Entry { key, at, value: node });
                }
            }
        }
        Ok(())
    }

    /// Both places are named, because the reader has to decide which one stays.
    fn duplicates(&mut self, entries: &[Entry]) {
        let mut seen = HashMap::with_capacity(entries.len());
        for entry in entries {
            let At::File(line, column) = entry.at else {
                continue;
            };
            if let Some(first) = seen.get(entry.key.as_str()) {
                let name = crate::check::suggest::key_shown(&entry.key);
                let message = format!("the key {name} stands twice in one block, first on line {first}");
                self.problems.push(Fault { line: line as usize, column: column as usize, message });
            } else {
                seen.insert(entry.key.as_str(), line);
            }
        }
    }
}

fn at(marker: &Marker) -> At {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    At::File(narrow(marker.line().max(1)), narrow(marker.col() + 1))
}

fn known_tag(tag: Option<&Tag>, span: &Span) -> Result<bool, Fault> {
    syntax::is_text_tag(tag).ok_or_else(|| fault(&span.start, "tags (!name) are not supported"))
}
