//! TLS material from files, reloaded when they change (content, not time), the old one kept when the new is bad.
use edgequota_config::settings::PeerTls;
use std::sync::Arc;
/// Why material cannot be used; names the file, never its content.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub String);
/// Installs aws-lc-rs as the process's provider; call first in main. Idempotent.
pub fn install_provider() {
    todo!()
}
/// Server side: certificate and key; with `ca_file` clients must show a certificate (mTLS).
#[derive(Clone)]
pub struct ServerTls {}
impl ServerTls {
    /// Loads now and watches (poll 10 s) until the last clone is dropped.
    pub fn load(_tls: &PeerTls, _alpn: &[&[u8]]) -> Result<ServerTls, TlsError> {
        todo!()
    }
    /// In force now: take it for each handshake.
    pub fn current(&self) -> Arc<rustls::ServerConfig> {
        todo!()
    }
}
/// Client side: roots (`ca_file`, else the system's), optional client certificate, optional server name.
#[derive(Clone)]
pub struct ClientTls {}
impl ClientTls {
    /// As for [`ServerTls::load`].
    pub fn load(_tls: &PeerTls, _alpn: &[&[u8]]) -> Result<ClientTls, TlsError> {
        todo!()
    }
    /// In force now.
    pub fn current(&self) -> Arc<rustls::ClientConfig> {
        todo!()
    }
}
