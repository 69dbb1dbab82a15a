//! From a path in the joined policy back to the file it was written in.

use std::{collections::BTreeSet, ops::Range};

use edgequota_config::{Document, Place, load::Environment, problems::Located};
use edgequota_policy::Problem;

/// Which document gave which part of a joined policy.
#[derive(Debug, Default)]
pub(super) struct Places {
    documents: Vec<Document>,
    /// List name, range of joined indices, document. In order.
    lists: Vec<(&'static str, Range<usize>, usize)>,
    /// Default block, document.
    blocks: Vec<(&'static str, usize)>,
    /// Paths whose problem was reported while joining.
    reported: BTreeSet<String>,
}

impl Places {
    pub(super) fn of(documents: Vec<Document>) -> Places {
        Places { documents, ..Places::default() }
    }

    /// Number of documents.
    pub(super) fn len(&self) -> usize {
        self.documents.len()
    }

    pub(super) fn document(&self, index: usize) -> &Document {
        &self.documents[index]
    }

    pub(super) fn list(&mut self, name: &'static str, range: Range<usize>, document: usize) {
        if !range.is_empty() {
            self.lists.push((name, range, document));
        }
    }

    pub(super) fn block(&mut self, name: &'static str, document: usize) {
        self.blocks.push((name, document));
    }

    /// The document that a default block was taken from.
    pub(super) fn block_document(&self, name: &str) -> Option<usize> {
        self.blocks.iter().find(|(block, _)| *block == name).map(|(_, document)| *document)
    }

    pub(super) fn report(&mut self, path: String) {
        self.reported.insert(path);
    }

    pub(super) fn reported(&self, path: &str) -> bool {
        self.reported.contains(path)
    }

    /// Which document a joined path belongs to, and what it is called there.
    pub(super) fn resolve(&self, path: &str) -> Option<(usize, String)> {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (name, rest) = path.split_at(end);
        if let Some(indexed) = rest.strip_prefix('[') {
            let (index, rest) = indexed.split_once(']')?;
            let index: usize = index.parse().ok()?;
            let (_, range, document) =
                self.lists.iter().find(|(list, range, _)| *list == name && range.contains(&index))?;
            return Some((*document, format!("{name}[{}]{rest}", index - range.start)));
        }
        self.block_document(name).map(|document| (document, path.to_owned()))
    }

    /// Gives each problem its place. The path is the one in its own file.
    pub(super) fn locate(&self, problems: Vec<Problem>, environment: Option<&Environment>) -> Vec<Located> {
        problems.into_iter().map(|problem| self.locate_one(problem, environment)).collect()
    }

    fn locate_one(&self, problem: Problem, environment: Option<&Environment>) -> Located {
        let (document, path) = match (self.resolve(&problem.path), self.documents.as_slice()) {
            (Some((document, path)), _) => (&self.documents[document], path),
            (None, [only]) => (only, problem.path),
            // In none of several files: `backend.url is required`.
            (None, documents) => {
                let names: Vec<&str> = documents.iter().map(Document::name).collect();
                return Located { place: Place::Whole(names.join(", ")), path: problem.path, message: problem.message };
            }
        };
        let local = Problem { path, message: problem.message };
        let fallback = local.clone();
        document.locate_with(environment, vec![local]).pop().unwrap_or_else(|| Located {
            place: Place::Whole(document.name().to_owned()),
            path: fallback.path,
            message: fallback.message,
        })
    }
}
