//! Opening a connection: TCP or TLS, login, RESP3 or what the server speaks.

use std::{net::SocketAddr, time::Duration};

use edgequota_config::settings::PeerTls;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates,
    aio::{MultiplexedConnection, SendError},
    io::{AsyncDNSResolver, tcp::TcpSettings, tcp::socket2::TcpKeepalive},
};
use secrecy::{ExposeSecret, SecretString};

use super::{MAX_IN_FLIGHT, endpoint::Endpoint};

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("cannot read {setting}: {error}")]
    File { setting: &'static str, error: std::io::Error },
    #[error("{0}")]
    Connect(String),
}

/// How to get in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login<'a> {
    pub(super) username: &'a str,
    pub(super) password: &'a SecretString,
    pub(super) db: i64,
    pub(super) tls: &'a PeerTls,
    pub(super) dial_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
}

/// Connects and logs in. `pushed` is told what the server says unasked, and that the connection is gone; not by a server
/// that speaks the old protocol only.
pub(super) async fn dial(
    endpoint: &Endpoint,
    login: &Login<'_>,
    pushed: impl Fn(PushInfo) + Clone + Send + Sync + 'static,
) -> Result<Dialled, DialError> {
    let failed = |error: RedisError| DialError::Connect(without(&error.to_string(), login.password));
    match open(endpoint, login, ProtocolVersion::RESP3, pushed.clone()).await? {
        Ok(handle) => Ok(Dialled { handle, pushes: true }),
        // `HELLO` refused or unknown is not the end: speak the old protocol.
        Err(error) if is_hello_refused(&error) => {
            let handle = open(endpoint, login, ProtocolVersion::RESP2, pushed).await?.map_err(failed)?;
            Ok(Dialled { handle, pushes: false })
        }
        Err(error) => Err(failed(error)),
    }
}

/// An open connection.
pub(super) struct Dialled {
    pub(super) handle: MultiplexedConnection,
    /// The server may say something unasked.
    pub(super) pushes: bool,
}

async fn open(
    endpoint: &Endpoint,
    login: &Login<'_>,
    protocol: ProtocolVersion,
    pushed: impl Fn(PushInfo) + Send + Sync + 'static,
) -> Result<Result<MultiplexedConnection, RedisError>, DialError> {
    let (host, port) = (&*endpoint.host, endpoint.port);
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(login.dial_timeout)
        // Each call has its own deadline; a timer of the client's beside it would only cost.
        .set_response_timeout(None)
        // Room for every call that may be in flight, so that sending never waits.
        .set_pipeline_buffer_size(usize::try_from(MAX_IN_FLIGHT).unwrap_or(usize::MAX) + 64);
    if protocol == ProtocolVersion::RESP3 {
        // Learns of a closed socket while no call is in flight.
        config = config.set_push_sender(move |info: PushInfo| {
            pushed(info);
            Ok::<(), SendError>(())
        });
    }
    let client = if login.tls.enabled {
        let certificates = certificates(login.tls).await?;
        let name = if login.tls.server_name.is_empty() { host } else { login.tls.server_name.as_str() };
        // The client checks the certificate against the name it was told to connect to, so that is the name to be
        // checked, and the address is found for the real host.
        config = config.set_dns_resolver(Resolve { host: host.to_owned() });
        let address = ConnectionAddr::TcpTls {
            host: name.to_owned(),
            port,
            insecure: login.tls.insecure_skip_verify,
            tls_params: None,
        };
        information(login, address, protocol).and_then(|info| Client::build_with_tls(info, certificates))
    } else {
        information(login, ConnectionAddr::Tcp(host.to_owned(), port), protocol).and_then(Client::open)
    };
    let client = match client {
        Ok(client) => client,
        Err(error) => return Ok(Err(error)),
    };
    Ok(client.get_multiplexed_async_connection_with_config(&config).await)
}

fn information(
    login: &Login<'_>,
    address: ConnectionAddr,
    protocol: ProtocolVersion,
) -> Result<ConnectionInfo, RedisError> {
    let mut info = RedisConnectionInfo::default().set_protocol(protocol).set_db(login.db).set_skip_set_lib_name();
    if !login.username.is_empty() {
        info = info.set_username(login.username);
    }
    if !login.password.expose_secret().is_empty() {
        info = info.set_password(login.password.expose_secret());
    }
    let mut tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5)));
    if let Some(patience) = login.write_timeout {
        tcp = tcp.set_user_timeout(patience);
    }
    Ok(address.into_connection_info()?.set_redis_settings(info).set_tcp_settings(tcp))
}

async fn certificates(tls: &PeerTls) -> Result<TlsCertificates, DialError> {
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

async fn read(path: &str, setting: &'static str) -> Result<Vec<u8>, DialError> {
    tokio::fs::read(path).await.map_err(|error| DialError::File { setting, error })
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

fn is_hello_refused(error: &RedisError) -> bool {
    let refused = matches!(error.kind(), ErrorKind::RESP3NotSupported | ErrorKind::Server(ServerErrorKind::NoPerm));
    refused || error.detail().is_some_and(|detail| detail.starts_with("unknown command"))
}

/// A server that does not know a command repeats its arguments, the password among them.
pub(super) fn without(message: &str, password: &SecretString) -> String {
    match password.expose_secret() {
        "" => message.to_owned(),
        secret => message.replace(secret, "[REDACTED]"),
    }
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn a_password_that_the_server_repeats_is_not_shown() {
        let said = "unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `s3cret`";
        assert!(!without(said, &"s3cret".into()).contains("s3cret"));
        assert_eq!(without(said, &"".into()), said);
    }
}
