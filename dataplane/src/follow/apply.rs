//! Puts policies in force: the only writer of the slot. Decoding and compiling happen off the async threads.

use std::sync::Arc;

use edgequota_config::state::{Found, StateDir};
use edgequota_ops::probes::{Guard, Probes};
use edgequota_policy::{
    Hash, Policy, PolicySpec, Snapshot, Version,
    snapshot::{MAX_COMPRESSED, MAX_PLAIN},
};
use edgequota_proto::{
    control,
    envelope::{self, Bounds},
};
use tokio::{sync::watch, task::JoinHandle};
use tracing::{info, warn};

use super::metrics::Measured;
use crate::policy_slot::{InForce, PolicySlot, Source};

pub(super) const BOUNDS: Bounds = Bounds { plain: MAX_PLAIN, compressed: MAX_COMPRESSED };

/// A snapshot and what it compiles to.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) snapshot: Snapshot,
    pub(super) policy: Arc<Policy>,
}

/// Why a policy is not put in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// These bytes will never do on this binary.
    #[error("{reason}")]
    Unsupported { reason: String, path: String },
    /// May do later.
    #[error("{0}")]
    Local(String),
    /// Something at least as new is in force.
    #[error("generation {offered} is not above generation {held}, which is in force")]
    NotNewer { offered: u64, held: u64 },
}

/// Compiles canonical bytes; heavy.
pub(super) fn prepare(snapshot: Snapshot) -> Result<Prepared, Refused> {
    let unsupported =
        |problem: edgequota_policy::Problem| Refused::Unsupported { reason: problem.message, path: problem.path };
    let spec = PolicySpec::from_canonical(&snapshot.bytes).map_err(unsupported)?;
    compile(&spec, snapshot)
}

/// Compiles a spec that is already parsed; heavy.
pub(super) fn compile(spec: &PolicySpec, snapshot: Snapshot) -> Result<Prepared, Refused> {
    let unsupported =
        |problem: edgequota_policy::Problem| Refused::Unsupported { reason: problem.message, path: problem.path };
    // An enabled feature that is not there would silently not be enforced.
    if let Some(problem) = spec.not_built().into_iter().next() {
        return Err(unsupported(problem));
    }
    match Policy::compile(spec) {
        Ok(policy) => Ok(Prepared { snapshot, policy: Arc::new(policy) }),
        Err(problems) => {
            let more = problems.len().saturating_sub(1);
            let mut first = problems.into_iter().next().map(unsupported).unwrap_or_else(|| Refused::Unsupported {
                reason: "the policy does not compile".into(),
                path: String::new(),
            });
            if let (Refused::Unsupported { reason, .. }, true) = (&mut first, more > 0) {
                reason.push_str(&format!(" (and {more} more)"));
            }
            Err(first)
        }
    }
}

/// Decodes and compiles what was pushed; heavy.
pub(super) fn unpack(wire: &control::Snapshot, version: Version) -> Result<Prepared, Refused> {
    let plain = envelope::unpack(&wire.gzip, wire.plain_size, BOUNDS).map_err(|e| Refused::Local(e.to_string()))?;
    let found = Hash::of(&plain);
    if found != version.hash {
        return Err(Refused::Local(format!("the content has hash {found}, {} was announced", version.hash)));
    }
    prepare(Snapshot { version, bytes: plain.into() })
}

/// What is known of the last good policy on disk.
#[derive(Debug, Default)]
enum Kept {
    #[default]
    Nothing,
    /// Ready to be put in force.
    Ready(Prepared),
    /// This binary cannot read it. Then no looser policy takes its place.
    Unreadable(String),
}

pub(super) struct Applier {
    slot: Arc<PolicySlot>,
    saver: Option<Saver>,
    state: Option<StateDir>,
    kept: Kept,
    pub(super) measured: Measured,
    probes: Probes,
    guard: Guard,
    address: String,
}

