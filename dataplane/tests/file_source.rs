//! The standalone source: the process's own config file, watched.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{path::PathBuf, sync::Arc, time::Duration};

use edgequota_config::load::Environment;
use edgequota_dataplane::{
    follow::file::{FileSource, Pace},
    policy_slot::{PolicySlot, Source},
};
use edgequota_ops::{metrics::Metrics, probes::Probes};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

fn config(average: i64, level: &str) -> String {
    format!(
        "backend: {{ url: \"http://backend:8080\" }}\nrate_limit: {{ average: {average} }}\nredis: {{ mode: embedded \
         }}\nlogging: {{ level: {level} }}\n"
    )
}

struct Rig {
    dir: TempDir,
    slot: Arc<PolicySlot>,
    metrics: Metrics,
    probes: Probes,
    stop: CancellationToken,
}

impl Rig {
    fn new(text: Option<&str>) -> Rig {
        let rig = Rig {
            dir: tempfile::tempdir().unwrap(),
            slot: Arc::default(),
            metrics: Metrics::new(1),
            probes: Probes::new(),
            stop: CancellationToken::new(),
        };
        if let Some(text) = text {
            rig.write(text);
        }
        rig
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    fn write(&self, text: &str) {
        let temporary = self.dir.path().join("writing");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.path()).unwrap();
    }

    async fn source(&self, environment: Environment) -> FileSource {
        let pace = Pace {
            quiet: Duration::from_millis(20),
            most: Duration::from_millis(200),
            poll: Duration::from_millis(500),
        };
        FileSource::start(
            self.path(),
            environment,
            pace,
            Arc::clone(&self.slot),
            &self.metrics,
            &self.probes,
            self.stop.clone(),
        )
        .await
    }

    fn generation(&self) -> u64 {
        self.slot.version().unwrap().generation
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.render(false);
        text.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The only place that sleeps: until something is so, or 10 s.
async fn eventually(what: &str, mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !probe() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_edit_is_in_force_and_a_bad_one_is_not() {
    let rig = Rig::new(Some(&config(10, "info")));
    let mut source = rig.source(Environment::new()).await;
    let settings = source.load_first().await.unwrap();
    assert_eq!(settings.logging.level, edgequota_config::settings::LogLevel::Info);
    let first = rig.generation();
    assert_eq!(rig.slot.load().unwrap().source, Source::OwnFile);
    rig.probes.started();
    assert!(rig.probes.ready());

    let (told, mut settings) = mpsc::channel(16);
    let running = tokio::spawn(source.run(move |settings| drop(told.try_send(settings))));
    rig.write(&config(20, "debug"));
    let newer = settings.recv().await.unwrap();
    assert_eq!(newer.logging.level, edgequota_config::settings::LogLevel::Debug);
    assert!(rig.generation() > first);
    let second = rig.generation();

    // Only settings change: they are told, and no new version is made.
    rig.write(&config(20, "warn"));
    settings.recv().await.unwrap();
    assert_eq!(rig.generation(), second);

    rig.write("rate_limit: { average: -1, bursst: 2 }\n");
    eventually("it is refused", || rig.metric("edgequota_config_reload_success ") == Some(0.0)).await;
    assert_eq!(rig.metric("edgequota_policy_rejected_total "), Some(1.0));
    assert_eq!(rig.generation(), second);
    assert!(rig.probes.ready());
    assert!(format!("{:?}", rig.probes.readyz()).contains("the config file is refused"));

    // A file that is gone is no policy without limits.
    std::fs::remove_file(rig.path()).unwrap();
    eventually("it is missed", || rig.metric("edgequota_policy_rejected_total ") == Some(2.0)).await;
    assert_eq!(rig.generation(), second);
    rig.write(&config(30, "info"));
    settings.recv().await.unwrap();
    assert!(rig.generation() > second);
    assert_eq!(rig.metric("edgequota_config_reload_success "), Some(1.0));
    assert!(!format!("{:?}", rig.probes.readyz()).contains("refused"));
    rig.stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_an_error_with_places() {
    let rig = Rig::new(Some("backend: { url: \"http://b:1\" }\nrate_limit: { averag: 3 }\n"));
    let problems = rig.source(Environment::new()).await.load_first().await.unwrap_err().to_string();
    assert!(problems.contains("config.yaml:2:") && problems.contains("averag"), "{problems}");
    assert_eq!(rig.slot.serial(), 0);
}

#[tokio::test]
async fn a_feature_that_is_not_built_yet_names_itself() {
    let rig = Rig::new(Some(&format!(
        "{}auth: {{ enabled: true, http: {{ url: \"http://auth:1\" }} }}\n",
        config(10, "info")
    )));
    let problems = rig.source(Environment::new()).await.load_first().await.unwrap_err().to_string();
    assert!(problems.contains("auth"), "{problems}");
}

#[tokio::test]
async fn without_a_file_the_environment_alone_will_do() {
    let rig = Rig::new(None);
    let environment = Environment::from([
        ("EDGEQUOTA_BACKEND_URL".to_owned(), "http://backend:8080".to_owned()),
        ("EDGEQUOTA_RATE_LIMIT_AVERAGE".to_owned(), "7".to_owned()),
    ]);
    rig.source(environment).await.load_first().await.unwrap();
    assert_eq!(rig.slot.load().unwrap().policy.limits()[0].numbers.average, 7);
}
