//! Header lines the way a proxy needs them: nearly all of them pass as they came.
//!
//! A map that hashes every name, validates every value again and allocates for each costs more than all the rest of
//! forwarding. Here the head stays one block of bytes beside a table of where its lines are; lines of our own stand in
//! a second buffer. What is not touched is copied out in one piece. Both tables come from the worker's spares, so a
//! request in steady state allocates neither.

mod known;
mod map;

use bytes::Bytes;
use edgequota_policy::HeaderLines;
use http::HeaderName;

pub(crate) use known::{HOP_BY_HOP, Known, Names};
pub(crate) use map::capitalise;

use crate::spare;

/// Header lines, in order.
#[derive(Debug)]
pub(crate) struct Fields {
    /// What they were parsed from.
    head: Bytes,
    /// Names and values that were put in here.
    own: Vec<u8>,
    lines: Vec<Line>,
    /// Which known names may stand in `lines`; a clear bit saves the search.
    present: Names,
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    name: Span,
    value: Span,
    known: Known,
    /// In `own`, else in `head`.
    ours: bool,
}

/// A part of a buffer.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Heads are bounded far below 4 GiB; whatever would not fit shows as empty.
    fn new(start: usize, end: usize) -> Span {
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) => Span { start, end },
            _ => Span { start: 0, end: 0 },
        }
    }

    fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl Default for Fields {
    fn default() -> Fields {
        Fields::parsed(Bytes::new())
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        spare::keep_lines(std::mem::take(&mut self.lines));
        spare::keep_text(std::mem::take(&mut self.own));
    }
}

impl Fields {
    /// The same lines once more.
    pub(crate) fn copy(&self) -> Fields {
        let mut copy = Fields::parsed(self.head.clone());
        copy.own.extend_from_slice(&self.own);
        copy.lines.extend_from_slice(&self.lines);
        copy.present = self.present;
        copy
    }

    /// Without lines yet; they are told of with [`Fields::came`].
    pub(crate) fn parsed(head: Bytes) -> Fields {
        Fields { head, own: spare::text(), lines: spare::lines(), present: Names::NONE }
    }

    /// Takes in the next line of the head. Both parts must lie in it.
    pub(crate) fn came(&mut self, name: &[u8], value: &[u8]) {
        let known = Known::of(name);
        self.present.add(known);
        let line = Line { name: self.in_head(name), value: self.in_head(value), known, ours: false };
        self.lines.push(line);
    }

