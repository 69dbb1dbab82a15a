//! A data plane as a whole: settings, policy source, admin port and workers, from start to the end of the drain.

mod reload;

use std::{
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use edgequota_config::{
    Problems, Settings,
    load::Environment,
    settings::{Logging, Redis},
    state::StateDir,
    watch::{Pace, Poke, Target, Watch},
};
use edgequota_counters::{Counters, counters::FleetSize, report};
use edgequota_ops::{
    access_log::AccessLog,
    admin,
    metrics::Metrics as Registry,
    probes::Probes,
    shutdown::{Shutdown, Stage},
};
use edgequota_policy::{PolicySpec, limit::FailurePolicy};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::reload::Reload;
use crate::{
    app::{self, Parts, Running, StatCounters},
    follow::{self, FollowError, file::FileSource},
    policy_slot::PolicySlot,
};

/// How long a process that must not run without its store waits for it at start.
const STORE_AT_START: Duration = Duration::from_secs(25);
/// Logs, state and streams after the drain.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Where the policy comes from.
pub enum PolicySource {
    /// The process's own config file (standalone).
    OwnFile,
    /// `control_plane.address`; `own` is the policy part of the own file, the last resort at start.
    ControlPlane {
        /// Resolved and checked.
        own: Option<Box<PolicySpec>>,
    },
}

/// What a data plane is made of.
pub struct Options {
    /// As loaded.
    pub settings: Arc<Settings>,
    /// Where changed Redis settings go; the other end is in `counters`.
    pub redis: watch::Sender<Arc<Redis>>,
    /// Counting.
    pub counters: Counters,
    /// Set by the stream.
    pub fleet: FleetSize,
    /// Source of the policy.
    pub source: PolicySource,
    /// The own config file; watched.
    pub config_path: PathBuf,
    /// Laid over it.
    pub environment: Environment,
    /// Registry.
    pub registry: Registry,
    /// Probes.
    pub probes: Probes,
    /// Stages of the drain.
    pub shutdown: Shutdown,
    /// Where access lines go.
    pub access_log: AccessLog,
    /// Called with the logging settings of every new version of the file.
    pub on_logging: Arc<dyn Fn(&Logging) + Send + Sync>,
    /// Pace of the file watch.
    pub pace: Pace,
    /// Times of the stream.
    pub times: follow::Times,
    /// Version of the binary.
    pub binary: &'static str,
}

/// Why a data plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port.
    #[error("cannot listen on {setting} \"{address}\": {error}")]
    Listen {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// The state directory.
    #[error("cannot use control_plane.state_dir \"{path}\": {error}")]
    State {
        /// Its value.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The config file, as it was when the watch began.
    #[error("{0}")]
    Config(Problems),
    /// The stream's settings cannot work.
    #[error("control_plane: {0}")]
    Follow(#[from] FollowError),
    /// The task that brings policies is gone.
    #[error("nothing brings policies any more, which is a defect of this program: {0}")]
    SourceEnded(String),
    /// A thread or runtime could not be made.
    #[error("cannot start the workers: {0}")]
    Workers(std::io::Error),
    /// failClosed without a store.
    #[error(
        "redis did not answer for {STORE_AT_START:?}, and rate_limit.failure_policy is failClosed: check redis.endpoints"
    )]
    NoStore,
}

/// A data plane that has its ports and serves nothing yet.
pub struct Bound {
    /// Where clients connect.
    pub proxy_addr: SocketAddr,
    /// Probes and metrics.
    pub admin_addr: SocketAddr,
    options: Options,
    proxy: app::Bound,
    admin: admin::Bound,
    state: Option<StateDir>,
    slot: Arc<PolicySlot>,
}

impl Bound {
    /// Binds `server.address` and `admin.address` (port 0 is allowed) and opens `state_dir`.
    pub fn bind(options: Options) -> Result<Bound, StartError> {
        let settings = &options.settings;
        let listen = |setting, address: &str| {
            let address = address.to_owned();
            move |error| StartError::Listen { setting, address, error }
        };
        let path = &settings.control_plane.state_dir;
        let state = match &options.source {
            PolicySource::ControlPlane { .. } if !path.is_empty() => {
                Some(StateDir::open(path.as_ref()).map_err(|error| StartError::State { path: path.clone(), error })?)
            }
            _ => None,
        };
        let slot = Arc::new(PolicySlot::default());
        let parts = Parts {
            settings: Arc::clone(settings),
            counters: options.counters.clone(),
            probes: options.probes.clone(),
            registry: options.registry.clone(),
            access_log: options.access_log.clone(),
            shutdown: options.shutdown.clone(),
            slot: Arc::clone(&slot),
        };
        let proxy = app::Bound::bind(parts).map_err(listen("server.address", &settings.server.address))?;
        let admin = admin::Bound::bind(&settings.admin).map_err(listen("admin.address", &settings.admin.address))?;
        Ok(Bound { proxy_addr: proxy.address(), admin_addr: admin.local_addr(), options, proxy, admin, state, slot })
    }

    /// Serves until the drain is over. `started` gets a handle that makes the config file be read at once (SIGHUP).
    pub async fn run(self, started: impl FnOnce(Poke)) -> Result<(), StartError> {
        let Bound { proxy_addr, admin_addr, mut options, proxy, admin, state, slot } = self;
        let stop = CancellationToken::new();
        let _stop_on_the_way_out = stop.clone().drop_guard();
        let in_force = Arc::new(Mutex::new(Arc::clone(&options.settings)));
        let leaving = tokio::spawn(leave(options.shutdown.clone(), options.probes.clone()));

        let workers = app::worker_count(&options.settings);
        // Until the control plane tells the fleet's, leases are shared among our own.
        options.fleet.set_workers(workers as u64);
        let source = std::mem::replace(&mut options.source, PolicySource::OwnFile);
        // Before anything that may take its time: probes are answered from the first moment.
        let router = admin::router(shared(&options, proxy.stats(), &slot, &in_force));
        let closing = CancellationToken::new();
        let admin = tokio::spawn(admin.serve(router, closing.clone()));
        tracing::info!(listener = "admin", address = %admin_addr, "listening");
        tokio::spawn(report::problems(options.counters.clone(), options.probes.clone(), stop.clone()));
        let source = tokio::select! {
            source = Source::open(source, &options, &slot, state, workers, &stop) => source?,
            // Nothing is served yet, so there is nothing to drain.
            () = options.shutdown.reached(Stage::Leaving) => return Ok(()),
        };
        let running = Arc::new(proxy.start().map_err(StartError::Workers)?);
        tracing::info!(listener = "proxy", address = %proxy_addr, workers, "listening");
        tokio::spawn(say_started(options.counters.clone(), options.probes.clone(), stop.clone()));
        tokio::spawn(follow_policy(Arc::clone(&slot), Arc::clone(&running), stop.clone()));

        let reload = Reload {
            at_start: Arc::clone(&options.settings),
            running: Arc::clone(&running),
            in_force,
            success: options.registry.gauge(
                "edgequota_config_reload_success",
                "1: the file is in force as it is; 0: it was refused, and what was in force before stays",
            ),
            redis: options.redis,
            on_logging: options.on_logging,
        };
        let mut following = match source {
            Source::File(file, settings) => {
                started(file.poke());
                reload.apply(*settings);
                tokio::spawn(file.run(move |settings| reload.apply(settings)))
            }
            Source::Stream(stream) => {
                let target = Target::File(options.config_path.clone());
                let (first, watch) = Watch::start(vec![target], options.pace, stop.clone()).await;
                started(watch.poke());
                let path = options.config_path.display().to_string();
                tokio::spawn(reload.run(path, first, watch, options.environment, stop.clone()));
                tokio::spawn(stream)
            }
        };
        tokio::select! {
            () = options.shutdown.reached(Stage::Draining) => {}
            // It ends only when it is told to: this is a panic, and a data plane that no longer follows is worse than
            // one that Kubernetes restarts.
            ended = &mut following => {
                options.shutdown.advance(Stage::Ended);
                return Err(StartError::SourceEnded(ended.err().map_or_else(String::new, |e| e.to_string())));
            }
        }
        drain(&options.shutdown, options.settings.server.drain_timeout.get(), running).await;
        stop.cancel();
        // The last policy is saved before the process ends.
        let _ = tokio::time::timeout(LAST_WORDS, following).await;
        let access_log = options.access_log.clone();
        let _ = tokio::task::spawn_blocking(move || access_log.flush(LAST_WORDS)).await;
        closing.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, admin).await;
        let _ = leaving.await;
        tracing::info!("data plane stopped");
        Ok(())
    }
}

