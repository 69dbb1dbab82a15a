//! Opening a connection to a backend: all of its addresses, in turn.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::Instant};

use super::{Pool, UpstreamError};

/// Least time for one address, so that a black hole among many does not use the whole `dial_timeout` up, nor a slow
/// one is cut too soon.
const LEAST_ATTEMPT: Duration = Duration::from_secs(1);

/// Connects within `dial_timeout`, beginning with the next address in turn and going on to the others.
pub(crate) async fn connect(pool: &Pool) -> Result<(TcpStream, SocketAddr), UpstreamError> {
    let backend = &pool.backend;
    let unavailable = |why: String| UpstreamError::Unavailable { backend: backend.name.to_string(), why };
    let end = Instant::now() + backend.dial_timeout;
    let resolved = tokio::time::timeout_at(end, pool.resolve()).await;
    let addresses = resolved.map_err(|_| timed_out(pool))?.map_err(unavailable)?;
    let first = pool.next_turn();
    let mut last = String::new();
    for attempt in 0..addresses.len() {
        let address = addresses[(first + attempt) % addresses.len()];
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out(pool));
        }
        let others = u32::try_from(addresses.len() - attempt).unwrap_or(u32::MAX);
        let share = (left / others).max(LEAST_ATTEMPT).min(left);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => match prepare(&stream, backend.dial_keep_alive) {
                Ok(()) => return Ok((stream, address)),
                Err(error) => last = format!("{address}: {error}"),
            },
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) if others == 1 => return Err(timed_out(pool)),
            Err(_) => last = format!("{address}: no answer"),
        }
    }
    Err(unavailable(format!("connecting failed: {last}")))
}

fn timed_out(pool: &Pool) -> UpstreamError {
    UpstreamError::TimedOut {
        backend: pool.backend.name.to_string(),
        why: "connecting took longer than transport.dial_timeout",
    }
}

fn prepare(stream: &TcpStream, keep_alive: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(interval) = keep_alive {
        SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(interval).with_interval(interval))?;
    }
    Ok(())
}
