//! Load at a chosen rate over many connections, and connections that are only held.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval_at},
};

/// One kept-alive connection that asks for the same again and again.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// What came of a load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paced {
    /// Answers with 200.
    pub good: u64,
    /// Other answers.
    pub other: u64,
    /// Connections that broke.
    pub broken: u64,
    /// Answers of all kinds a second.
    pub rate: f64,
}

impl Line {
    /// Connects; asks for `path` as `tenant`.
    pub async fn open(addr: SocketAddr, path: &str, tenant: &str) -> io::Result<Line> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut line = Line { stream, request: Vec::new(), buffer: Vec::new() };
        line.ask_for(path, tenant);
        Ok(line)
    }

    /// Asks for another path from now on.
    pub fn ask_for(&mut self, path: &str, tenant: &str) {
        self.request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nx-tenant-id: {tenant}\r\n\r\n").into_bytes();
    }

    /// One request and its whole answer: the status.
    pub async fn ask(&mut self) -> io::Result<u16> {
        self.stream.write_all(&self.request).await?;
        self.buffer.clear();
        loop {
            if let Some((status, length)) = parse(&self.buffer)
                && self.buffer.len() >= length
            {
                return Ok(status);
            }
            let mut piece = [0; 2048];
            match self.stream.read(&mut piece).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend_from_slice(&piece[..n]),
            }
        }
    }
}

/// Status and whole length, once the head is complete; bodies have a `Content-Length` here.
fn parse(bytes: &[u8]) -> Option<(u16, usize)> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let length = text
        .lines()
        .filter_map(|l| l.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    Some((status, head + length.unwrap_or(0)))
}

/// Opens `n` connections, each of a tenant of its own.
pub async fn open(addr: SocketAddr, n: usize) -> io::Result<Vec<Line>> {
    let mut lines = Vec::with_capacity(n);
    for tenant in 0..n {
        lines.push(Line::open(addr, "/", &format!("t{tenant}")).await?);
    }
    Ok(lines)
}

/// Asks `rate` times a second in all for `length`, spread evenly; an answer that is late delays its connection only.
pub async fn run(lines: Vec<Line>, rate: f64, length: Duration) -> (Vec<Line>, Paced) {
    let (start, count) = (Instant::now(), lines.len());
    let every = Duration::from_secs_f64(count as f64 / rate);
    let mut tasks = JoinSet::new();
    for (n, mut line) in lines.into_iter().enumerate() {
        tasks.spawn(async move {
            let mut ticks = interval_at(tokio::time::Instant::now() + every.mul_f64(n as f64 / count as f64), every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut seen = Paced::default();
            while start.elapsed() < length {
                ticks.tick().await;
                match line.ask().await {
                    Ok(200) => seen.good += 1,
                    Ok(_) => seen.other += 1,
                    Err(_) => {
                        seen.broken += 1;
                        return (None, seen);
                    }
                }
            }
            (Some(line), seen)
        });
    }
    let (mut kept, mut all) = (Vec::with_capacity(count), Paced::default());
    while let Some(done) = tasks.join_next().await {
        let (line, seen) = done.unwrap();
        kept.extend(line);
        all.good += seen.good;
        all.other += seen.other;
        all.broken += seen.broken;
    }
    all.rate = (all.good + all.other) as f64 / start.elapsed().as_secs_f64();
    (kept, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(parse(text), Some((200, text.len())));
        assert_eq!(parse(&text[..text.len() - 4]), None);
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n"), Some((204, 27)));
    }
}
