//! Connects to the control plane: TCP, TLS when asked for, and the token.

use std::{io::Read as _, path::PathBuf, sync::Arc};

use edgequota_config::settings::ControlPlane;
use edgequota_ops::tls::{ClientTls, TlsError};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

/// Why settings cannot work.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Not `https://host:port`.
    #[error("invalid control_plane.address \"{0}\": write it as https://host:port or http://host:port")]
    Address(String),
    /// TLS material.
    #[error("control_plane.tls: {0}")]
    Tls(#[from] TlsError),
}

/// A token that cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("cannot read control_plane.token_file: {0}")]
    File(#[from] std::io::Error),
    #[error("control_plane.token cannot be sent in a header: it must be visible ASCII")]
    Text,
}

pub(super) struct Connector {
    host: Arc<str>,
    port: u16,
    endpoint: Endpoint,
    tls: Option<(ClientTls, ServerName<'static>)>,
    token: Token,
}

enum Token {
    None,
    Literal(SecretString),
    /// Read for each connection, so that a rotated secret counts with the next one.
    File(PathBuf),
}

impl Connector {
    pub(super) fn new(settings: &ControlPlane) -> Result<Connector, FollowError> {
        let bad = || FollowError::Address(settings.address.clone());
        let text = match settings.address.split_once("://") {
            Some(_) => settings.address.clone(),
            None => format!("http://{}", settings.address),
        };
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let secure = match uri.scheme_str() {
            Some("http") => settings.tls.enabled,
            Some("https") => true,
            _ => return Err(bad()),
        };
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(bad)?;
        let port = uri.port_u16().unwrap_or(9091);
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = if secure {
            let name =
                if settings.tls.server_name.is_empty() { bare.clone() } else { settings.tls.server_name.clone() };
            let name = ServerName::try_from(name).map_err(|_| bad())?;
            let mut material = settings.tls.clone();
            material.enabled = true;
            Some((ClientTls::load(&material, &[b"h2"])?, name))
        } else {
            None
        };
        let token = if !settings.token_file.is_empty() {
            Token::File(settings.token_file.clone().into())
        } else if settings.token.expose_secret().is_empty() {
            Token::None
        } else {
            Token::Literal(settings.token.clone())
        };
        // The scheme is plain: encryption is the connector's, which reloads its certificates.
        let endpoint = Endpoint::from_shared(format!("http://{host}:{port}")).map_err(|_| bad())?;
        Ok(Connector { host: bare.into(), port, endpoint, tls, token })
    }

    /// Whether what is said on this connection is encrypted.
    pub(super) fn encrypted(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let (host, port, tls) = (Arc::clone(&self.host), self.port, self.tls.clone());
        let connector = tower::service_fn(move |_: Uri| {
            let (host, tls) = (Arc::clone(&host), tls.clone());
            async move {
                let tcp = TcpStream::connect((&*host, port)).await?;
                tcp.set_nodelay(true)?;
                Ok::<_, std::io::Error>(TokioIo::new(match tls {
                    None => Io::Plain(tcp),
                    Some((tls, name)) => Io::Tls(Box::new(TlsConnector::from(tls.current()).connect(name, tcp).await?)),
                }))
            }
        });
        self.endpoint.connect_with_connector(connector).await
    }

    /// The `authorization` value; `None` when no token is set.
    pub(super) fn token(&self) -> Result<Option<MetadataValue<Ascii>>, TokenError> {
        let token = match &self.token {
            Token::None => return Ok(None),
            Token::Literal(token) => token.clone(),
            Token::File(path) => {
                let mut text = String::new();
                std::fs::File::open(path)?.take(4096).read_to_string(&mut text)?;
                SecretString::from(text.trim())
            }
        };
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.expose_secret()).parse().map_err(|_| TokenError::Text)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

use io::Io;

mod io {
    //! Plain or encrypted, as one type.

    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::{
        io::{AsyncRead, AsyncWrite, ReadBuf},
        net::TcpStream,
    };
    use tokio_rustls::client::TlsStream;

    pub(super) enum Io {
        Plain(TcpStream),
        Tls(Box<TlsStream<TcpStream>>),
    }

    impl AsyncRead for Io {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            match &mut *self {
                Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
                Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
            }
        }
    }

    impl AsyncWrite for Io {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            match &mut *self {
                Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
                Io::Tls(io) => Pin::new(io).poll_write(cx, buf),
            }
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            match &mut *self {
                Io::Plain(io) => Pin::new(io).poll_flush(cx),
                Io::Tls(io) => Pin::new(io).poll_flush(cx),
            }
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            match &mut *self {
                Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
                Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
            }
        }
    }
}
