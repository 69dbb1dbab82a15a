//! TLS material from files, reloaded when they change (content, not time), the old one kept when the new is bad.
//!
//! TLS 1.2 and 1.3, cipher suites of aws-lc-rs. Errors name the file and the reason, never what is in it.

mod material;
mod verify;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use edgequota_config::settings::PeerTls;
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::CryptoProvider, server::WebPkiClientVerifier};

use crate::reload::{self, Reload};
use material::{Files, Material};

/// Why material cannot be used; names the file, never its content.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub String);

/// Installs aws-lc-rs as the process's provider; call first in main. Idempotent.
pub fn install_provider() {
    // an error means that one is installed already, and there is only one kind in this binary
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The provider for our own configurations, whatever is installed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Server side: certificate and key; with `ca_file` clients must show a certificate (mTLS). Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    watched: Arc<Watched<ServerConfig>>,
}

impl ServerTls {
    /// Loads now and watches (poll 10 s) until the last clone is dropped.
    pub fn load(tls: &PeerTls, alpn: &[&[u8]]) -> Result<ServerTls, TlsError> {
        let alpn = owned(alpn);
        let build = move |material: &Material| server_config(material, &alpn);
        Watched::load("server", Files::of(tls), build).map(|watched| ServerTls { watched })
    }

    /// In force now: take it for each handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.watched.current.load_full()
    }

    /// Looks at the files now; they are looked at every 10 s anyway. Blocks.
    pub fn reload_now(&self) {
        self.watched.reload();
    }
}

/// Client side: roots (`ca_file`, else the system's), optional client certificate, optional server name. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    watched: Arc<Watched<ClientConfig>>,
    server_name: Option<Arc<str>>,
}

impl ClientTls {
    /// As for [`ServerTls::load`].
    pub fn load(tls: &PeerTls, alpn: &[&[u8]]) -> Result<ClientTls, TlsError> {
        let (alpn, unverified) = (owned(alpn), tls.insecure_skip_verify);
        if unverified {
            tracing::warn!(
                "insecure_skip_verify is on: the peer's certificate is NOT checked, anybody on the way can read and change everything"
            );
        }
        let build = move |material: &Material| client_config(material, &alpn, unverified);
        let watched = Watched::load("client", Files::of(tls), build)?;
        let server_name = (!tls.server_name.is_empty()).then(|| tls.server_name.as_str().into());
        Ok(ClientTls { watched, server_name })
    }

    /// In force now.
    pub fn current(&self) -> Arc<ClientConfig> {
        self.watched.current.load_full()
    }

    /// The name to ask for and to check, where it is not that of the address (`tls.server_name`).
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Looks at the files now; they are looked at every 10 s anyway. Blocks.
    pub fn reload_now(&self) {
        self.watched.reload();
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTls({:?})", self.watched.files)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientTls({:?})", self.watched.files)
    }
}

type Build<C> = Box<dyn Fn(&Material) -> Result<C, TlsError> + Send + Sync>;

/// A configuration, and the files that it was made of.
struct Watched<C> {
    side: &'static str,
    files: Files,
    build: Build<C>,
    current: ArcSwap<C>,
    /// What was read last, good or bad: a bad state is reported once, not every 10 s.
    seen: Mutex<Result<Material, String>>,
}

impl<C: Send + Sync + 'static> Watched<C> {
    fn load(
        side: &'static str,
        files: Files,
        build: impl Fn(&Material) -> Result<C, TlsError> + Send + Sync + 'static,
    ) -> Result<Arc<Watched<C>>, TlsError> {
        let material = files.read()?;
        let current = ArcSwap::from_pointee(build(&material)?);
        let watched =
            Arc::new(Watched { side, files, build: Box::new(build), current, seen: Mutex::new(Ok(material)) });
        if watched.files.any() {
            let weak = Arc::downgrade(&watched);
            reload::watch(weak);
        }
        Ok(watched)
    }
}

impl<C: Send + Sync + 'static> Reload for Watched<C> {
    fn reload(&self) {
        let read = self.files.read().map_err(|error| error.0);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == read {
            return;
        }
        match read.as_ref().map_err(|reason| TlsError(reason.clone())).and_then(|material| (self.build)(material)) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                tracing::info!(side = self.side, files = ?self.files, "TLS material reloaded");
            }
            Err(error) => {
                tracing::warn!(side = self.side, %error, "TLS material on disk is not usable, the old one stays in force");
            }
        }
        *seen = read;
    }
}

fn server_config(material: &Material, alpn: &[Vec<u8>]) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(format!("TLS cannot be set up: {error}")))?;
    let builder = match material.roots()? {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| material.bad_ca(&error))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let identity =
        material.identity()?.ok_or_else(|| TlsError("tls.cert_file and tls.key_file are required".to_owned()))?;
    let mut config =
        builder.with_single_cert(identity.chain, identity.key).map_err(|error| material.bad_identity(&error))?;
    config.alpn_protocols = alpn.to_vec();
    Ok(config)
}

fn client_config(material: &Material, alpn: &[Vec<u8>], unverified: bool) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(format!("TLS cannot be set up: {error}")))?;
    let builder = if unverified {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verify::Anybody::new(provider())))
    } else {
        let roots = match material.roots()? {
            Some(roots) => roots,
            None => system_roots()?,
        };
        builder.with_root_certificates(roots)
    };
    let mut config = match material.identity()? {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain, identity.key)
            .map_err(|error| material.bad_identity(&error))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.to_vec();
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsError(format!(
            "the system has no root certificates{why}: install ca-certificates or set tls.ca_file"
        )));
    }
    Ok(roots)
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}
