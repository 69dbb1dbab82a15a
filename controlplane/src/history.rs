//! The last versions that were served, with what changed from one to the next, for people. No secret is in it.

mod diff;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use edgequota_policy::{PolicySpec, Version};

use crate::publish::Origin;

/// Versions that are remembered.
pub const MOST_VERSIONS: usize = 50;

/// One version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Version.
    pub version: Version,
    /// When it was first served by this process.
    pub at: SystemTime,
    /// Where it came from.
    pub origin: Origin,
    /// Lines added and removed.
    pub lines: (usize, usize),
    /// Unified diff of the pretty-printed policies; empty for the first one of this process. Cut at 64 KiB.
    pub diff: String,
}

/// The ring.
#[derive(Debug, Default)]
pub struct History {
    changes: Mutex<VecDeque<Change>>,
}

impl History {
    /// Remembers that `now` replaced `before`. Takes up to a second for the largest policies: call it off the async
    /// threads.
    pub fn record(
        &self,
        before: Option<&PolicySpec>,
        now: &PolicySpec,
        version: Version,
        origin: Origin,
        at: SystemTime,
    ) {
        let (diff, lines) = match before {
            None => (String::new(), (0, 0)),
            Some(before) => diff::between(&before.redacted(), &now.redacted_after(before)),
        };
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.len() == MOST_VERSIONS {
            changes.pop_front();
        }
        changes.push_back(Change { version, at, origin, lines, diff });
    }

    /// Newest first.
    pub fn list(&self) -> Vec<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn spec(average: i64, token: &str) -> PolicySpec {
        let mut spec = PolicySpec::default();
        spec.backend.url = "http://a:80".into();
        spec.rate_limit.average = average;
        if !token.is_empty() {
            spec.events.http.headers.insert("X-Token".into(), token.into());
        }
        spec.resolved()
    }

    fn version(generation: u64, spec: &PolicySpec) -> Version {
        Version { generation, hash: spec.hash() }
    }

    #[test]
    fn what_changed_can_be_read_and_secrets_cannot() {
        let history = History::default();
        let (a, b) = (spec(10, "hunter2"), spec(20, "hunter3"));
        history.record(None, &a, version(1, &a), Origin::Files, SystemTime::UNIX_EPOCH);
        history.record(Some(&a), &b, version(2, &b), Origin::Files, SystemTime::UNIX_EPOCH);
        let changes = history.list();
        assert_eq!(changes.iter().map(|c| c.version.generation).collect::<Vec<_>>(), [2, 1]);
        let diff = &changes[0].diff;
        assert!(diff.contains("-    \"average\": 10") && diff.contains("+    \"average\": 20"), "{diff}");
        assert!(diff.contains("[REDACTED, changed]"), "{diff}");
        assert!(!diff.contains("hunter"), "{diff}");
        assert_eq!(changes[1].diff, "");
    }

    #[test]
    fn only_the_last_fifty_are_kept() {
        let history = History::default();
        let spec = spec(1, "");
        for generation in 0..60 {
            history.record(Some(&spec), &spec, version(generation, &spec), Origin::Files, SystemTime::UNIX_EPOCH);
        }
        let kept: Vec<u64> = history.list().iter().map(|c| c.version.generation).collect();
        assert_eq!(kept, (10..60).rev().collect::<Vec<_>>());
    }
}