impl Applier {
    pub(super) fn new(
        slot: Arc<PolicySlot>,
        state: Option<StateDir>,
        measured: Measured,
        probes: &Probes,
        address: &str,
    ) -> Applier {
        Applier {
            slot,
            saver: state.clone().map(Saver::start),
            state,
            kept: Kept::Nothing,
            measured,
            guard: probes.guard("policy", &format!("waiting for policy from {address}")),
            probes: probes.clone(),
            address: address.to_owned(),
        }
    }

    /// Reads the state directory and compiles what is there, without putting it in force: the Hello can then say what
    /// this process holds, and an equal hash costs no transfer.
    pub(super) async fn load_kept(&mut self) {
        let Some(state) = self.state.clone() else {
            return;
        };
        let loaded = tokio::task::spawn_blocking(move || match state.load() {
            Found::Nothing => Kept::Nothing,
            Found::Damaged(reason) => {
                warn!(reason, "the last good policy on disk is damaged and is not used");
                Kept::Nothing
            }
            Found::Good(snapshot) => match prepare(snapshot) {
                Ok(prepared) => Kept::Ready(prepared),
                Err(refused) => Kept::Unreadable(refused.to_string()),
            },
        })
        .await;
        match loaded {
            Ok(kept) => self.kept = kept,
            // There may be one: no looser policy takes its place.
            Err(error) => self.kept = Kept::Unreadable(format!("reading it failed: {error}")),
        }
        if let Kept::Unreadable(reason) = &self.kept {
            warn!(reason, "this binary cannot use the last good policy on disk; it waits for the control plane");
            self.say_waiting(None);
        }
    }

    /// What this process has in force, else what it could put in force, for the Hello.
    pub(super) fn holds(&self) -> Option<(Version, Source)> {
        match (self.slot.load(), &self.kept) {
            (Some(in_force), _) => Some((in_force.snapshot.version, in_force.source)),
            (None, Kept::Ready(kept)) => Some((kept.snapshot.version, Source::StateDir)),
            _ => None,
        }
    }

    /// The bytes of [`Applier::holds`].
    pub(super) fn current(&self) -> Option<Snapshot> {
        match (self.slot.load(), &self.kept) {
            (Some(in_force), _) => Some(in_force.snapshot.clone()),
            (None, Kept::Ready(kept)) => Some(kept.snapshot.clone()),
            _ => None,
        }
    }

    pub(super) fn empty(&self) -> bool {
        self.slot.serial() == 0
    }

    /// A pushed version may be put in force only above the one that is.
    pub(super) fn check_newer(&self, version: Version) -> Result<(), Refused> {
        match self.slot.version() {
            Some(held) if version.generation <= held.generation && version != held => {
                Err(Refused::NotNewer { offered: version.generation, held: held.generation })
            }
            _ => Ok(()),
        }
    }

    /// Puts a pushed policy in force and has it kept.
    pub(super) fn put_pushed(&mut self, prepared: Prepared) {
        let (version, bytes) = (prepared.snapshot.version, prepared.snapshot.bytes.len());
        if let Some(saver) = &self.saver {
            saver.save(&prepared.snapshot);
        }
        self.put(prepared, Source::ControlPlane);
        self.kept = Kept::Nothing;
        info!(generation = version.generation, hash = %version.hash, bytes, "policy in force");
    }

    /// Renames what is held, if its hash is that of `version` and its generation not above. `false`: it is not held.
    pub(super) fn relabel(&mut self, version: Version) -> bool {
        if let Some(in_force) = self.slot.load() {
            let held = in_force.snapshot.version;
            if held.hash != version.hash || held.generation > version.generation {
                return false;
            }
            if held == version && in_force.source == Source::ControlPlane {
                self.measured.confirm();
                return true;
            }
            let snapshot = Snapshot { version, bytes: Arc::clone(&in_force.snapshot.bytes) };
            self.put_pushed(Prepared { snapshot, policy: Arc::clone(&in_force.policy) });
            return true;
        }
        if let Kept::Ready(kept) = &self.kept
            && kept.snapshot.version.hash == version.hash
            && kept.snapshot.version.generation <= version.generation
        {
            let snapshot = Snapshot { version, bytes: Arc::clone(&kept.snapshot.bytes) };
            let prepared = Prepared { snapshot, policy: Arc::clone(&kept.policy) };
            self.put_pushed(prepared);
            return true;
        }
        false
    }