/// An open source of policies. Its readiness guard is in place.
enum Source {
    /// With the settings that stood beside the policy.
    File(Box<FileSource>, Box<Settings>),
    Stream(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Source {
    async fn open(
        source: PolicySource,
        options: &Options,
        slot: &Arc<PolicySlot>,
        state: Option<StateDir>,
        workers: usize,
        stop: &CancellationToken,
    ) -> Result<Source, StartError> {
        let (slot, registry, probes, stop) = (Arc::clone(slot), &options.registry, &options.probes, stop.clone());
        match source {
            PolicySource::OwnFile => {
                // The watch is in place before anything that the file says is used: no edit is missed from here on.
                let (path, environment) = (options.config_path.clone(), options.environment.clone());
                let in_force = Arc::clone(&slot);
                let mut file = FileSource::start(path, environment, options.pace, slot, registry, probes, stop).await;
                let settings = file.load_first().await.map_err(StartError::Config)?;
                require_store(options, &in_force).await?;
                Ok(Source::File(Box::new(file), Box::new(settings)))
            }
            PolicySource::ControlPlane { own } => {
                let config = follow::Config {
                    settings: options.settings.control_plane.clone(),
                    workers: u32::try_from(workers).unwrap_or(u32::MAX),
                    binary: options.binary.to_owned(),
                    labels: std::collections::BTreeMap::new(),
                    own: own.map(|own| *own),
                    times: options.times,
                };
                let hints = follow::Hints::new(options.fleet.clone(), &options.counters);
                let stream = follow::follow(config, slot, state, hints, registry, probes, stop)?;
                Ok(Source::Stream(Box::pin(stream)))
            }
        }
    }
}

/// From the first moment of the drain the process is not ready.
async fn leave(shutdown: Shutdown, probes: Probes) {
    shutdown.reached(Stage::Leaving).await;
    probes.drain();
}

/// Waits for what is in flight, then forces the rest.
async fn drain(shutdown: &Shutdown, limit: Duration, running: Arc<Running>) {
    let began = tokio::time::Instant::now();
    if tokio::time::timeout(limit, running.ended()).await.is_err() {
        tracing::warn!(?limit, "requests were still under way after server.drain_timeout and are cut");
    }
    shutdown.advance(Stage::Ended);
    if tokio::time::timeout(LAST_WORDS, running.ended()).await.is_err() {
        tracing::warn!("a worker did not end");
    }
    tracing::info!(took = ?began.elapsed(), "drained");
}

/// A process that refuses everything without its store does not start without it: its predecessor serves on.
async fn require_store(options: &Options, slot: &PolicySlot) -> Result<(), StartError> {
    let closed = slot.load().is_some_and(|in_force| {
        in_force.policy.limits().iter().any(|l| &*l.name == "default" && l.failure_policy == FailurePolicy::FailClosed)
    });
    if !closed {
        return Ok(());
    }
    let mut pause = tokio::time::interval(Duration::from_millis(250));
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let answered = async {
        loop {
            pause.tick().await;
            if options.counters.ping().await {
                return;
            }
        }
    };
    tokio::select! {
        () = answered => Ok(()),
        () = tokio::time::sleep(STORE_AT_START) => Err(StartError::NoStore),
    }
}

async fn say_started(counters: Counters, probes: Probes, stop: CancellationToken) {
    tokio::select! {
        () = counters.tried() => probes.started(),
        () = stop.cancelled() => {}
    }
}

/// What of a policy concerns the whole process is taken over when it comes into force.
async fn follow_policy(slot: Arc<PolicySlot>, running: Arc<Running>, stop: CancellationToken) {
    let mut changes = slot.changes();
    let mut free = tokio::time::interval(Duration::from_secs(1));
    free.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if let Some(in_force) = slot.load() {
            running.apply_policy(&in_force.policy);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = free.tick() => {
                slot.free_retired();
                continue;
            }
            () = stop.cancelled() => return,
        }
    }
}

/// What the endpoints that both planes have need to know.
fn shared(
    options: &Options,
    stats: StatCounters,
    slot: &Arc<PolicySlot>,
    in_force: &Arc<Mutex<Arc<Settings>>>,
) -> admin::Shared {
    let (ping, counted) = (options.counters.clone(), options.counters.clone());
    let (slot, in_force) = (Arc::clone(slot), Arc::clone(in_force));
    admin::Shared {
        probes: options.probes.clone(),
        metrics: options.registry.clone(),
        ping_store: Some(Arc::new(move || {
            let counters = ping.clone();
            Box::pin(async move { counters.ping().await })
        })),
        config: Arc::new(move || {
            let mut document = in_force.lock().unwrap_or_else(PoisonError::into_inner).redacted();
            let policy = slot
                .load()
                .and_then(|p| PolicySpec::from_canonical(&p.snapshot.bytes).ok())
                .map(|spec| spec.redacted());
            if let (Value::Object(document), Some(Value::Object(policy))) = (&mut document, policy) {
                document.extend(policy);
            }
            document
        }),
        stats: Arc::new(move || {
            let (redis_errors, fallback_used, readonly_retries) = counted.stats();
            json!({
                "allowed": stats.allowed.value(), "limited": stats.limited.value(), "redis_errors": redis_errors, "fallback_used": fallback_used,
                "readonly_retries": readonly_retries, "key_extract_errors": stats.key_extract_errors.value(),
                "auth_errors": stats.auth_errors.value(), "auth_denied": stats.auth_denied.value(),
            })
        }),
    }
}
