//! Making one connection, and finding out at once whether counting will work on it.

use std::{sync::Arc, time::Duration};

use edgequota_config::settings::{Redis, RedisMode};
use redis::{PushKind, aio::MultiplexedConnection};
use secrecy::SecretString;
use tokio::time::{sleep, timeout};

use super::{
    LONG,
    dial::{self, DialError, Login, without},
    endpoint::Endpoint,
    failure::Failure,
    primary::Fate,
    probe,
    target::Place,
};

/// A server that is reading its data is asked again so often.
const LOADING_EVERY: Duration = Duration::from_millis(250);

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot read {setting}: {error}")]
    File { setting: &'static str, error: std::io::Error },
    #[error("cannot connect to redis at {endpoint}: {error}")]
    Dial { endpoint: Endpoint, error: DialError },
    #[error("redis at {endpoint} cannot count now: {message}")]
    Probe { endpoint: Endpoint, message: String },
}

/// A connection that counted, and what was learned beside it.
pub(super) struct Made {
    pub(super) handle: MultiplexedConnection,
    pub(super) fate: Arc<Fate>,
    /// A missing ACL rule.
    pub(super) permission: Option<String>,
    /// It cannot write now.
    pub(super) unable: Option<String>,
    /// `maxmemory-policy`, when it could be read.
    pub(super) eviction: Option<String>,
}

/// Reads the password in force: the file when one is set, else the setting.
pub(super) async fn password(settings: &Redis) -> Result<SecretString, ConnectError> {
    read_secret(&settings.password_file, &settings.password, "redis.password_file").await
}

/// The same for the Sentinels.
pub(super) async fn sentinel_password(settings: &Redis) -> Result<SecretString, ConnectError> {
    read_secret(&settings.sentinel_password_file, &settings.sentinel_password, "redis.sentinel_password_file").await
}

async fn read_secret(path: &str, literal: &SecretString, setting: &'static str) -> Result<SecretString, ConnectError> {
    if path.is_empty() {
        return Ok(literal.clone());
    }
    let text = tokio::fs::read_to_string(path).await.map_err(|error| ConnectError::File { setting, error })?;
    // Editors and `echo` end a file with a line feed that is no part of the secret.
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}

/// How one gets into a server that holds data.
pub(super) fn login<'a>(settings: &'a Redis, password: &'a SecretString) -> Login<'a> {
    Login {
        username: &settings.username,
        password,
        db: settings.db,
        tls: &settings.tls,
        dial_timeout: settings.dial_timeout.non_zero(),
        write_timeout: settings.write_timeout.non_zero(),
    }
}

/// Connects, authenticates, names the connection and counts once.
pub(super) async fn connect(
    settings: &Redis,
    place: &Place,
    password: &SecretString,
    node: &str,
) -> Result<Made, ConnectError> {
    let endpoint = &place.endpoint;
    let fate = Arc::new(Fate::default());
    let ends = Arc::clone(&fate);
    let pushed = move |info: redis::PushInfo| {
        if info.kind == PushKind::Disconnection {
            ends.condemn();
        }
    };
    let dialled = dial::dial(endpoint, &login(settings, password), pushed).await;
    let mut handle = dialled.map_err(|error| ConnectError::Dial { endpoint: endpoint.clone(), error })?.handle;
    let failed = |message| ConnectError::Probe { endpoint: endpoint.clone(), message };
    let setup = async {
        probe::name_connection(&mut handle, node).await;
        if matches!(settings.mode, RedisMode::Replication | RedisMode::Sentinel) {
            probe::is_primary(&mut handle).await?;
        }
        let (permission, unable) = loop {
            match probe::probe(&mut handle, place.slot).await {
                // It will be there soon: no failed connect, no backoff.
                Err(Failure::NotReady(_)) => sleep(LOADING_EVERY).await,
                // The calls will say so, and say when it is over.
                Err(Failure::Unable(message)) => break (None, Some(message)),
                probed => break (probed?, None),
            }
        };
        let eviction = probe::eviction_policy(&mut handle).await;
        Ok::<_, Failure>((permission, unable, eviction))
    };
    match timeout(settings.dial_timeout.non_zero().unwrap_or(LONG), setup).await {
        Ok(Ok((permission, unable, eviction))) => Ok(Made { handle, fate, permission, unable, eviction }),
        Ok(Err(failure)) => Err(failed(without(&crate::store::StoreError::from(failure).to_string(), password))),
        Err(_) => Err(failed("no answer within redis.dial_timeout".to_owned())),
    }
}
