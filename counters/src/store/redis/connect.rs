//! Making one connection, and finding out at once whether counting will work on it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use edgequota_config::settings::{Redis, RedisMode};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates,
    aio::{MultiplexedConnection, SendError},
    io::{AsyncDNSResolver, tcp::TcpSettings, tcp::socket2::TcpKeepalive},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::{LONG, MAX_IN_FLIGHT, connection::Fate, failure::Failure, probe};

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("redis.endpoints: {0:?} is not host:port")]
    Endpoint(String),
    #[error("redis.mode: a change to or from single needs a restart")]
    Mode,
    #[error("cannot read {setting}: {error}")]
    File { setting: &'static str, error: std::io::Error },
    #[error("cannot connect to redis at {endpoint}: {message}")]
    Connect { endpoint: String, message: String },
    #[error("redis at {endpoint} cannot count now: {message}")]
    Probe { endpoint: String, message: String },
}

/// A connection that counted, and what was learned beside it.
pub(super) struct Made {
    pub(super) handle: MultiplexedConnection,
    pub(super) fate: Arc<Fate>,
    pub(super) endpoint: String,
    /// A missing ACL rule.
    pub(super) permission: Option<String>,
    /// `maxmemory-policy`, when it could be read.
    pub(super) eviction: Option<String>,
}

/// Reads the password in force: the file when one is set, else the setting.
pub(super) async fn password(settings: &Redis) -> Result<SecretString, ConnectError> {
    if settings.password_file.is_empty() {
        return Ok(settings.password.clone());
    }
    let text = tokio::fs::read_to_string(&settings.password_file)
        .await
        .map_err(|error| ConnectError::File { setting: "redis.password_file", error })?;
    // Editors and `echo` end a file with a line feed that is no part of the secret.
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}

/// Connects, authenticates, names the connection and counts once.
pub(super) async fn connect(settings: &Redis, password: &SecretString, node: &str) -> Result<Made, ConnectError> {
    if settings.mode != RedisMode::Single {
        return Err(ConnectError::Mode);
    }
    let endpoint = settings.endpoints.first().map(String::as_str).unwrap_or_default();
    // What stands before an `@` may be a secret; it belongs elsewhere and is shown nowhere.
    let endpoint = endpoint.rsplit('@').next().unwrap_or_default().to_owned();
    let failed = |error: RedisError| ConnectError::Connect {
        endpoint: endpoint.clone(),
        message: without(&error.to_string(), password),
    };
    let fate = Arc::new(Fate::default());
    let mut handle = match open(settings, &endpoint, password, ProtocolVersion::RESP3, &fate).await? {
        Ok(handle) => handle,
        // `HELLO` refused or unknown is not the end: speak the old protocol.
        Err(error) if is_hello_refused(&error) => {
            open(settings, &endpoint, password, ProtocolVersion::RESP2, &fate).await?.map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    let patience = settings.dial_timeout.non_zero().unwrap_or(LONG);
    let setup = async {
        probe::name_connection(&mut handle, node).await;
        let permission = probe::probe(&mut handle).await?;
        let eviction = probe::eviction_policy(&mut handle).await;
        Ok::<_, Failure>((permission, eviction))
    };
    match timeout(patience, setup).await {
        Ok(Ok((permission, eviction))) => Ok(Made { handle, fate, endpoint, permission, eviction }),
        Ok(Err(failure)) => {
            let message = without(&crate::store::StoreError::from(failure).to_string(), password);
            Err(ConnectError::Probe { endpoint, message })
        }
        Err(_) => Err(ConnectError::Probe { endpoint, message: "no answer within redis.dial_timeout".to_owned() }),
    }
}

async fn open(
    settings: &Redis,
    endpoint: &str,
    password: &SecretString,
    protocol: ProtocolVersion,
    fate: &Arc<Fate>,
) -> Result<Result<MultiplexedConnection, RedisError>, ConnectError> {
    let (host, port) = split_endpoint(endpoint).ok_or_else(|| ConnectError::Endpoint(endpoint.to_owned()))?;
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(settings.dial_timeout.non_zero())
        // Each call has its own deadline; a timer of the client's beside it would only cost.
        .set_response_timeout(None)
        // Room for every call that may be in flight, so that sending never waits.
        .set_pipeline_buffer_size(usize::try_from(MAX_IN_FLIGHT).unwrap_or(usize::MAX) + 64);
    if protocol == ProtocolVersion::RESP3 {
        let fate = Arc::clone(fate);
        // Learns of a closed socket while no call is in flight.
        config = config.set_push_sender(move |info: PushInfo| {
            if info.kind == PushKind::Disconnection {
                fate.condemn();
            }
            Ok::<(), SendError>(())
        });
    }
    let client = if settings.tls.enabled {
        let certificates = certificates(settings).await?;
        let name = if settings.tls.server_name.is_empty() { host } else { settings.tls.server_name.as_str() };
        // The client checks the certificate against the name it was told to connect to, so that is the name to be
        // checked, and the address is found for the real host.
        config = config.set_dns_resolver(Resolve { host: host.to_owned() });
        let address = ConnectionAddr::TcpTls {
            host: name.to_owned(),
            port,
            insecure: settings.tls.insecure_skip_verify,
            tls_params: None,
        };
        information(settings, address, password, protocol).and_then(|info| Client::build_with_tls(info, certificates))
    } else {
        information(settings, ConnectionAddr::Tcp(host.to_owned(), port), password, protocol).and_then(Client::open)
    };
    let client = match client {
        Ok(client) => client,
        Err(error) => return Ok(Err(error)),
    };
    Ok(client.get_multiplexed_async_connection_with_config(&config).await)
}

fn information(
    settings: &Redis,
    address: ConnectionAddr,
    password: &SecretString,
    protocol: ProtocolVersion,
) -> Result<ConnectionInfo, RedisError> {
    let mut login = RedisConnectionInfo::default().set_protocol(protocol).set_db(settings.db).set_skip_set_lib_name();
    if !settings.username.is_empty() {
        login = login.set_username(&settings.username);
    }
    if !password.expose_secret().is_empty() {
        login = login.set_password(password.expose_secret());
    }
    let mut tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5)));
    if let Some(patience) = settings.write_timeout.non_zero() {
        tcp = tcp.set_user_timeout(patience);
    }
    Ok(address.into_connection_info()?.set_redis_settings(login).set_tcp_settings(tcp))
}

