//! Memory that a worker uses again and again, so that a request in steady state asks the allocator for nearly nothing.
//!
//! Bounded in number and in size: what is larger or more than this is freed, and whatever nobody took for a while goes
//! back to the system with [`trim`].

use std::cell::RefCell;

use bytes::BytesMut;

use crate::fields::Line;

/// Pieces of each kind that are kept.
const MOST: usize = 256;
/// Larger texts and tables than these were made for something out of the ordinary.
const TEXT: usize = 8 << 10;
const LINES: usize = 128;
/// Room for what is usual, so that a new piece grows once.
const USUAL_TEXT: usize = 1 << 10;
const USUAL_LINES: usize = 24;
/// Room made for one read. A head fits; a body comes in pieces that are worth a system call.
pub(crate) const READ: usize = 16 << 10;

/// Pieces of one kind, the last one kept given first, because it is still in the processor's cache.
struct Pile<T> {
    kept: Vec<T>,
    /// The fewest that lay here since the last trim: so many were not needed.
    unneeded: usize,
}

impl<T> Pile<T> {
    const fn new() -> Pile<T> {
        Pile { kept: Vec::new(), unneeded: 0 }
    }

    fn take(&mut self) -> Option<T> {
        let piece = self.kept.pop();
        self.unneeded = self.unneeded.min(self.kept.len());
        piece
    }

    fn keep(&mut self, piece: T) {
        if self.kept.len() < MOST {
            self.kept.push(piece);
        }
    }

    fn trim(&mut self) {
        self.kept.drain(..self.unneeded.min(self.kept.len()));
        self.unneeded = self.kept.len();
    }
}

struct Spares {
    texts: Pile<Vec<u8>>,
    lines: Pile<Vec<Line>>,
    reads: Pile<BytesMut>,
}

thread_local! {
    static SPARES: RefCell<Spares> =
        const { RefCell::new(Spares { texts: Pile::new(), lines: Pile::new(), reads: Pile::new() }) };
}

/// `None` only while the thread ends.
fn with<R>(with: impl FnOnce(&mut Spares) -> R) -> Option<R> {
    SPARES.try_with(|spares| spares.try_borrow_mut().ok().map(|mut spares| with(&mut spares))).ok().flatten()
}

/// An empty text.
pub(crate) fn text() -> Vec<u8> {
    with(|spares| spares.texts.take()).flatten().unwrap_or_else(|| Vec::with_capacity(USUAL_TEXT))
}

/// Gives a text back.
pub(crate) fn keep_text(mut text: Vec<u8>) {
    if (1..=TEXT).contains(&text.capacity()) {
        text.clear();
        with(|spares| spares.texts.keep(text));
    }
}

/// An empty table of lines.
pub(crate) fn lines() -> Vec<Line> {
    with(|spares| spares.lines.take()).flatten().unwrap_or_else(|| Vec::with_capacity(USUAL_LINES))
}

/// Gives a table of lines back.
pub(crate) fn keep_lines(mut lines: Vec<Line>) {
    if (1..=LINES).contains(&lines.capacity()) {
        lines.clear();
        with(|spares| spares.lines.keep(lines));
    }
}

/// An empty buffer with room for a read.
pub(crate) fn read_buffer() -> BytesMut {
    // What was read into one before may still be on its way out: then it is left to that.
    if let Some(mut buffer) = with(|spares| spares.reads.take()).flatten()
        && buffer.try_reclaim(READ)
    {
        return buffer;
    }
    BytesMut::with_capacity(READ)
}

/// Gives an empty buffer back; parts of it may still be in use.
pub(crate) fn keep_read_buffer(buffer: BytesMut) {
    if buffer.is_empty() {
        with(|spares| spares.reads.keep(buffer));
    }
}

/// Once a second: frees what lay here unneeded since the last time.
pub(crate) fn trim() {
    with(|spares| {
        spares.texts.trim();
        spares.lines.trim();
        spares.reads.trim();
    });
}
