//! When the files are broken and nothing better was kept: what the fleet enforces already is served on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edgequota_policy::Version;
use tracing::{info, warn};

use crate::{
    fleet::{Entry, Fleet},
    publish::Prepared,
    serve::auth::StreamAuth,
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

/// Whose policy may be adopted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) fleet: Fleet,
    pub(crate) auth: Arc<StreamAuth>,
    /// The generation that it must be above.
    pub(crate) above: u64,
    /// There is a policy of our own, in use or kept.
    pub(crate) own: bool,
}

impl Wanted {
    /// Data planes that hold a policy of a control plane, the newest first. A policy from a data plane's own file was
    /// never published, and is never spread.
    fn candidates(&self) -> Vec<(Version, Entry)> {
        let entries = self.fleet.list().into_iter().filter(|e| e.source == "control_plane" || e.source == "state_dir");
        let entries = entries.filter(|e| self.auth.may_hand_over(e.authenticated, self.own));
        let newer = |v: &Version| v.generation > self.above;
        let mut found: Vec<(Version, Entry)> =
            entries.filter_map(|e| e.accepted.filter(newer).map(|v| (v, e))).collect();
        found.sort_by_key(|(version, entry)| (std::cmp::Reverse(version.generation), entry.id));
        found
    }

    /// Whether there is anyone to ask.
    pub(crate) fn possible(&self) -> bool {
        !self.candidates().is_empty()
    }
}

/// Asks for the newest policy until one is handed over that is what it claims to be and compiles. `failed` are the
/// streams that could not hand one over before: they are asked last, so that a few of them hide nobody.
pub(crate) async fn adopt(
    wanted: Wanted,
    times: Times,
    mut failed: BTreeMap<u64, u32>,
) -> (Option<Adopted>, BTreeMap<u64, u32>) {
    // A version that this binary cannot use is not asked of another data plane.
    let mut useless = BTreeSet::new();
    let mut candidates = wanted.candidates();
    failed.retain(|id, _| candidates.iter().any(|(_, entry)| entry.id == *id));
    candidates.sort_by_key(|(_, entry)| failed.get(&entry.id).copied().unwrap_or_default());
    for (version, entry) in candidates.into_iter().take(MOST_ASKED) {
        let node = entry.identity.map(|i| i.node).unwrap_or_default();
        // Taken back below when it succeeds.
        *failed.entry(entry.id).or_default() += 1;
        if useless.contains(&version.hash) {
            continue;
        }
        let Some(answer) = wanted.fleet.hand_over(entry.id) else {
            continue;
        };
        let snapshot = match tokio::time::timeout(times.adopt_answer, answer).await {
            Ok(Ok(snapshot)) => snapshot,
            _ => {
                warn!(node, "a data plane was asked for its policy and did not hand it over");
                continue;
            }
        };
        if snapshot.version != version {
            warn!(node, "a data plane handed over another policy than it said to hold");
            continue;
        }
        match tokio::task::spawn_blocking(move || Prepared::from_snapshot(&snapshot)).await {
            Ok(Ok(prepared)) => {
                info!(node, generation = version.generation, hash = %version.hash, "adopting the policy of a data plane");
                if !entry.authenticated {
                    warn!(node, peer = %entry.peer, generation = version.generation,
                          "THE ADOPTED POLICY COMES FROM A PEER THAT DID NOT PROVE WHO IT IS: set control_plane.token, or \
                           control_plane.tls with a ca_file");
                }
                failed.remove(&entry.id);
                return (Some(Adopted { prepared, version, node }), failed);
            }
            Ok(Err(error)) => {
                warn!(node, generation = version.generation, %error, "the policy of a data plane cannot be served");
                useless.insert(version.hash);
            }
            Err(error) => warn!(node, %error, "the policy of a data plane could not be compiled"),
        }
    }
    (None, failed)
}
