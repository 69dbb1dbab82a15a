//! Counters that somebody changed from outside: hints from the control plane to the workers of this process.
//!
//! Nothing that a worker remembers lives longer than a second; a hint makes it forget at once.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Most hints that are kept for workers that have not looked yet. One that has missed more forgets everything.
const MOST: usize = 1024;
/// No counter's key is longer; a longer hint is about nothing here.
const LONGEST_KEY: usize = 1024;

/// Keys that changed, numbered. Process-wide; read by every worker, written by an administrator's hand only.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    recent: Mutex<VecDeque<Box<str>>>,
}

/// Up to which change somebody has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Changes {
    pub(crate) fn add(&self, key: &str) {
        if key.len() > LONGEST_KEY {
            return;
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == MOST {
            recent.pop_front();
        }
        recent.push_back(key.into());
        self.count.fetch_add(1, Ordering::Release);
    }

    /// From now on.
    pub(crate) fn seen(&self) -> Seen {
        Seen(self.count.load(Ordering::Acquire))
    }

    /// The only question that is asked per request.
    pub(crate) fn are_news_to(&self, seen: &Seen) -> bool {
        self.count.load(Ordering::Relaxed) != seen.0
    }

    /// Tells the keys that are new. False: some are not known any more.
    pub(crate) fn since(&self, seen: &mut Seen, mut tell: impl FnMut(&str)) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.count.load(Ordering::Acquire);
        let missed = count.saturating_sub(seen.0);
        *seen = Seen(count);
        let missed = usize::try_from(missed).unwrap_or(usize::MAX);
        if missed > recent.len() {
            return false;
        }
        recent.iter().skip(recent.len() - missed).for_each(|key| tell(key));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(changes: &Changes, seen: &mut Seen) -> Option<Vec<String>> {
        let mut keys = Vec::new();
        changes.since(seen, |key| keys.push(key.to_owned())).then_some(keys)
    }

    #[test]
    fn each_is_told_once_and_who_missed_some_is_told_so() {
        let changes = Changes::default();
        let mut seen = changes.seen();
        assert!(!changes.are_news_to(&seen));
        changes.add("a");
        changes.add("b");
        assert!(changes.are_news_to(&seen));
        assert_eq!(told(&changes, &mut seen), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(told(&changes, &mut seen), Some(vec![]));
        let late = seen;
        for n in 0..MOST {
            changes.add(&n.to_string());
        }
        assert_eq!(told(&changes, &mut seen.clone()).map(|keys| keys.len()), Some(MOST));
        changes.add(&"x".repeat(LONGEST_KEY + 1));
        changes.add("one more");
        assert_eq!(told(&changes, &mut late.clone()), None);
    }
}
