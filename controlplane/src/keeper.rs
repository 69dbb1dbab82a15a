//! The loop that decides what is served: files first, then what was kept, then what the fleet has.
//!
//! It is the only caller of [`Publisher::publish`], `restore` and `restamp`, so versions are given out in one order.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::SystemTime};

use edgequota_config::{
    Problems,
    load::Environment,
    problems::{Located, warn_each},
    state::{Found, StateDir},
    watch::{Content, Poke, Target, Watch},
};
use edgequota_ops::{
    metrics::{Counter, Gauge},
    probes::{Guard, Probes},
};
use edgequota_policy::{Snapshot, Version};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    adopt::{self, Adopted, Wanted},
    assemble::assemble,
    fleet::Fleet,
    history::History,
    publish::{Origin, Prepared, Published, Publisher},
    serve::auth::StreamAuth,
    status::Status,
    times::Times,
};

/// How long a forced look at the files may take before what is known of them counts.
const REREAD: std::time::Duration = std::time::Duration::from_secs(1);

/// What the loop works with.
pub(crate) struct Keeper {
    pub(crate) target: Target,
    /// The policy stands in the process's own config file, beside its settings.
    pub(crate) own_file: bool,
    pub(crate) environment: Environment,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) fleet: Fleet,
    pub(crate) auth: Arc<StreamAuth>,
    /// `state_dir` held a policy at start, even if this binary cannot serve it.
    pub(crate) own_kept: bool,
    pub(crate) history: Arc<History>,
    pub(crate) status: Arc<Status>,
    pub(crate) state: Option<StateDir>,
    pub(crate) probes: Probes,
    pub(crate) guard: Guard,
    pub(crate) rejected: Counter,
    pub(crate) reload_success: Gauge,
    pub(crate) times: Times,
    pub(crate) leaving: CancellationToken,
}

/// The watched files as the loop sees them.
pub(crate) struct Watched {
    pub(crate) first: Content,
    pub(crate) watch: Watch,
    pub(crate) poke: Poke,
}

async fn at(when: Option<Instant>) {
    match when {
        None => std::future::pending().await,
        Some(when) => sleep_until(when).await,
    }
}

type Asked = (Option<Adopted>, BTreeMap<u64, u32>);

async fn done(task: &mut Option<JoinHandle<Asked>>) -> Asked {
    match task {
        None => std::future::pending().await,
        Some(running) => {
            let adopted = running.await;
            *task = None;
            adopted.unwrap_or_default()
        }
    }
}

impl Keeper {
    /// Until this process is to leave: from then on nothing is published.
    pub(crate) async fn run(mut self, files: Watched, mut newer: mpsc::Receiver<Version>) {
        let Watched { first, mut watch, poke } = files;
        self.start(first).await;
        let mut changes = self.fleet.changes();
        let (mut defer_until, mut adopt_at, mut adopting) = (None, self.adoption_due(), None);
        let mut failed = BTreeMap::new();
        loop {
            tokio::select! {
                () = self.leaving.cancelled() => return,
                content = watch.changed() => self.files_changed(content).await,
                Some(version) = newer.recv(), if defer_until.is_none() => {
                    warn!(generation = version.generation, after = ?self.times.deference,
                          "a data plane holds a newer policy of another control plane; if this one is still here by then, its files count");
                    defer_until = Some(Instant::now() + self.times.deference);
                }
                () = at(defer_until) => {
                    defer_until = None;
                    poke.poke();
                    if let Ok(content) = tokio::time::timeout(REREAD, watch.changed()).await {
                        self.files_changed(content).await;
                    }
                    if self.served_from_files() {
                        self.overrule().await;
                    } else if adopting.is_none() {
                        // Our files are broken, and someone served something newer than what we kept.
                        adopt_at = Some(Instant::now());
                    }
                    while newer.try_recv().is_ok() {}
                }
                changed = changes.changed(), if self.publisher.current().is_none() && adopt_at.is_none() && adopting.is_none() => {
                    if changed.is_err() {
                        return;
                    }
                    adopt_at = self.adoption_due();
                }
                () = at(adopt_at) => {
                    adopt_at = None;
                    if !self.served_from_files() {
                        let failed = std::mem::take(&mut failed);
                        adopting = Some(tokio::spawn(adopt::adopt(self.wanted(), self.times, failed)));
                    }
                }
                (adopted, without) = done(&mut adopting) => {
                    failed = without;
                    match adopted {
                        Some(adopted) => self.adopted(adopted).await,
                        // Asked again while there is someone to ask, at a calm pace.
                        None if self.publisher.current().is_none() => {
                            adopt_at = Some(Instant::now() + self.times.adopt_answer);
                        }
                        None => {}
                    }
                }
            }
        }
    }

