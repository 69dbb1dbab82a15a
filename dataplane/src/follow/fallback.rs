//! What is put in force when the control plane has not answered for `initial_wait`.

use std::sync::Arc;

use edgequota_policy::{Hash, PolicySpec, Snapshot, Version};
use tokio::time::Instant;
use tracing::warn;

use super::apply::{self, Applier, KeptOutcome};

/// Fires at most once.
pub(super) struct Fallback {
    pub(super) at: Instant,
    own: Option<PolicySpec>,
    done: bool,
}

impl Fallback {
    pub(super) fn new(at: Instant, own: Option<PolicySpec>) -> Fallback {
        Fallback { at, own, done: false }
    }

    /// Whether it is still to come: nothing is in force yet.
    pub(super) fn armed(&self, applier: &Applier) -> bool {
        !self.done && applier.empty()
    }

    /// Puts the next best policy in force. `true`: something new is in force.
    pub(super) async fn fall_back(&mut self, applier: &mut Applier) -> bool {
        self.done = true;
        match applier.put_kept() {
            KeptOutcome::InForce => {
                warn!("the control plane has not answered: the last good policy of state_dir is in force");
                return true;
            }
            // Never the looser policy of the own file in place of one that this binary cannot read.
            KeptOutcome::Unreadable => return false,
            KeptOutcome::Nothing => {}
        }
        let Some(own) = self.own.take() else {
            warn!("the control plane has not answered, and there is neither a kept policy nor one in the own file");
            return false;
        };
        let compiled = tokio::task::spawn_blocking(move || {
            let bytes: Arc<[u8]> = own.canonical().into();
            // Generation 0: issued by no control plane, so that whatever one pushes is newer.
            let version = Version { generation: 0, hash: Hash::of(&bytes) };
            apply::compile(&own, Snapshot { version, bytes })
        })
        .await;
        match compiled {
            Ok(Ok(prepared)) => {
                applier.put_own(prepared);
                warn!("the control plane has not answered: the policy of the own file is in force");
                true
            }
            Ok(Err(refused)) => {
                warn!(reason = %refused, "the policy of the own file cannot be used");
                false
            }
            Err(error) => {
                warn!(%error, "the policy of the own file could not be compiled");
                false
            }
        }
    }
}
