//! Edits of the settings: what is hot comes into force, what is not is named.

use std::sync::{Arc, Mutex, PoisonError};

use edgequota_config::{
    Problems, Role, Settings,
    load::{self, Environment, Loaded},
    problems::{SHOWN, warn_each},
    settings::{Logging, Redis},
    watch::{Content, Watch},
};
use edgequota_ops::metrics::Gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::Running;

/// Puts edits of the settings in force.
pub(super) struct Reload {
    /// What the listeners and everything else that cannot change were made from.
    pub(super) at_start: Arc<Settings>,
    pub(super) running: Arc<Running>,
    pub(super) in_force: Arc<Mutex<Arc<Settings>>>,
    pub(super) success: Gauge,
    pub(super) redis: watch::Sender<Arc<Redis>>,
    pub(super) on_logging: Arc<dyn Fn(&Logging) + Send + Sync>,
}

impl Reload {
    pub(super) fn apply(&self, settings: Settings) {
        for setting in self.at_start.needs_restart(&settings) {
            tracing::warn!(
                setting,
                "this setting differs from the one at start and needs a restart; the others are in force"
            );
        }
        self.running.apply(&settings);
        (self.on_logging)(&settings.logging);
        self.redis.send_if_modified(|redis| {
            let changed = !redis.same_as(&settings.redis);
            if changed {
                *redis = Arc::new(settings.redis.clone());
            }
            changed
        });
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        tracing::debug!("settings in force");
    }

    /// Follows the config file of a data plane whose policy comes from elsewhere. `first` is what the watch saw when it
    /// began, which may be newer than what the process was started with.
    pub(super) async fn run(
        self,
        name: String,
        first: Content,
        mut watch: Watch,
        environment: Environment,
        stop: CancellationToken,
    ) {
        let mut content = first;
        let mut at_start = true;
        loop {
            // Without a file, what the process was started with is all there is.
            let read = match at_start && content.files.is_empty() {
                true => None,
                false => Some(read(&name, content, &environment, at_start).await),
            };
            match read {
                None => self.success.set(1.0),
                Some(Ok(Loaded { settings, warnings, .. })) => {
                    // At start they were logged already.
                    if !at_start {
                        warn_each(&warnings);
                    }
                    self.success.set(1.0);
                    self.apply(settings);
                }
                Some(Err(problems)) => {
                    self.success.set(0.0);
                    for problem in problems.0.iter().take(SHOWN) {
                        tracing::error!(place = %problem.place, path = problem.path, problem = problem.message, "settings refused; what was in force stays");
                    }
                }
            }
            at_start = false;
            content = tokio::select! {
                content = watch.changed() => content,
                () = stop.cancelled() => return,
            };
        }
    }
}

/// Off the control threads: a file may be large.
async fn read(name: &str, content: Content, environment: &Environment, at_start: bool) -> Result<Loaded, Problems> {
    let (own_name, environment) = (name.to_owned(), environment.clone());
    let reading = move || load::from_content(&own_name, content, &environment, Role::DataPlane, at_start);
    tokio::task::spawn_blocking(reading).await.unwrap_or_else(|error| Err(Problems::whole(name, error.to_string())))
}
