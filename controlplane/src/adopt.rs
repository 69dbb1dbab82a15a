//! When the files are broken and nothing better was kept: what the fleet enforces already is served on.

use std::collections::BTreeSet;

use edgequota_policy::Version;
use tracing::{info, warn};

use crate::{
    fleet::{Entry, Fleet},
    publish::Prepared,
    times::Times,
};

/// Data planes that are asked before it is given up for now.
const MOST_ASKED: usize = 8;

/// What a data plane handed over, verified and compiled.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) prepared: Prepared,
    pub(crate) version: Version,
    pub(crate) node: String,
}

/// Data planes that hold a policy of a control plane with a generation above `above`, the newest first. A policy from
/// a data plane's own file was never published, and is never spread.
fn candidates(fleet: &Fleet, above: u64) -> Vec<(Version, Entry)> {
    let entries = fleet.list().into_iter().filter(|e| e.source == "control_plane" || e.source == "state_dir");
    let mut found: Vec<(Version, Entry)> =
        entries.filter_map(|e| e.accepted.filter(|v| v.generation > above).map(|v| (v, e))).collect();
    found.sort_by_key(|(version, entry)| (std::cmp::Reverse(version.generation), entry.id));
    found
}

/// Whether there is anyone to ask.
pub(crate) fn possible(fleet: &Fleet, above: u64) -> bool {
    !candidates(fleet, above).is_empty()
}

/// Asks for the newest policy above `above` until one is handed over that is what it claims to be and compiles.
pub(crate) async fn adopt(fleet: Fleet, above: u64, times: Times) -> Option<Adopted> {
    // A version that this binary cannot use is not asked of another data plane.
    let mut useless = BTreeSet::new();
    for (version, entry) in candidates(&fleet, above).into_iter().take(MOST_ASKED) {
        let node = entry.identity.map(|i| i.node).unwrap_or_default();
        if useless.contains(&version.hash) {
            continue;
        }
        let Some(answer) = fleet.hand_over(entry.id) else {
            continue;
        };
        let snapshot = match tokio::time::timeout(times.adopt_answer, answer).await {
            Ok(Ok(snapshot)) => snapshot,
            _ => {
                warn!(node, "a data plane was asked for its policy and did not hand it over");
                continue;
            }
        };
        if snapshot.version.generation <= above {
            continue;
        }
        let version = snapshot.version;
        match tokio::task::spawn_blocking(move || Prepared::from_snapshot(&snapshot)).await {
            Ok(Ok(prepared)) => {
                info!(node, generation = version.generation, hash = %version.hash, "adopting the policy of a data plane");
                return Some(Adopted { prepared, version, node });
            }
            Ok(Err(error)) => {
                warn!(node, generation = version.generation, %error, "the policy of a data plane cannot be served");
                useless.insert(version.hash);
            }
            Err(error) => warn!(node, %error, "the policy of a data plane could not be compiled"),
        }
    }
    None
}
