//! Edits of the process's own settings: what can change without a restart is put in force, the rest is named.

use std::{path::PathBuf, sync::Arc};

use edgequota_config::{
    Document, Problems, Role, Settings,
    load::{self, Environment},
    settings::{Logging, Redis},
    watch::{Content, Pace, Poke, Target, Watch},
};
use edgequota_ops::probes::Probes;
use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Follows the file of the settings. What cannot be read changes nothing.
pub struct Reload {
    /// The file.
    pub config_path: PathBuf,
    /// Laid over it.
    pub environment: Environment,
    /// As they were written at start: what needs a restart is compared with these.
    pub at_start: Settings,
    /// Settings in force.
    pub settings: watch::Sender<Arc<Settings>>,
    /// `redis` in force.
    pub redis: watch::Sender<Arc<Redis>>,
    /// Puts `logging` in force.
    pub on_logging: Box<dyn Fn(&Logging) + Send>,
    /// A problem shows in the detail of `/readyz`.
    pub probes: Probes,
}

impl Reload {
    /// Begins to watch. The future follows until `stop`; the handle makes it read at once (SIGHUP).
    pub async fn start(self, pace: Pace, stop: CancellationToken) -> (impl Future<Output = ()> + Send, Poke) {
        let target = Target::File(self.config_path.clone());
        let (first, mut watch) = Watch::start(vec![target], pace, stop.clone()).await;
        let poke = watch.poke();
        let following = async move {
            // An edit between the start of the process and that of the watch counts too.
            if !first.files.is_empty() {
                self.changed(first);
            }
            loop {
                tokio::select! {
                    content = watch.changed() => self.changed(content),
                    () = stop.cancelled() => return,
                }
            }
        };
        (following, poke)
    }

    fn changed(&self, content: Content) {
        let name = self.config_path.display().to_string();
        let loaded = match content.files.into_iter().next() {
            None => Err(Problems::whole(&name, "the file is gone")),
            Some((_, Err(reason))) => Err(Problems::whole(&name, reason)),
            Some((_, Ok(text))) => Document::parse(&name, &text)
                .and_then(|document| load::from_document(&document, &self.environment, Role::ControlPlane)),
        };
        match loaded {
            Ok(loaded) => self.apply(loaded.settings),
            Err(problems) => {
                for problem in problems.0.iter().take(20) {
                    error!(%problem, "settings refused; what was in force stays");
                }
                let first = problems.0.first().map(ToString::to_string).unwrap_or_default();
                self.probes.note("settings", Some(format!("the settings are refused: {first}")));
            }
        }
    }

    fn apply(&self, mut settings: Settings) {
        self.probes.note("settings", None);
        for setting in self.at_start.needs_restart(&settings) {
            warn!(setting, "this change needs a restart; the rest of the edit is in force");
        }
        (self.on_logging)(&settings.logging);
        let node = self.settings.borrow().control_plane.node_id.clone();
        settings.control_plane.node_id = node;
        self.redis.send_if_modified(|redis| {
            let changed = !same(redis, &settings.redis);
            if changed {
                *redis = Arc::new(settings.redis.clone());
            }
            changed
        });
        self.settings.send_replace(Arc::new(settings));
        info!("settings in force");
    }
}

/// Equality that looks at the secrets too and shows none.
fn same(a: &Redis, b: &Redis) -> bool {
    let secrets = |r: &Redis| [r.password.expose_secret().to_owned(), r.sentinel_password.expose_secret().to_owned()];
    secrets(a) == secrets(b) && format!("{a:?}") == format!("{b:?}")
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").field("config_path", &self.config_path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_edit_reaches_both_receivers_and_a_broken_one_changes_nothing() {
        let written = |text: &str| Document::parse("s", text).unwrap().settings(&Environment::new()).unwrap();
        let at_start = written("redis: { endpoints: [\"a:1\"] }");
        let (settings, seen) = watch::channel(Arc::new(at_start.clone()));
        let (redis, mut counted) = watch::channel(Arc::new(at_start.redis.clone()));
        let probes = Probes::new();
        let on_logging = Box::new(|_: &Logging| ());
        let (config_path, environment) = (PathBuf::from("s"), Environment::new());
        let reload = Reload { config_path, environment, at_start, settings, redis, on_logging, probes: probes.clone() };
        let edit = |text: Result<&str, &str>| {
            let text = text.map(str::to_owned).map_err(str::to_owned);
            reload.changed(Content { files: vec![(PathBuf::from("s"), text)] });
        };
        edit(Ok("redis: { endpoints: [\"b:1\"] }"));
        assert!(counted.has_changed().unwrap());
        assert_eq!(counted.borrow_and_update().endpoints, ["b:1"]);
        assert_eq!(seen.borrow().redis.endpoints, ["b:1"]);
        for broken in [Ok("redis: ["), Err("no permission")] {
            edit(broken);
            assert_eq!(seen.borrow().redis.endpoints, ["b:1"]);
            assert!(probes.readyz().body.to_string().contains("the settings are refused"));
        }
        edit(Ok("redis: { endpoints: [\"b:1\"] }\nlogging: { level: debug }"));
        assert!(!counted.has_changed().unwrap(), "what did not change makes no new connection");
        assert!(!probes.readyz().body.to_string().contains("refused"));
    }
}