async fn certificates(settings: &Redis) -> Result<TlsCertificates, ConnectError> {
    let tls = &settings.tls;
    let root_cert = match tls.ca_file.as_str() {
        "" => None,
        path => Some(read(path, "redis.tls.ca_file").await?),
    };
    let client_tls = if tls.cert_file.is_empty() {
        None
    } else {
        Some(ClientTlsConfig {
            client_cert: read(&tls.cert_file, "redis.tls.cert_file").await?,
            client_key: read(&tls.key_file, "redis.tls.key_file").await?,
        })
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

async fn read(path: &str, setting: &'static str) -> Result<Vec<u8>, ConnectError> {
    tokio::fs::read(path).await.map_err(|error| ConnectError::File { setting, error })
}

/// Finds the addresses of one host, whatever name is asked for.
struct Resolve {
    host: String,
}

impl AsyncDNSResolver for Resolve {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _name: &'b str,
        port: u16,
    ) -> redis::RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((self.host.as_str(), port)).await?.collect();
            if found.is_empty() {
                return Err(RedisError::from((ErrorKind::InvalidClientConfig, "no address found for the host")));
            }
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}

/// `host:port`, `[v6]:port`, or a host with the usual port; a `redis://` before it is allowed.
fn split_endpoint(endpoint: &str) -> Option<(&str, u16)> {
    let rest = endpoint.strip_prefix("redis://").or_else(|| endpoint.strip_prefix("rediss://")).unwrap_or(endpoint);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()?),
        _ => (rest, 6379),
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port))
}

fn is_hello_refused(error: &RedisError) -> bool {
    let refused = matches!(error.kind(), ErrorKind::RESP3NotSupported | ErrorKind::Server(ServerErrorKind::NoPerm));
    refused || error.detail().is_some_and(|detail| detail.starts_with("unknown command"))
}

/// A server that does not know a command repeats its arguments, the password among them.
fn without(message: &str, password: &SecretString) -> String {
    match password.expose_secret() {
        "" => message.to_owned(),
        secret => message.replace(secret, "[REDACTED]"),
    }
}

#[cfg(test)]
mod tests {
    use super::{split_endpoint, without};

    #[test]
    fn endpoints() {
        for (text, wanted) in [
            ("localhost:6380", Some(("localhost", 6380))),
            ("redis://r:1", Some(("r", 1))),
            ("rediss://r:1/", Some(("r", 1))),
            ("r", Some(("r", 6379))),
            ("[::1]:7", Some(("::1", 7))),
            ("[::1]", Some(("::1", 6379))),
            ("::1", Some(("::1", 6379))),
            ("r:no", None),
            ("", None),
        ] {
            assert_eq!(split_endpoint(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_password_that_the_server_repeats_is_not_shown() {
        let said = "unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `s3cret`";
        assert!(!without(said, &"s3cret".into()).contains("s3cret"));
        assert_eq!(without(said, &"".into()), said);
    }
}
