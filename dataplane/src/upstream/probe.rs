//! Whether a plain-text backend speaks HTTP/2, found out on a connection of its own: no request rides on it.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::{Pool, UpstreamError, connect::connect};

/// The preface of a client and an empty SETTINGS frame (RFC 9113 section 3.4).
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// How long the other side has for its SETTINGS.
const LIMIT: Duration = Duration::from_secs(1);
/// How long an answer is believed. "No" for less: a backend that was upgraded should be noticed.
const BELIEVE_YES: Duration = Duration::from_secs(600);
const BELIEVE_NO: Duration = Duration::from_secs(60);

/// Whether the backend speaks h2c. Remembered per address; all addresses of a backend are taken to be alike.
pub(crate) async fn speaks_h2(pool: &Pool) -> Result<bool, UpstreamError> {
    let addresses = pool
        .resolve()
        .await
        .map_err(|why| UpstreamError::Unavailable { backend: pool.backend.name.to_string(), why })?;
    let known = {
        let book = pool.speaks_h2.borrow();
        addresses.iter().find_map(|address| {
            book.get(address)
                .filter(|(yes, at)| at.elapsed() < if *yes { BELIEVE_YES } else { BELIEVE_NO })
                .map(|(yes, _)| *yes)
        })
    };
    if let Some(known) = known {
        return Ok(known);
    }
    let (mut io, address) = connect(pool).await?;
    let answer = tokio::time::timeout(LIMIT, async {
        let mut head = [0; 9];
        io.write_all(HELLO).await?;
        io.read_exact(&mut head).await?;
        // A SETTINGS frame (type 4) on stream 0.
        Ok::<_, std::io::Error>(head[3] == 4 && head[5..] == [0; 4])
    })
    .await;
    let yes = matches!(answer, Ok(Ok(true)));
    let mut book = pool.speaks_h2.borrow_mut();
    book.retain(|known, _| addresses.contains(known));
    book.insert(address, (yes, Instant::now()));
    Ok(yes)
}
