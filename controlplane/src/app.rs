//! The control plane as a whole: binds, then serves, then leaves. Everything is handed in, so that a test, and `demo`,
//! run the same thing.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use edgequota_config::{
    Settings,
    load::Environment,
    state::StateDir,
    watch::{Pace, Poke, Target, Watch},
};
use edgequota_counters::{Counters, report};
use edgequota_ops::{
    admin,
    metrics::Metrics,
    probes::Probes,
    shutdown::{Shutdown, Stage},
    tls::{ServerTls, TlsError},
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    api::{self, ApiState},
    fleet::Fleet,
    history::History,
    keeper::{Keeper, Watched},
    metrics::Measured,
    publish::Publisher,
    serve::{self, Counts, MOST_SUBSCRIBERS, accept::Listener, auth::StreamAuth},
    status::Status,
    times::Times,
};

/// How long streams and the admin port may take to end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What a control plane is made of.
pub struct Options {
    /// Settings in force; the receiver shows later ones in `/v1/config`.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The process's own config file: the policy is read from it when `control_plane.policy_path` is empty.
    pub config_path: PathBuf,
    /// Laid over the policy.
    pub environment: Environment,
    /// The store that data planes count in, to look at.
    pub counters: Counters,
    /// Registry.
    pub metrics: Metrics,
    /// Probes; a guard `policy` opens with the first policy.
    pub probes: Probes,
    /// Stages of the drain.
    pub shutdown: Shutdown,
    /// Pace of the file watch.
    pub pace: Pace,
    /// Times of the stream.
    pub times: Times,
}

