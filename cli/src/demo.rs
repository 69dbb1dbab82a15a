//! `edgequota demo`: the whole system in one process, on the embedded store.

use std::{net::SocketAddr, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use edgequota_config::{Document, Settings, load::Environment, watch::Pace};
use edgequota_controlplane::{ControlPlane, Options as ControlOptions, Times as ControlTimes};
use edgequota_counters::{Counters, counters::FleetSize};
use edgequota_dataplane::{
    follow,
    process::{Bound, Options, PolicySource},
};
use edgequota_ops::{
    access_log::AccessLog,
    logging,
    metrics::Metrics,
    probes::Probes,
    shutdown::{Shutdown, Stage},
};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    VERSION,
    args::{complain, say},
    plane::control_runtime,
};

/// The policy that people are invited to edit.
const POLICY: &str = "\
# Edit and save: the new numbers are enforced at once, on both data planes.
backend:
  url: http://BACKEND
rate_limit:
  average: 5
  burst: 5
  period: 1m
  key_strategy: { type: header, header_name: X-Tenant-Id, on_missing: client_ip }
routes:
  - name: search
    match: { path_prefix: /search }
    rate_limit: { average: 2, burst: 2, period: 10s }
overrides:
  - { keys: [acme], limit: default, average: 100, burst: 100 }
";