    /// Puts the kept policy in force, if there is one that this binary can read.
    pub(super) fn put_kept(&mut self) -> KeptOutcome {
        match std::mem::take(&mut self.kept) {
            Kept::Ready(prepared) => {
                self.put(prepared, Source::StateDir);
                KeptOutcome::InForce
            }
            Kept::Unreadable(reason) => {
                self.kept = Kept::Unreadable(reason);
                KeptOutcome::Unreadable
            }
            Kept::Nothing => KeptOutcome::Nothing,
        }
    }

    /// Puts the policy of the own file in force.
    pub(super) fn put_own(&mut self, prepared: Prepared) {
        self.put(prepared, Source::OwnFile);
    }

    /// A push was refused: what is in force stays.
    pub(super) fn refused(&mut self, version: Version, refused: &Refused) {
        self.measured.rejected();
        warn!(generation = version.generation, hash = %version.hash, reason = %refused,
              "a pushed policy was refused; the one before stays in force");
        self.probes.note("policy", Some(format!("generation {} was refused: {refused}", version.generation)));
    }

    /// Names what is waited for while there is no policy.
    pub(super) fn say_waiting(&self, reason: Option<&str>) {
        if !self.empty() {
            return;
        }
        let mut text = format!("waiting for policy from {}", self.address);
        if let Kept::Unreadable(reason) = &self.kept {
            text.push_str(&format!("; the last good policy in state_dir cannot be used by this version: {reason}"));
        }
        if let Some(reason) = reason {
            text.push_str(&format!(" ({reason})"));
        }
        self.guard.close(&text);
    }

    /// The last policy to be kept is on disk, or its failure in the log.
    pub(super) async fn finish_saving(&mut self) {
        if let Some(saver) = self.saver.take() {
            saver.finish().await;
        }
    }

    fn put(&mut self, prepared: Prepared, source: Source) {
        self.slot.put(InForce { snapshot: prepared.snapshot, policy: prepared.policy, source });
        self.measured.confirm();
        self.guard.open();
        self.probes.note("policy", None);
    }
}

/// See [`Applier::put_kept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptOutcome {
    /// Done.
    InForce,
    /// There is one, but this binary cannot use it.
    Unreadable,
    /// There is none.
    Nothing,
}

/// Writes to disk behind the swap: a slow disk delays neither enforcement nor the ack. Only the newest is written.
struct Saver {
    newest: watch::Sender<Option<Snapshot>>,
    task: JoinHandle<()>,
}

impl Saver {
    fn start(state: StateDir) -> Saver {
        let (newest, mut receiver) = watch::channel(None::<Snapshot>);
        let task = tokio::spawn(async move {
            // Ends when the sender is gone and its last value was seen.
            while receiver.changed().await.is_ok() {
                let Some(snapshot) = receiver.borrow_and_update().clone() else {
                    continue;
                };
                let state = state.clone();
                let saved = tokio::task::spawn_blocking(move || state.save(&snapshot)).await;
                if let Ok(Err(error)) = saved {
                    warn!(%error, "cannot keep the policy in control_plane.state_dir; a restart may need the control plane");
                }
            }
        });
        Saver { newest, task }
    }

    fn save(&self, snapshot: &Snapshot) {
        self.newest.send_replace(Some(snapshot.clone()));
    }

    async fn finish(self) {
        drop(self.newest);
        let _ = self.task.await;
    }
}