    fn in_head(&self, part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).wrapping_sub(self.head.as_ptr() as usize);
        Span::new(start, start.saturating_add(part.len()))
    }

    /// Number of lines.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    fn name(&self, line: &Line) -> &[u8] {
        line.name.of(if line.ours { &self.own } else { &self.head })
    }

    fn value(&self, line: &Line) -> &[u8] {
        line.value.of(if line.ours { &self.own } else { &self.head })
    }

    /// Whether any line has this name.
    pub(crate) fn has(&self, name: Known) -> bool {
        self.get(name).is_some()
    }

    /// Value of the first line with this name.
    pub(crate) fn get(&self, name: Known) -> Option<&[u8]> {
        if !self.present.has(name) {
            return None;
        }
        self.all(name).next()
    }

    /// Values of all lines with this name.
    pub(crate) fn all(&self, name: Known) -> impl Iterator<Item = &[u8]> {
        let lines: &[Line] = if self.present.has(name) { &self.lines } else { &[] };
        lines.iter().filter(move |line| line.known == name).map(|line| self.value(line))
    }

    /// The value of the first line with this name, to be kept beyond this.
    pub(crate) fn keep(&self, name: Known) -> Option<Bytes> {
        if !self.present.has(name) {
            return None;
        }
        let line = self.lines.iter().find(|line| line.known == name)?;
        Some(if line.ours {
            Bytes::copy_from_slice(self.value(line))
        } else {
            let (start, end) = (line.value.start as usize, line.value.end as usize);
            if end > self.head.len() { Bytes::new() } else { self.head.slice(start..end) }
        })
    }

    /// Takes all lines with one of these names out.
    pub(crate) fn remove(&mut self, names: Names) {
        if self.present.has_any(names) {
            self.lines.retain(|line| !names.has(line.known));
            self.present.subtract(names);
        }
    }

    /// Takes all lines with this name out, in whatever case it is written. Unlike the known ones it must be sought.
    pub(crate) fn remove_named(&mut self, name: &[u8]) {
        let known = Known::of(name);
        if known != Known::Other {
            return self.remove(Names::of(&[known]));
        }
        let Fields { head, own, lines, .. } = self;
        lines.retain(|line| !line.name.of(if line.ours { own } else { head }).eq_ignore_ascii_case(name));
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, name: Known, value: &[u8]) {
        self.write(name, |out| out.extend_from_slice(value));
    }

    /// Adds a line in place of those with this name.
    pub(crate) fn put(&mut self, name: Known, value: &[u8]) {
        self.remove(Names::of(&[name]));
        self.add(name, value);
    }

    /// Adds a line in place of those with this name: a number.
    pub(crate) fn put_number(&mut self, name: Known, value: u64) {
        self.put(name, itoa::Buffer::new().format(value).as_bytes());
    }

    /// Adds a line whose value is written into the buffer. Only what may stand in a header value may be written.
    pub(crate) fn write(&mut self, name: Known, value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.own.len();
        self.own.extend_from_slice(name.text().as_bytes());
        let middle = self.own.len();
        value(&mut self.own);
        self.push_own(start, middle, name);
    }

    /// Adds a line with any name, which the caller has checked as it has checked the value.
    fn add_named(&mut self, name: &[u8], value: &[u8]) {
        let start = self.own.len();
        self.own.extend_from_slice(name);
        let middle = self.own.len();
        self.own.extend_from_slice(value);
        self.push_own(start, middle, Known::of(name));
    }

    fn push_own(&mut self, start: usize, middle: usize, known: Known) {
        self.present.add(known);
        let value = Span::new(middle, self.own.len());
        self.lines.push(Line { name: Span::new(start, middle), value, known, ours: true });
    }

    /// Writes all lines but those with one of these names. Neighbours that stand in the head as they would be written
    /// go out together.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>, without: Names) {
        let mut run = 0..0;
        for line in &self.lines {
            if without.has(line.known) {
                continue;
            }
            match self.whole(line) {
                Some((start, end)) if start == run.end => run.end = end,
                Some((start, end)) => {
                    out.extend_from_slice(&self.head[run]);
                    run = start..end;
                }
                None => {
                    out.extend_from_slice(&self.head[run]);
                    run = 0..0;
                    out.extend_from_slice(self.name(line));
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(self.value(line));
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        out.extend_from_slice(&self.head[run]);
    }

    /// Where the line stands in the head, when it stands there as `Name: value` with its CRLF.
    fn whole(&self, line: &Line) -> Option<(usize, usize)> {
        if line.ours {
            return None;
        }
        let (start, end) = (line.name.start as usize, line.value.end as usize + 2);
        let colon = self.head.get(line.name.end as usize..line.value.start as usize)?;
        let crlf = self.head.get(line.value.end as usize..end)?;
        (colon == b": " && crlf == b"\r\n").then_some((start, end))
    }
}

impl HeaderLines for Fields {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        let known = Known::of(name);
        if known != Known::Other {
            return if self.present.has(known) { self.all(known).nth(nth) } else { None };
        }
        let same = |line: &&Line| {
            line.known == Known::Other
                && (line.name.end - line.name.start) as usize == name.len()
                && self.name(line).eq_ignore_ascii_case(name)
        };
        self.lines.iter().filter(same).nth(nth).map(|line| self.value(line))
    }
}

#[cfg(test)]
mod tests;
