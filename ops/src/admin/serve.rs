//! The admin port's own accept loop: bounded connections, time limits, an end.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::DefaultBodyLimit,
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
    errors,
    timed::{Activity, Answering, Limits, Timed},
};

/// Most connections at once.
const MAX_CONNECTIONS: usize = 256;
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
        Ok(Bound {
            listener,
            address,
            limits,
        })
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
                Ok((stream, _)) => {
                    if let Some(entry) = connections.admit() {
                        tasks.spawn(connection(
                            stream,
                            self.limits,
                            router.clone(),
                            entry,
                            stop.clone(),
                        ));
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

async fn connection(
    stream: TcpStream,
    limits: Limits,
    router: Router,
    entry: Entry,
    stop: CancellationToken,
) {
    // answers are small and written whole; a delayed one only costs
    let _ = stream.set_nodelay(true);
    let activity = entry.activity.clone();
    let timed = TokioIo::new(Timed::new(stream, limits, activity.clone()));
    let service =
        service_fn(move |request| answer(router.clone(), request, limits.read, activity.clone()));
    let mut builder = http1::Builder::new();
    // the socket has the limits: hyper's own one for heads also ends idle connections
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD);
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
        let request =
            request.map(|body| Body::new(Limited::new(BodyInTime::new(body, read), MAX_BODY)));
        match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    let response = errors::as_json(response).await;
    Ok(response.map(|body| Answered {
        body,
        _answering: answering,
    }))
}

/// An answer's body: the connection is busy until it is gone.
struct Answered {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// A request body that must be complete within a time from when it is first asked for.
struct BodyInTime {
    body: Incoming,
    limit: Option<Duration>,
    until: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl BodyInTime {
    fn new(body: Incoming, limit: Option<Duration>) -> BodyInTime {
        BodyInTime {
            body,
            limit,
            until: None,
        }
    }
}

impl HttpBody for BodyInTime {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let until = self
            .until
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        std::task::ready!(until.as_mut().poll(cx));
        Poll::Ready(Some(Err(
            "the request body did not arrive within admin.read_timeout".into(),
        )))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// The open connections. Cheap to clone.
#[derive(Clone, Default)]
struct Connections {
    open: Arc<Mutex<HashMap<u64, Open>>>,
    next: Arc<AtomicU64>,
}

struct Open {
    activity: Arc<Activity>,
    evicted: CancellationToken,
}

/// A place in the table, given back on drop.
struct Entry {
    id: u64,
    activity: Arc<Activity>,
    evicted: CancellationToken,
    connections: Connections,
}

impl Connections {
    /// None: full, and everybody is busy.
    fn admit(&self) -> Option<Entry> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_CONNECTIONS {
            // the oldest idle one: probes come and go, what lingers is something else
            let idle = open
                .iter()
                .filter(|(_, open)| !open.activity.busy())
                .map(|(id, _)| *id)
                .min()?;
            if let Some(open) = open.remove(&idle) {
                open.evicted.cancel();
            }
        }
        let id = self.next.fetch_add(1, Relaxed);
        let activity = Arc::new(Activity::default());
        let evicted = CancellationToken::new();
        open.insert(
            id,
            Open {
                activity: activity.clone(),
                evicted: evicted.clone(),
            },
        );
        Some(Entry {
            id,
            activity,
            evicted,
            connections: self.clone(),
        })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}
