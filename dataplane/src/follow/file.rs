//! The standalone source: the process's own config file, watched. The same rules for versions: an edit that changes
//! nothing is no new version, a bad edit leaves the last good policy in force.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use edgequota_config::{
    Problems, Role, Settings,
    load::{self, Environment, Loaded},
    problems::warn_each,
    watch::{Content, Poke, Target, Watch},
};
use edgequota_ops::{
    metrics::{Gauge, Metrics},
    probes::{Guard, Probes},
};
use edgequota_policy::{Hash, PolicySpec, Snapshot, Version};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{
    apply::{self, Prepared},
    metrics::Measured,
};
use crate::policy_slot::{InForce, PolicySlot, Source};

pub use edgequota_config::watch::Pace;

/// A watched config file that is the source of the policy.
pub struct FileSource {
    environment: Environment,
    slot: Arc<PolicySlot>,
    probes: Probes,
    guard: Guard,
    measured: Measured,
    reload_success: Gauge,
    name: String,
    watch: Watch,
    first: Content,
    stop: CancellationToken,
}

impl FileSource {
    /// Starts watching. The watch is in place before the file is read, so no edit is missed from here on.
    pub async fn start(
        path: PathBuf,
        environment: Environment,
        pace: Pace,
        slot: Arc<PolicySlot>,
        metrics: &Metrics,
        probes: &Probes,
        stop: CancellationToken,
    ) -> FileSource {
        let name = path.display().to_string();
        let measured = Measured::register(metrics, &slot);
        let reload_success = metrics.gauge(
            "edgequota_config_reload_success",
            "1: the file is in force as it is; 0: it was refused, and what was in force before stays",
        );
        let guard = probes.guard("policy", &format!("waiting for a policy in {name}"));
        let (first, watch) = Watch::start(vec![Target::File(path)], pace, stop.clone()).await;
        FileSource {
            environment,
            slot,
            probes: probes.clone(),
            guard,
            measured,
            reload_success,
            name,
            watch,
            first,
            stop,
        }
    }

    /// Makes the watch read at once (SIGHUP).
    pub fn poke(&self) -> Poke {
        self.watch.poke()
    }

    /// Takes the file as it was when the watch started. An error here means that the process must not start.
    pub async fn load_first(&mut self) -> Result<Settings, Problems> {
        let content = std::mem::take(&mut self.first);
        let loaded = self.read(content).await?;
        self.reload_success.set(1.0);
        Ok(loaded)
    }

    /// Puts every later edit in force until `stop`; `on_settings` gets the settings of each good one.
    pub async fn run(mut self, on_settings: impl Fn(Settings) + Send + 'static) {
        loop {
            let content = tokio::select! {
                () = self.stop.cancelled() => return,
                content = self.watch.changed() => content,
            };
            match self.read(content).await {
                Ok(settings) => {
                    self.reload_success.set(1.0);
                    self.probes.note("policy", None);
                    on_settings(settings);
                }
                Err(problems) => self.refused(&problems),
            }
        }
    }

    async fn read(&mut self, content: Content) -> Result<Settings, Problems> {
        let (name, environment) = (self.name.clone(), self.environment.clone());
        let in_force = self.slot.load().map(|p| p.snapshot.version.hash);
        let checked = tokio::task::spawn_blocking(move || check(&name, content, &environment, in_force)).await;
        let checked = checked.unwrap_or_else(|error| Err(Problems::whole(&self.name, error.to_string())))?;
        match checked.policy {
            Some(prepared) => self.put(prepared),
            None => self.measured.confirm(),
        }
        Ok(checked.settings)
    }

    fn put(&self, mut prepared: Prepared) {
        let now = SystemTime::now();
        let before = self.slot.version().map_or(0, |v| v.generation);
        let clock = now.duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        prepared.snapshot.version.generation = clock.max(before.saturating_add(1));
        info!(version = %prepared.snapshot.version, bytes = prepared.snapshot.bytes.len(), "policy in force");
        self.slot.put(InForce { snapshot: prepared.snapshot, policy: prepared.policy, source: Source::OwnFile });
        self.measured.confirm();
        self.guard.open();
    }

    fn refused(&self, problems: &Problems) {
        self.measured.rejected();
        self.reload_success.set(0.0);
        for problem in problems.0.iter().take(edgequota_config::problems::SHOWN) {
            error!(place = %problem.place, path = problem.path, problem = problem.message,
                   "config file refused; what was in force stays");
        }
        let first = problems.0.first().map(ToString::to_string).unwrap_or_default();
        let more = problems.0.len().saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        self.probes.note("policy", Some(format!("the config file is refused: {first}{more}")));
    }
}

struct Checked {
    settings: Settings,
    /// `None`: what is in force already.
    policy: Option<Prepared>,
}

fn check(name: &str, content: Content, environment: &Environment, in_force: Option<Hash>) -> Result<Checked, Problems> {
    let loaded = load::from_content(name, content, environment, Role::Standalone, in_force.is_none())?;
    let Loaded { settings, policy, warnings } = loaded;
    warn_each(&warnings);
    let spec: PolicySpec =
        policy.ok_or_else(|| Problems::whole(name, "there is no policy: at least backend.url is required"))?;
    let bytes: Arc<[u8]> = spec.canonical().into();
    let hash = Hash::of(&bytes);
    if in_force == Some(hash) {
        return Ok(Checked { settings, policy: None });
    }
    let snapshot = Snapshot { version: Version { generation: 0, hash }, bytes };
    let prepared = apply::compile(&spec, snapshot).map_err(|refused| Problems::whole(name, refused.to_string()))?;
    Ok(Checked { settings, policy: Some(prepared) })
}
