//! Accepts connections and hands over those whose TLS handshake is done and whose first bytes came in time.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use edgequota_ops::tls::ServerTls;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Sleep, sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::MOST_SUBSCRIBERS;

/// More connections than streams: a data plane that reconnects has two for a moment.
const MOST_CONNECTIONS: usize = MOST_SUBSCRIBERS + 1_000;
/// Length of the HTTP/2 preface, which every peer must send first.
const PREFACE: usize = 24;

/// A bound port that accepts nothing yet.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<ServerTlsHandle>,
}

#[derive(Clone)]
struct ServerTlsHandle(ServerTls);

impl std::fmt::Debug for ServerTlsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl Listener {
    /// Binds; with `tls`, only encrypted connections are taken.
    pub fn bind(address: &str, tls: Option<ServerTls>) -> io::Result<Listener> {
        let tcp = TcpListener::from_std(edgequota_ops::resources::listen(address, false)?)?;
        let address = tcp.local_addr()?;
        Ok(Listener { tcp, address, tls: tls.map(ServerTlsHandle) })
    }

    /// The real address, also when port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop`. One silent peer delays nobody: each handshake is a task of its own.
    pub(crate) async fn run(
        self,
        ready: mpsc::Sender<io::Result<Connection>>,
        patience: Duration,
        stop: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let place = tokio::select! {
                () = stop.cancelled() => return,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let Ok(place) = place else { return };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.tcp.accept() => accepted,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a peer that went away meanwhile: neither ends the service.
                    warn!(%error, "cannot accept a data plane");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (ready, tls) = (ready.clone(), self.tls.clone());
            tokio::spawn(async move {
                match tokio::time::timeout(patience, prepare(tcp, peer, tls, place, patience)).await {
                    Ok(Ok(connection)) => drop(ready.send(Ok(connection)).await),
                    Ok(Err(error)) => {
                        debug!(%peer, %error, "a connection to the control-plane port failed")
                    }
                    Err(_) => {
                        debug!(%peer, "a connection to the control-plane port said nothing in time")
                    }
                }
            });
        }
    }
}

async fn prepare(
    tcp: TcpStream,
    peer: SocketAddr,
    tls: Option<ServerTlsHandle>,
    place: OwnedSemaphorePermit,
    patience: Duration,
) -> io::Result<Connection> {
    tcp.set_nodelay(true)?;
    let (io, info) = match tls {
        None => (Io::Plain(tcp), Peer { address: canonical(peer), tls: false, certificate: false }),
        Some(tls) => {
            let handshake = TlsAcceptor::from(tls.0.current()).accept(tcp).await;
            let stream = handshake.inspect_err(
                |error| warn!(peer = %canonical(peer), %error, "a TLS handshake on control_plane.listen failed"),
            )?;
            let certificate = stream.get_ref().1.peer_certificates().is_some_and(|c| !c.is_empty());
            (Io::Tls(Box::new(stream)), Peer { address: canonical(peer), tls: true, certificate })
        }
    };
    Ok(Connection { io, info, missing: PREFACE, timer: Box::pin(sleep(patience)), _place: place })
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(edgequota_ops::resources::canonical_ip(peer.ip()), peer.port())
}

/// Who is at the other end, as far as the connection tells.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Address.
    pub address: SocketAddr,
    /// Encrypted.
    pub tls: bool,
    /// It showed a certificate, and that was verified.
    pub certificate: bool,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An accepted connection. A peer that does not even send the preface in time is cut: hyper would wait for ever.
pub(crate) struct Connection {
    io: Io,
    info: Peer,
    missing: usize,
    timer: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.info
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
        };
        if self.missing > 0 {
            self.missing = self.missing.saturating_sub(buf.filled().len() - before);
            if read.is_pending() {
                ready!(self.timer.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Io::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
