//! The admin port's own accept loop: bounded connections, time limits, an end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, HttpBody as _},
    extract::{ConnectInfo, DefaultBodyLimit},
    response::{IntoResponse as _, Response},
};
use edgequota_config::settings::Admin;
use http::{Request, StatusCode};
use http_body_util::Limited;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    bodies::{Answered, BodyInTime},
    connections::{Connections, Entry},
    errors,
    timed::{Activity, Answering, Limits, Timed},
};

/// Largest request body: a policy (16 MiB) in its JSON envelope.
const MAX_BODY: usize = 17 * 1024 * 1024;
/// Largest request head.
const MAX_HEAD: usize = 64 * 1024;
/// How long requests in flight have after `stop`.
const LAST_REQUESTS: Duration = Duration::from_secs(1);
/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener that does not serve yet. What connects before it serves waits in the backlog.
#[derive(Debug)]
pub struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
    limits: Limits,
}

impl Bound {
    /// Binds `admin.address` (dual stack, see [`crate::resources::listen`]). The error names the setting and the address.
    pub fn bind(admin: &Admin) -> io::Result<Bound> {
        let listener = crate::resources::listen_for("admin.address", &admin.address, false)?;
        let address = listener.local_addr()?;
        let limits = Limits {
            read: admin.read_timeout.non_zero(),
            write: admin.write_timeout.non_zero(),
            idle: admin.idle_timeout.non_zero(),
        };
        Ok(Bound { listener, address, limits })
    }

    /// The real address.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, with the timeouts and bounds (connections 256, body 17 MiB) of the settings. After `stop`
    /// requests in flight have 1 s. A connection beyond the bound takes the place of an idle one; if all are busy it is
    /// closed.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, address = %self.address, "admin server cannot serve");
                return;
            }
        };
        let router = router.layer(DefaultBodyLimit::max(MAX_BODY));
        let connections = Connections::default();
        let tasks = TaskTracker::new();
        tracing::info!(address = %self.address, "admin server serves");
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(entry) = connections.admit() {
                        // who asks: what is changed here is in the log with it
                        let peer = SocketAddr::new(crate::resources::canonical_ip(peer.ip()), peer.port());
                        let router = router.clone().layer(Extension(ConnectInfo(peer)));
                        tasks.spawn(connection(stream, self.limits, router, entry, stop.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "admin server cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
        tracing::info!("admin server ended");
    }
}

async fn connection(stream: TcpStream, limits: Limits, router: Router, entry: Entry, stop: CancellationToken) {
    // answers are small and written whole; a delayed one only costs
    let _ = stream.set_nodelay(true);
    let activity = entry.activity.clone();
    let timed = TokioIo::new(Timed::new(stream, limits, activity.clone()));
    let service = service_fn(move |request| answer(router.clone(), request, limits.read, activity.clone()));
    let mut builder = http1::Builder::new();
    // the socket has the limits: hyper's own one for heads also ends idle connections
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
    let served = builder.serve_connection(timed, service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_REQUESTS, served).await.unwrap_or(Ok(()))
        }
        () = entry.evicted.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_REQUESTS, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection ended");
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    read: Option<Duration>,
    activity: Arc<Activity>,
) -> Result<Response<Answered>, Infallible> {
    let answering = Answering::begin(&activity);
    let response = if request.body().size_hint().lower() > MAX_BODY as u64 {
        // before the client has sent it in vain
        StatusCode::PAYLOAD_TOO_LARGE.into_response()
    } else {
        let request = request.map(|body| Body::new(Limited::new(BodyInTime::new(body, read), MAX_BODY)));
        match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    let response = errors::as_json(response).await;
    Ok(response.map(|body| Answered::new(body, answering)))
}