/// Why a control plane does not start.
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
    /// Certificates.
    #[error("control_plane.tls: {0}")]
    Tls(#[from] TlsError),
    /// The state directory.
    #[error("cannot use control_plane.state_dir \"{path}\": {error}")]
    State {
        /// Its value.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The task that publishes ended by itself, while running.
    #[error("the task that publishes policies failed: {0}")]
    Publishing(String),
}

/// Starts control planes.
#[derive(Debug)]
pub struct ControlPlane;

/// A control plane that has its ports and serves nothing yet.
pub struct Bound {
    /// Where data planes subscribe.
    pub grpc_addr: SocketAddr,
    /// Probes, metrics, API.
    pub admin_addr: SocketAddr,
    options: Options,
    listener: Listener,
    admin: admin::Bound,
    state: Option<StateDir>,
}

impl ControlPlane {
    /// Binds `control_plane.listen` and `admin.address` (port 0 is allowed) and opens `state_dir`. A policy is not
    /// needed for that: without one the control plane stays up, not ready, and says what it waits for.
    pub async fn start(options: Options) -> Result<Bound, StartError> {
        let settings = Arc::clone(&options.settings.borrow());
        let plane = &settings.control_plane;
        let tls = if plane.tls.enabled { Some(ServerTls::load(&plane.tls, &[b"h2"])?) } else { None };
        let listen = |setting, address: &str| {
            let address = address.to_owned();
            move |error| StartError::Listen { setting, address, error }
        };
        let state = if plane.state_dir.is_empty() {
            warn!(
                "control_plane.state_dir is empty: after a restart with broken files, only the fleet knows the policy"
            );
            None
        } else {
            let failed = |error| StartError::State { path: plane.state_dir.clone(), error };
            Some(StateDir::open(plane.state_dir.as_ref()).map_err(failed)?)
        };
        let listener = Listener::bind(&plane.listen, tls).map_err(listen("control_plane.listen", &plane.listen))?;
        let admin = admin::Bound::bind(&settings.admin).map_err(listen("admin.address", &settings.admin.address))?;
        Ok(Bound { grpc_addr: listener.local_addr(), admin_addr: admin.local_addr(), options, listener, admin, state })
    }
}

/// The file or directory that the policy is read from.
fn target(settings: &Settings, config_path: PathBuf) -> Target {
    let path = &settings.control_plane.policy_path;
    if path.is_empty() {
        return Target::File(config_path);
    }
    let path = PathBuf::from(path);
    // A path that is not there yet is a directory unless it looks like a file.
    let looks_like_file = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    if path.is_file() || (looks_like_file && !path.is_dir()) { Target::File(path) } else { Target::Directory(path) }
}

impl Bound {
    /// Serves until the shutdown has reached its end. `started` gets a handle that makes the files be read at once
    /// (SIGHUP), as soon as there is one.
    ///
    /// # Errors
    /// Only [`StartError::Publishing`]: without that task no edit would count while everything looked well, so the process
    /// leaves as on SIGTERM, and with an error.
    pub async fn run(self, started: impl FnOnce(Poke)) -> Result<(), StartError> {
        let Bound { options, listener, admin, state, grpc_addr, admin_addr } = self;
        let settings = Arc::clone(&options.settings.borrow());
        let (leaving, ending, closing) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let publisher = Arc::new(Publisher::new());
        let fleet = Fleet::new(MOST_SUBSCRIBERS);
        let (history, status) = (Arc::new(History::default()), Arc::new(Status::default()));
        let measured = Measured::register(&options.metrics, &publisher, &fleet);
        let (newer, newer_receiver) = mpsc::channel(16);

        let api = api::router(api_state(&options, &settings, &publisher, &fleet, &history, &status));
        let router = admin::router(shared(&options, &publisher)).merge(api);
        let admin = tokio::spawn(admin.serve(router, closing.clone()));
        info!(listener = "admin", address = %admin_addr, "listening");
        info!(listener = "grpc", address = %grpc_addr, "listening");

        let target = target(&settings, options.config_path);
        let (Target::File(path) | Target::Directory(path)) = &target;
        info!(path = %path.display(), directory = matches!(target, Target::Directory(_)), "watching the policy");
        let guard = options.probes.guard("policy", "waiting for the files to be read");
        let (first, watch) = Watch::start(vec![target.clone()], options.pace, leaving.clone()).await;
        let poke = watch.poke();
        started(poke.clone());
        let auth = Arc::new(StreamAuth::new(&settings.control_plane));
        let keeper = Keeper {
            auth: Arc::clone(&auth),
            own_kept: false,
            target,
            own_file: settings.control_plane.policy_path.is_empty(),
            environment: options.environment,
            publisher: Arc::clone(&publisher),
            fleet: fleet.clone(),
            history,
            status,
            state,
            probes: options.probes.clone(),
            guard,
            rejected: measured.rejected,
            reload_success: measured.reload_success,
            times: options.times,
            leaving: leaving.clone(),
        };
        let keeping = tokio::spawn(keeper.run(Watched { first, watch, poke }, newer_receiver));
        let keeping = tokio::spawn(end_with(keeping, options.shutdown.clone()));
        let stream = serve::Shared::new(
            publisher,
            fleet,
            auth,
            options.times,
            newer,
            leaving.clone(),
            ending.clone(),
            Counts::new(&options.metrics),
        );
        let serving = tokio::spawn(serve::serve(listener, stream));
        let (probes, counters) = (options.probes.clone(), options.counters.clone());
        let trying = tokio::spawn(async move {
            counters.tried().await;
            probes.started();
        });
        tokio::spawn(report::problems(options.counters.clone(), options.probes.clone(), ending.clone()));

        options.shutdown.reached(Stage::Leaving).await;
        leaving.cancel();
        options.shutdown.reached(Stage::Draining).await;
        ending.cancel();
        trying.abort();
        let kept = match tokio::time::timeout(LAST_WORDS, async { tokio::join!(serving, keeping) }).await {
            Ok((_, kept)) => kept.and_then(|ended| ended),
            Err(_) => {
                warn!("some streams did not end in time");
                Ok(())
            }
        };
        closing.cancel();
        // The admin port goes last; a slow scrape does not hold the process.
        let _ = tokio::time::timeout(LAST_WORDS, admin).await;
        info!("control plane stopped");
        kept.map_err(|error| StartError::Publishing(error.to_string()))
    }
}

/// Without the task that publishes policies the process leaves.
async fn end_with(keeping: JoinHandle<()>, shutdown: Shutdown) -> Result<(), JoinError> {
    let ended = keeping.await;
    if let Err(error) = &ended {
        tracing::error!(%error, "the task that publishes policies failed: the process ends");
        shutdown.advance(Stage::Draining);
    }
    ended
}

/// What the endpoints of the control plane need to know.
fn api_state(
    options: &Options,
    settings: &Settings,
    publisher: &Arc<Publisher>,
    fleet: &Fleet,
    history: &Arc<History>,
    status: &Arc<Status>,
) -> ApiState {
    ApiState {
        publisher: Arc::clone(publisher),
        fleet: fleet.clone(),
        history: Arc::clone(history),
        status: Arc::clone(status),
        decider: options.counters.decider(),
        trusted_proxies: settings.server.trusted_proxies.clone().into(),
        environment: Arc::new(options.environment.clone()),
        checks: Arc::new(tokio::sync::Semaphore::new(2)),
        token: admin::AdminToken::new(&settings.admin),
        counter_calls: Arc::new(tokio::sync::Semaphore::new(4)),
    }
}

/// What the endpoints that both planes have need to know.
fn shared(options: &Options, publisher: &Arc<Publisher>) -> admin::Shared {
    let ping = options.counters.clone();
    let (settings, served) = (options.settings.clone(), Arc::clone(publisher));
    let counted = options.counters.clone();
    admin::Shared {
        probes: options.probes.clone(),
        metrics: options.metrics.clone(),
        ping_store: Some(Arc::new(move || {
            let counters = ping.clone();
            Box::pin(async move { counters.ping().await })
        })),
        config: Arc::new(move || {
            let mut document = settings.borrow().redacted();
            let policy = served.current().map(|p| p.spec.redacted());
            if let (Value::Object(document), Some(Value::Object(policy))) = (&mut document, policy) {
                document.extend(policy);
            }
            document
        }),
        stats: Arc::new(move || {
            let (redis_errors, fallback_used, readonly_retries) = counted.stats();
            // The control plane decides about no request.
            json!({
                "allowed": 0, "limited": 0, "redis_errors": redis_errors, "fallback_used": fallback_used,
                "readonly_retries": readonly_retries, "key_extract_errors": 0, "auth_errors": 0, "auth_denied": 0,
            })
        }),
    }
}
