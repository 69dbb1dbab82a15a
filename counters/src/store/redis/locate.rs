//! Where the one primary is, in all topologies but a cluster.

mod replication;
mod sentinel;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use edgequota_config::settings::{Redis, RedisMode};
use redis::{Cmd, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

use super::{
    LONG,
    common::{Common, Obstacle},
    connect,
    dial::dial,
    endpoint::Endpoint,
    failure::Failure,
    primary::Primary,
    role::Role,
    target::{Target, publish},
};

/// A place is believed for so long; then it is looked at again.
pub(super) const BELIEVED: Duration = Duration::from_secs(30);
/// However many doubts there are, nobody looks more often.
pub(super) const LOOKED: Duration = Duration::from_millis(250);

/// Follows the primary, as the settings say now. Never ready.
pub(super) async fn locate(common: &Common, primary: &Primary, target: &watch::Sender<Target>, doubts: &Notify) {
    let settings = common.settings().borrow().clone();
    let scout = Scout { common, primary, settings: &settings };
    match settings.mode {
        RedisMode::Replication => replication::follow(&scout, target, doubts).await,
        RedisMode::Sentinel => sentinel::follow(&scout, target, doubts).await,
        RedisMode::Single | RedisMode::Cluster | RedisMode::Embedded => {
            let endpoint = settings.endpoints.first().and_then(|text| Endpoint::parse(text));
            if endpoint.is_none() {
                tracing::error!("redis.endpoints: the first one is not host:port");
            }
            publish(target, endpoint.map_or(Target::Nowhere, Target::at));
        }
    }
    std::future::pending().await
}

/// Asks servers what they are.
struct Scout<'a> {
    common: &'a Common,
    primary: &'a Primary,
    settings: &'a Redis,
}

impl Scout<'_> {
    /// `None`: no answer, or none that says; of a missing rule, `refused` keeps what the server said.
    async fn role(&self, endpoint: &Endpoint, refused: &Mutex<Option<String>>) -> Option<Role> {
        let end = Instant::now() + patience(self.settings);
        let mut role = Cmd::new();
        role.arg("ROLE");
        let answer = match self.primary.ask_at(endpoint, &role, end).await {
            Some(answer) => answer,
            None => ask_once(self.common, self.settings, endpoint, &role, end).await?,
        };
        match answer {
            Ok(value) => Role::of(&value),
            Err(failure) => {
                if let Failure::NoPermission(message) = &failure {
                    *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.clone());
                }
                tracing::debug!(%endpoint, ?failure, "a server does not tell its role");
                None
            }
        }
    }

    /// What a look has come to. A rule that is missing somewhere is no obstacle when the primary was found all the same.
    fn looked(&self, found: bool, refused: &Mutex<Option<String>>) {
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        let obstacle = refused.filter(|_| !found).map(|message| format!("+role is missing ({message})"));
        self.common.obstacle_is(Obstacle::Role, obstacle.as_deref());
        if found && !self.primary.is_connected() {
            self.primary.try_now();
        }
    }
}

/// One question to a server on a connection for it alone, within the budget: a server to which there are as many connections
/// as there may be is known already. `None`: no answer until then.
pub(super) async fn ask_once(
    common: &Common,
    settings: &Redis,
    endpoint: &Endpoint,
    question: &Cmd,
    end: Instant,
) -> Option<Result<Value, Failure>> {
    let _permit = common.budget.one_now(endpoint)?;
    let ask = async {
        let password = connect::password(settings).await.map_err(|error| error.to_string())?;
        let login = connect::login(settings, &password);
        let mut dialled = dial(endpoint, &login, |_| {}).await.map_err(|error| error.to_string())?;
        Ok(dialled.handle.send_packed_command(question).await.and_then(Value::extract_error))
    };
    match timeout_at(end, ask).await.ok()? {
        Ok(answer) => Some(answer.map_err(|error| Failure::of(&error, &endpoint.host))),
        Err(error) => {
            let error: String = error;
            tracing::debug!(%endpoint, error, "a server cannot be asked");
            None
        }
    }
}

/// How long a server that may be away is waited for.
pub(super) fn patience(settings: &Redis) -> Duration {
    settings.dial_timeout.non_zero().unwrap_or(LONG).min(LONG)
}

/// About so long, so that a fleet does not ask in step.
pub(super) fn again_in(time: Duration) -> Duration {
    time.mul_f64(0.75 + fastrand::f64() / 4.0)
}