    /// The generation served, 0 for none.
    fn generation(&self) -> u64 {
        self.publisher.current().map_or(0, |p| p.version.generation)
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            fleet: self.fleet.clone(),
            auth: Arc::clone(&self.auth),
            above: self.generation(),
            own: self.own_kept || self.publisher.current().is_some(),
        }
    }

    fn served_from_files(&self) -> bool {
        self.publisher.current().is_some_and(|p| p.origin == Origin::Files)
    }

    /// When to adopt: some time after the first data plane that has something is there, so that the newest is chosen.
    fn adoption_due(&self) -> Option<Instant> {
        let wanted = self.publisher.current().is_none() && self.wanted().possible();
        wanted.then(|| Instant::now() + self.times.adopt_gather)
    }

    async fn start(&mut self, content: Content) {
        let kept = self.load_kept().await;
        if let Some(kept) = &kept {
            self.publisher.seen(kept.version.generation);
            self.own_kept = true;
        }
        match self.prepare(content).await {
            Ok(prepared) => {
                self.files_are_good();
                match kept.filter(|kept| kept.version.hash == prepared.hash()) {
                    // A restart is no edit: the version stays.
                    Some(kept) => {
                        let generation = kept.version.generation;
                        let published = self.publisher.restore(prepared, generation, Origin::Files, SystemTime::now());
                        self.now_serving(None, &published, false).await;
                    }
                    None => self.publish(prepared).await,
                }
            }
            Err(problems) => {
                self.files_are_bad(problems);
                match kept {
                    Some(kept) => self.serve_kept(kept).await,
                    None => self.wait(),
                }
            }
        }
    }

    async fn serve_kept(&self, kept: Snapshot) {
        let generation = kept.version.generation;
        match tokio::task::spawn_blocking(move || Prepared::from_snapshot(&kept)).await {
            Ok(Ok(prepared)) => {
                let published = self.publisher.restore(prepared, generation, Origin::StateDir, SystemTime::now());
                warn!(generation, "the files are refused: the last good policy of state_dir is served");
                self.now_serving(None, &published, false).await;
            }
            Ok(Err(error)) => {
                warn!(%error, "the last good policy of state_dir cannot be served by this version");
                self.wait();
            }
            Err(error) => {
                warn!(%error, "the last good policy of state_dir could not be compiled");
                self.wait();
            }
        }
    }

    async fn load_kept(&self) -> Option<Snapshot> {
        let state = self.state.clone()?;
        match tokio::task::spawn_blocking(move || state.load()).await {
            Ok(Found::Good(snapshot)) => Some(snapshot),
            Ok(Found::Nothing) => None,
            Ok(Found::Damaged(reason)) => {
                warn!(reason, "the last good policy of state_dir is damaged and is not used");
                None
            }
            Err(error) => {
                warn!(%error, "the last good policy of state_dir could not be read");
                None
            }
        }
    }

    async fn files_changed(&self, content: Content) {
        match self.prepare(content).await {
            Ok(prepared) => {
                self.files_are_good();
                self.publish(prepared).await;
            }
            Err(problems) => self.files_are_bad(problems),
        }
    }

    /// Assembles and compiles, off the async threads.
    async fn prepare(&self, content: Content) -> Result<Prepared, Problems> {
        let (target, environment, own_file) = (self.target.clone(), self.environment.clone(), self.own_file);
        let name = self.target_path().display().to_string();
        let whole = name.clone();
        let prepared = tokio::task::spawn_blocking(move || {
            let assembled = assemble(&target, &content, &environment)?;
            if !own_file {
                warn_each(&assembled.settings_beside);
            }
            warn_each(&assembled.warnings);
            Prepared::new(assembled.spec).map_err(|error| Problems::whole(&whole, error.to_string()))
        })
        .await;
        prepared.unwrap_or_else(|error| Err(Problems::whole(&name, format!("checking the policy failed: {error}"))))
    }

    fn target_path(&self) -> &PathBuf {
        match &self.target {
            Target::File(path) | Target::Directory(path) => path,
        }
    }

    fn files_are_good(&self) {
        self.status.good();
        self.reload_success.set(1.0);
        self.probes.note("policy_files", None);
    }

    /// What is served stays; the problem is in the log, the metrics, the detail of `/readyz` and the API.
    fn files_are_bad(&self, problems: Problems) {
        self.rejected.inc();
        self.reload_success.set(0.0);
        let refused = self.status.bad(problems, SystemTime::now());
        let serving = self.publisher.current().map_or("nothing".to_owned(), |p| p.version.to_string());
        for Located { place, path, message } in &refused.problems {
            error!(%place, path, problem = message, serving, "policy refused");
        }
        if refused.count > refused.problems.len() {
            error!(count = refused.count, "policy refused: more problems are not shown");
        }
        let first = refused.problems.first().map(ToString::to_string).unwrap_or_default();
        let more = refused.count.saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        self.probes.note("policy_files", Some(format!("the files are refused: {first}{more}")));
        if self.publisher.current().is_none() {
            self.wait();
        }
    }

    fn wait(&self) {
        let refused = self.status.refused();
        let first = refused.and_then(|r| r.problems.first().map(ToString::to_string));
        let first = first.map(|first| format!(": {first}")).unwrap_or_default();
        let text = format!("waiting for a policy in {}, or from a data plane{first}", self.target_path().display());
        self.guard.close(&text);
        self.publisher.set_waiting(&text);
    }

    async fn publish(&self, prepared: Prepared) {
        let before = self.publisher.current();
        if let Some(published) = self.publisher.publish(prepared, Origin::Files, SystemTime::now()) {
            self.now_serving(before, &published, true).await;
        }
    }

    /// A data plane handed its policy over.
    async fn adopted(&self, adopted: Adopted) {
        if self.served_from_files() || adopted.version.generation <= self.generation() {
            return;
        }
        let before = self.publisher.current();
        let Adopted { prepared, version, node } = adopted;
        let published = self.publisher.restore(prepared, version.generation, Origin::Adopted(node), SystemTime::now());
        self.now_serving(before, &published, true).await;
    }

    /// Stamps ours above what the fleet holds, if anyone still holds something newer.
    async fn overrule(&self) {
        let Some(current) = self.publisher.current() else {
            return;
        };
        let held = self.fleet.list().into_iter().filter_map(|e| e.accepted);
        let newer =
            held.filter(|v| v.generation >= current.version.generation && v.hash != current.version.hash).count();
        if newer == 0 {
            return;
        }
        if let Some(published) = self.publisher.restamp(SystemTime::now()) {
            warn!(from = %current.version, to = %published.version, planes = newer,
                  "data planes hold a newer policy of another control plane: the files of this one count");
            self.keep(published.snapshot()).await;
        }
    }

    async fn now_serving(&self, before: Option<Arc<Published>>, published: &Arc<Published>, keep: bool) {
        self.guard.open();
        info!(version = %published.version, origin = %published.origin, bytes = published.bytes.len(),
              compressed = published.gzip.len(), planes = self.fleet.count().planes, "policy published");
        // It may be meant. It is also what a lost file or a forgotten block looks like.
        if before.as_ref().is_some_and(|b| b.policy.default_limit().is_some())
            && published.policy.default_limit().is_none()
        {
            warn!("the default limit is gone: requests without a limit of their route are not limited any more");
        }
        if keep {
            self.keep(published.snapshot()).await;
        }
        let (history, published) = (Arc::clone(&self.history), Arc::clone(published));
        let recorded = tokio::task::spawn_blocking(move || {
            let before = before.as_ref().map(|p| p.spec.as_ref());
            history.record(before, &published.spec, published.version, published.origin.clone(), published.since);
        });
        // Waited for, so that versions stand in their order; subscribers have theirs already.
        if let Err(error) = recorded.await {
            warn!(%error, "the change could not be written into the history");
        }
    }

    async fn keep(&self, snapshot: Snapshot) {
        let Some(state) = self.state.clone() else {
            return;
        };
        match tokio::task::spawn_blocking(move || state.save(&snapshot)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "cannot keep the policy in control_plane.state_dir"),
            Err(error) => warn!(%error, "keeping the policy failed"),
        }
    }
}
