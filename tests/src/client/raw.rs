//! A socket that sends exactly the bytes it is given.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::PATIENCE;

/// One connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Status code.
    pub status: u16,
    /// Status line and header fields.
    pub head: String,
    /// Body, chunks put together.
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// A header's value; empty: absent.
    pub fn header(&self, name: &str) -> &str {
        self.head
            .lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map_or("", |(_, v)| v.trim())
    }
}

impl Raw {
    /// Connects.
    pub async fn connect(addr: SocketAddr) -> Raw {
        let stream = TcpStream::connect(addr).await.unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}"));
        stream.set_nodelay(true).unwrap();
        Raw { stream, buffer: Vec::new() }
    }

    /// Sends; an error when the peer has closed.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Sends.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Half-closes: nothing more will be sent.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads one final or interim answer within [`PATIENCE`]; None: closed before one was complete.
    pub async fn answer(&mut self) -> Option<RawAnswer> {
        tokio::time::timeout(PATIENCE, self.read_answer()).await.expect("no raw answer in time")
    }

    /// Everything until the peer closes, and how long that took; None: it did not close within `limit`.
    pub async fn until_closed(&mut self, limit: Duration) -> Option<(Vec<u8>, Duration)> {
        let start = Instant::now();
        let all = async {
            while self.fill().await {}
            std::mem::take(&mut self.buffer)
        };
        let bytes = tokio::time::timeout(limit, all).await.ok()?;
        Some((bytes, start.elapsed()))
    }

    /// Waits for at least one byte, and answers all that is there; None: closed, or nothing within `limit`.
    pub async fn some(&mut self, limit: Duration) -> Option<Vec<u8>> {
        if self.buffer.is_empty() && !tokio::time::timeout(limit, self.fill()).await.ok()? {
            return None;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    async fn fill(&mut self) -> bool {
        let mut piece = [0; 4 * 1024];
        match self.stream.read(&mut piece).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&piece[..n]);
                true
            }
        }
    }

    async fn line_end(&mut self, pattern: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = self.buffer.windows(pattern.len()).position(|w| w == pattern) {
                return Some(at + pattern.len());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < n {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buffer.drain(..n).collect())
    }

    async fn read_answer(&mut self) -> Option<RawAnswer> {
        let end = self.line_end(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&self.buffer.drain(..end).collect::<Vec<_>>()).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = RawAnswer { status, head, body: Vec::new() };
        if status < 200 || status == 204 || status == 304 {
            return Some(answer);
        }
        if answer.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
            answer.body = self.chunks().await?;
        } else if let Ok(n) = answer.header("content-length").parse() {
            answer.body = self.exactly(n).await?;
        } else {
            while self.fill().await {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        Some(answer)
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = self.line_end(b"\r\n").await?;
            let line = String::from_utf8_lossy(&self.buffer.drain(..end).collect::<Vec<_>>()).into_owned();
            let size = usize::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
            if size == 0 {
                while self.line_end(b"\r\n").await? > 2 {
                    let end = self.line_end(b"\r\n").await?;
                    self.buffer.drain(..end);
                }
                self.buffer.drain(..2);
                return Some(body);
            }
            body.extend(self.exactly(size).await?);
            self.exactly(2).await?;
        }
    }
}