pub(crate) fn run() -> ExitCode {
    let ended = control_runtime().and_then(|runtime| {
        let ended = runtime.block_on(demo());
        runtime.shutdown_timeout(Duration::from_millis(200));
        ended
    });
    logging::flush(Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("fatal: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn settings(yaml: &str) -> anyhow::Result<Settings> {
    let environment = Environment::new();
    Document::parse("demo", yaml)
        .and_then(|document| document.settings(&environment))
        .map_err(|problems| anyhow::anyhow!("{problems}"))
}

async fn demo() -> anyhow::Result<()> {
    let directory = tempfile::Builder::new()
        .prefix("edgequota-demo-")
        .tempdir()
        .context("cannot make a directory for the policy file")?;
    let shutdown = Shutdown::new();
    shutdown.listen_to_signals(Duration::ZERO, || {});
    let backend = TcpListener::bind("127.0.0.1:0").await?;
    let policy = directory.path().join("policy.yaml");
    std::fs::write(&policy, POLICY.replace("BACKEND", &backend.local_addr()?.to_string()))?;
    let echo = axum::Router::new().fallback(echo);
    tokio::spawn(async move { axum::serve(backend, echo).await });

    let control = settings(&format!(
        "{{ admin: {{ address: '127.0.0.1:0' }}, control_plane: {{ listen: '127.0.0.1:0', policy_path: '{}', state_dir: '{}' }}, redis: {{ mode: embedded }}, logging: {{ level: warn, format: text }} }}",
        policy.display(),
        directory.path().join("state").display(),
    ))?;
    logging::init(&control.logging);
    let (_redis, redis) = watch::channel(Arc::new(control.redis.clone()));
    let registry = Metrics::new(1);
    let counters = Counters::new(redis, &registry, FleetSize::default(), "demo");
    let (_settings, control_settings) = watch::channel(Arc::new(control));
    let control = ControlPlane::start(ControlOptions {
        settings: control_settings,
        config_path: policy.clone(),
        environment: Environment::new(),
        counters: counters.clone(),
        metrics: registry,
        probes: Probes::new(),
        shutdown: shutdown.clone(),
        pace: Pace::default(),
        times: ControlTimes::default(),
    })
    .await?;
    let (grpc, admin) = (control.grpc_addr, control.admin_addr);
    let mut planes = tokio::task::JoinSet::new();
    planes.spawn(async move { control.run(|_| {}).await.map_err(anyhow::Error::from) });
    let mut proxies = Vec::new();
    for node in ["demo-1", "demo-2"] {
        let (bound, probes) = data_plane(node, grpc, &counters, &shutdown, directory.path())?;
        proxies.push((bound.proxy_addr, bound.admin_addr, probes));
        planes.spawn(async move { bound.run(|_| {}).await.map_err(anyhow::Error::from) });
    }
    let ready = async {
        for (_, _, probes) in &proxies {
            probes.until_ready().await;
        }
    };
    tokio::select! {
        () = ready => introduce(&proxies, admin, &policy),
        () = shutdown.reached(Stage::Draining) => {}
        Some(ended) = planes.join_next() => ended??,
    }
    while let Some(ended) = planes.join_next().await {
        ended??;
    }
    say("\nThe demo has ended; nothing is left behind.");
    Ok(())
}

fn data_plane(
    node: &str,
    grpc: SocketAddr,
    counters: &Counters,
    shutdown: &Shutdown,
    directory: &Path,
) -> anyhow::Result<(Bound, Probes)> {
    let settings = settings(&format!(
        "{{ server: {{ address: '127.0.0.1:0', workers: 1, drain_delay: 0s, drain_timeout: 2s }}, admin: {{ address: '127.0.0.1:0' }}, \
         control_plane: {{ address: 'http://{grpc}', node_id: {node} }}, redis: {{ mode: embedded }}, logging: {{ level: warn, access_log_enabled: false }} }}",
    ))?;
    let registry = Metrics::new(1);
    let fleet = FleetSize::default();
    let probes = Probes::new();
    let (redis, _) = watch::channel(Arc::new(settings.redis.clone()));
    let bound = Bound::bind(Options {
        settings: Arc::new(settings),
        redis,
        // One store for all: this is what makes two data planes exact without Redis, and works in one process only.
        counters: counters.share_embedded(&registry, fleet.clone()),
        fleet,
        source: PolicySource::ControlPlane { own: None },
        config_path: directory.join(format!("{node}.yaml")),
        environment: Environment::new(),
        registry,
        probes: probes.clone(),
        shutdown: shutdown.clone(),
        access_log: AccessLog::start(Box::new(std::io::sink()), 1),
        on_logging: Arc::new(|_| {}),
        pace: Pace::default(),
        times: follow::Times::default(),
        binary: VERSION,
    })?;
    Ok((bound, probes))
}

fn introduce(proxies: &[(SocketAddr, SocketAddr, Probes)], admin: SocketAddr, policy: &Path) {
    let mut text = String::from(
        "\nEdgeQuota is running: a control plane, two data planes that share their counters, and an echo backend.\n\n",
    );
    for (index, (proxy, admin, _)) in proxies.iter().enumerate() {
        text.push_str(&format!("  data plane {}    http://{proxy}    (admin http://{admin})\n", index + 1));
    }
    let (first, second) = (proxies[0].0, proxies[proxies.len() - 1].0);
    text.push_str(&format!("  control plane   http://{admin}    (API: http://{admin}/openapi.json)\n"));
    text.push_str(&format!("  policy file     {}\n", policy.display()));
    text.push_str(&format!(
        "\nTry, in another terminal:\n\n\
         1. Use a limit up: five requests a minute for each tenant, counted over both data planes together\n\
         \x20  for i in 1 2 3 4 5 6; do curl -s -o /dev/null -w '%{{http_code}}\\n' -H 'X-Tenant-Id: globex' http://{first}/; done\n\
         \x20  curl -i -H 'X-Tenant-Id: globex' http://{second}/\n\n\
         2. Ask which limits a caller has, and why\n\
         \x20  edgequota explain --control-plane http://{admin} --path /search/shoes --header X-Tenant-Id=globex\n\
         \x20  curl -s 'http://{admin}/v1/limits/effective?path=/&header=X-Tenant-Id:acme'\n\n\
         3. Edit the policy and see the new limit at once\n\
         \x20  sed -i 's/average: 5$/average: 600/; s/burst: 5$/burst: 50/' {policy}\n\
         \x20  sleep 1; curl -i -H 'X-Tenant-Id: globex' http://{first}/\n\n\
         Ctrl-C ends it.",
        policy = policy.display(),
    ));
    say(&text);
}

/// Says what arrived.
async fn echo(request: axum::extract::Request) -> axum::Json<serde_json::Value> {
    let headers: serde_json::Map<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    axum::Json(
        serde_json::json!({ "method": request.method().as_str(), "target": request.uri().to_string(), "headers": headers }),
    )
}
