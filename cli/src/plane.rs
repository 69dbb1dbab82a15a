//! The three ways to run for good.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use edgequota_config::{
    Loaded, Role,
    load::{self, Environment, process_environment},
    problems::warn_each,
    settings::Redis,
    watch::{Pace, Poke},
};
use edgequota_controlplane::{ControlPlane, Options as ControlOptions, Times as ControlTimes, settings::Reload};
use edgequota_counters::{Counters, counters::FleetSize};
use edgequota_dataplane::{
    app::worker_count,
    follow,
    process::{Bound, Options, PolicySource},
};
use edgequota_ops::{
    access_log::AccessLog,
    logging::{self, LogHandle},
    metrics::Metrics,
    probes::Probes,
    resources::node_name,
    shutdown::Shutdown,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{VERSION, args::complain};

/// Threads of the control runtime: admin port, stream, name resolution. Requests have their own.
const CONTROL_THREADS: usize = 2;
/// The last log lines have this long to leave.
const LAST_LINES: Duration = Duration::from_secs(2);

pub(crate) fn standalone(config: PathBuf) -> ExitCode {
    run(config, Role::Standalone)
}

pub(crate) fn dataplane(config: PathBuf) -> ExitCode {
    run(config, Role::DataPlane)
}

pub(crate) fn controlplane(config: PathBuf) -> ExitCode {
    run(config, Role::ControlPlane)
}

fn run(config: PathBuf, role: Role) -> ExitCode {
    let environment = process_environment();
    let loaded = match load::load(&config, &environment, role) {
        Ok(loaded) => loaded,
        Err(problems) => {
            complain(&format!("fatal: configuration error: {problems}"));
            return ExitCode::FAILURE;
        }
    };
    let log = logging::init(&loaded.settings.logging);
    // Standalone says them itself, whenever it reads the file.
    if role != Role::Standalone {
        warn_each(&loaded.warnings);
    }
    tracing::info!(version = VERSION, role = ?role, config = %config.display(), "starting");
    let result = control_runtime().and_then(|runtime| {
        let ended = match role {
            Role::ControlPlane => runtime.block_on(control_plane(config, environment, loaded, log)),
            Role::Standalone | Role::DataPlane => runtime.block_on(data_plane(config, environment, loaded, role, log)),
        };
        // A blocked name lookup or a file system that hangs does not hold the process.
        runtime.shutdown_timeout(Duration::from_millis(200));
        ended
    });
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %format!("{error:#}"), "cannot go on");
            complain(&format!("fatal: {error:#}"));
            ExitCode::FAILURE
        }
    };
    logging::flush(LAST_LINES);
    code
}

pub(crate) fn control_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?)
}

async fn data_plane(
    config: PathBuf,
    environment: Environment,
    loaded: Loaded,
    role: Role,
    log: LogHandle,
) -> anyhow::Result<()> {
    let Loaded { settings, policy, .. } = loaded;
    if role == Role::DataPlane && settings.control_plane.address.is_empty() {
        anyhow::bail!(
            "configuration error: control_plane.address is required for `edgequota dataplane` (or run `edgequota standalone`)"
        );
    }
    let workers = worker_count(&settings);
    let registry = Metrics::new(workers);
    let fleet = FleetSize::default();
    let (redis, changes) = watch::channel(Arc::new(settings.redis.clone()));
    let counters = Counters::new(changes, &registry, fleet.clone(), &node_name(&settings.control_plane.node_id));
    let shutdown = Shutdown::new();
    let hup = listen(&shutdown, settings.server.drain_delay.get());
    let source = match role {
        Role::DataPlane => PolicySource::ControlPlane { own: policy.map(Box::new) },
        _ => PolicySource::OwnFile,
    };
    let options = Options {
        settings: Arc::new(settings),
        redis,
        counters,
        fleet,
        source,
        config_path: config,
        environment,
        registry,
        probes: Probes::new(),
        shutdown,
        access_log: AccessLog::stdout(workers),
        on_logging: Arc::new(move |logging| log.apply(logging)),
        pace: Pace::default(),
        times: follow::Times::default(),
        binary: VERSION,
    };
    Bound::bind(options)?.run(hup).await?;
    Ok(())
}

async fn control_plane(
    config: PathBuf,
    environment: Environment,
    loaded: Loaded,
    log: LogHandle,
) -> anyhow::Result<()> {
    let Loaded { settings, .. } = loaded;
    let at_start = settings.clone();
    let registry = Metrics::new(1);
    let (redis, redis_changes) = watch::channel(Arc::<Redis>::new(settings.redis.clone()));
    let node = node_name(&settings.control_plane.node_id);
    let counters = Counters::new(redis_changes, &registry, FleetSize::default(), &node);
    let (shutdown, probes) = (Shutdown::new(), Probes::new());
    let (settings, settings_changes) = watch::channel(Arc::new(settings));
    let reload = Reload {
        config_path: config.clone(),
        environment: environment.clone(),
        at_start,
        settings,
        redis,
        on_logging: Box::new(move |logging| log.apply(logging)),
        probes: probes.clone(),
    };
    let stop = CancellationToken::new();
    let (reloading, reload_now) = reload.start(Pace::default(), stop.clone()).await;
    let policy_now = Arc::new(OnceLock::<Poke>::new());
    let poked = Arc::clone(&policy_now);
    // Nothing is balanced to a control plane by requests, so there is nothing to wait for before it drains.
    shutdown.listen_to_signals(Duration::ZERO, move || {
        reload_now.poke();
        if let Some(policy_now) = poked.get() {
            policy_now.poke();
        }
    });
    let options = ControlOptions {
        settings: settings_changes,
        config_path: config,
        environment,
        counters,
        metrics: registry,
        probes,
        shutdown,
        pace: Pace::default(),
        times: ControlTimes::default(),
    };
    let bound = ControlPlane::start(options).await?;
    let reloading = tokio::spawn(reloading);
    let ended = bound.run(move |poke| drop(policy_now.set(poke))).await;
    stop.cancel();
    let _ = reloading.await;
    Ok(ended?)
}

/// Listens to signals; the closure takes the handle that SIGHUP pokes once there is one.
fn listen(shutdown: &Shutdown, delay: Duration) -> impl FnOnce(Poke) + use<> {
    let poke = Arc::new(OnceLock::<Poke>::new());
    let poked = Arc::clone(&poke);
    shutdown.listen_to_signals(delay, move || {
        if let Some(poke) = poked.get() {
            poke.poke();
        }
    });
    move |handle| {
        let _ = poke.set(handle);
    }
}
