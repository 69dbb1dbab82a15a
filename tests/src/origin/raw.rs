//! A backend below HTTP: records every byte it receives, and answers with bytes of the test's choice.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// A running raw origin; ends when dropped.
#[derive(Debug)]
pub struct RawOrigin {
    addr: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    heads: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl RawOrigin {
    /// Answers each request head (up to the blank line) with `answer`; then, with `close`, closes.
    pub async fn start(answer: impl Into<Vec<u8>>, close: bool) -> RawOrigin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::new(AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let answer: Arc<[u8]> = answer.into().into();
        let (all, count, token) = (Arc::clone(&received), Arc::clone(&heads), stop.clone());
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = token.cancelled() => return,
                    accepted = listener.accept() => match accepted { Ok((stream, _)) => stream, Err(_) => continue },
                };
                let slot = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                let (all, count, answer, token) =
                    (Arc::clone(&all), Arc::clone(&count), Arc::clone(&answer), token.clone());
                tokio::spawn(async move {
                    token.run_until_cancelled(serve(stream, slot, all, count, answer, close)).await;
                });
            }
        });
        RawOrigin { addr, received, heads, stop }
    }

    /// Answers every request with 200 and two bytes of body.
    pub async fn ok() -> RawOrigin {
        RawOrigin::start(&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], false).await
    }

    /// The `backend:` block for it.
    pub fn yaml(&self) -> String {
        format!("backend:\n  url: \"http://{}\"\n  transport: {{ backend_protocol: h1 }}\n", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Bytes received, one entry a connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap().clone()
    }

    /// Bytes received on all connections, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received().concat()).into_owned()
    }

    /// Blank lines that ended something like a request head.
    pub fn heads(&self) -> usize {
        self.heads.load(Ordering::SeqCst)
    }
}

impl Drop for RawOrigin {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(
    mut stream: TcpStream,
    slot: usize,
    all: Arc<Mutex<Vec<Vec<u8>>>>,
    heads: Arc<AtomicUsize>,
    answer: Arc<[u8]>,
    close: bool,
) {
    let mut piece = [0; 4 * 1024];
    let mut answered = 0;
    loop {
        let Ok(n @ 1..) = stream.read(&mut piece).await else {
            return;
        };
        let ends = {
            let mut all = all.lock().unwrap();
            all[slot].extend_from_slice(&piece[..n]);
            ended_heads(&all[slot])
        };
        while answered < ends {
            answered += 1;
            heads.fetch_add(1, Ordering::SeqCst);
            if stream.write_all(&answer).await.is_err() || close {
                return;
            }
        }
    }
}

/// Blank lines, except those that end a chunked body.
fn ended_heads(bytes: &[u8]) -> usize {
    let ends = bytes.windows(4).enumerate().filter(|(_, w)| w == b"\r\n\r\n");
    ends.filter(|(at, _)| !bytes[..*at].ends_with(b"\r\n0")).count()
}
