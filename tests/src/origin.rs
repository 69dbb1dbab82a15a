//! A scriptable backend. Each request says in its `x-origin` header what shall be done with it; without one it is
//! echoed as JSON.

mod exchange;
mod raw;
mod script;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use raw::RawOrigin;
pub use script::Script;

/// Requests that are remembered.
const REMEMBERED: usize = 50_000;

/// Which protocols it speaks in clear text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1, and HTTP/2 by prior knowledge.
    Both,
    /// HTTP/1.1 only: an h2 preface is answered with 400 and a close, as old servers do.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Request target as received (h1) or the path (h2).
    pub target: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Host or `:authority`.
    pub host: String,
    /// Header fields.
    pub headers: HeaderMap,
    /// Number of the connection, from 1.
    pub connection: usize,
}

#[derive(Debug, Default)]
struct State {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    last_body: Mutex<Bytes>,
    last_trailers: Mutex<Option<HeaderMap>>,
    body_bytes: AtomicUsize,
    broken_bodies: AtomicUsize,
}

/// A running origin; ends, with its connections, when dropped.
#[derive(Debug)]
pub struct Origin {
    addr: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
}

impl Origin {
    /// Speaks both protocols.
    pub async fn start() -> Origin {
        Origin::speaking(Speaks::Both).await
    }

    /// Speaks what it is told.
    pub async fn speaking(speaks: Speaks) -> Origin {
        Origin::bound(TcpListener::bind("127.0.0.1:0").await.unwrap(), speaks)
    }

    /// On a given port, for one that comes back.
    pub async fn at(port: u16) -> Origin {
        Origin::bound(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), Speaks::Both)
    }

    /// On a given port, for another server at an old address.
    pub async fn speaking_at(speaks: Speaks, port: u16) -> Origin {
        Origin::bound(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), speaks)
    }

    fn bound(listener: TcpListener, speaks: Speaks) -> Origin {
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let stop = CancellationToken::new();
        let (s, token) = (Arc::clone(&state), stop.clone());
        tokio::spawn(async move {
            let tasks = TaskTracker::new();
            loop {
                let stream = tokio::select! {
                    () = token.cancelled() => return,
                    accepted = listener.accept() => match accepted { Ok((stream, _)) => stream, Err(_) => continue },
                };
                let number = s.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (s, token) = (Arc::clone(&s), token.clone());
                tasks.spawn(async move {
                    s.open.fetch_add(1, Ordering::SeqCst);
                    token.run_until_cancelled(serve(stream, speaks, number, Arc::clone(&s))).await;
                    s.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Origin { addr, state, stop }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The `backend:` block for it, with more lines of the block.
    pub fn yaml(&self, more: &[&str]) -> String {
        let mut text = format!("backend:\n  url: \"{}\"\n", self.url());
        for line in more {
            text.push_str(&format!("  {line}\n"));
        }
        text
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Requests that arrived so far.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// The requests, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The newest request.
    ///
    /// # Panics
    /// When none has arrived.
    pub fn last(&self) -> Seen {
        self.state.seen.lock().unwrap().last().cloned().expect("no request has reached the origin")
    }

    /// Body of the request whose body ended last.
    pub fn last_body(&self) -> Bytes {
        self.state.last_body.lock().unwrap().clone()
    }

    /// Trailers of the request whose body ended last.
    pub fn last_trailers(&self) -> Option<HeaderMap> {
        self.state.last_trailers.lock().unwrap().clone()
    }

    /// Bytes of request bodies that arrived so far, also of those still flowing.
    pub fn body_bytes(&self) -> usize {
        self.state.body_bytes.load(Ordering::SeqCst)
    }

    /// Request bodies that broke off.
    pub fn broken_bodies(&self) -> usize {
        self.state.broken_bodies.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(stream: TcpStream, speaks: Speaks, number: usize, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let http2 = match speaks {
        Speaks::Http1 => false,
        Speaks::Http2 => true,
        Speaks::Both => {
            let mut start = [0; 3];
            matches!(stream.peek(&mut start).await, Ok(3) if &start == b"PRI")
        }
    };
    let service = service_fn(move |request| exchange::answer(request, number, Arc::clone(&state)));
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let _ = builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
    } else {
        let mut builder = http1::Builder::new();
        let _ = builder.timer(TokioTimer::new()).half_close(true).serve_connection(TokioIo::new(stream), service).await;
    }
}
