//! Whether a plain-text backend speaks HTTP/2, found out on a connection of its own: no request rides on it.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::{
    Pool, UpstreamError,
    connect::connect,
    single_flight::{Part, SingleFlight},
};

/// The preface of a client and an empty SETTINGS frame (RFC 9113 section 3.4).
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// How long the other side has for its SETTINGS.
const LIMIT: Duration = Duration::from_secs(1);
/// After this long an answer is asked for again, in the background. "No" sooner: an upgrade should be noticed.
const RENEW_YES: Duration = Duration::from_secs(600);
const RENEW_NO: Duration = Duration::from_secs(60);

/// What is believed of a backend's addresses. All addresses of a backend are taken to be alike.
#[derive(Debug)]
pub(crate) struct Belief {
    by_address: RefCell<HashMap<SocketAddr, (bool, Instant)>>,
    probing: SingleFlight<UpstreamError>,
}

impl Belief {
    pub(crate) fn new() -> Belief {
        Belief { by_address: RefCell::default(), probing: SingleFlight::new() }
    }

    /// The backend did not behave as believed: the next request asks again.
    pub(crate) fn withdraw(&self) {
        self.by_address.borrow_mut().clear();
    }

    fn of(&self, addresses: &[SocketAddr]) -> Option<(bool, Instant)> {
        let book = self.by_address.borrow();
        addresses.iter().find_map(|address| book.get(address).copied())
    }
}

/// Whether the backend speaks h2c. Only the first request of all waits for a probe.
pub(crate) async fn speaks_h2(pool: &Rc<Pool>) -> Result<bool, UpstreamError> {
    loop {
        let unavailable = |why| UpstreamError::Unavailable { backend: pool.backend.name.to_string(), why };
        let addresses = pool.resolve().await.map_err(unavailable)?;
        if let Some((yes, at)) = pool.belief.of(&addresses) {
            let renew = if yes { RENEW_YES } else { RENEW_NO };
            if at.elapsed() >= renew && !pool.belief.probing.is_busy() {
                let pool = Rc::clone(pool);
                tokio::task::spawn_local(async move { probe_once(&pool, &addresses).await });
            }
            return Ok(yes);
        }
        probe_once(pool, &addresses).await?;
    }
}

async fn probe_once(pool: &Rc<Pool>, addresses: &[SocketAddr]) -> Result<(), UpstreamError> {
    let work = match pool.belief.probing.join().await {
        Part::Work(work) => work,
        Part::Ended(outcome) => return outcome,
    };
    match probe(pool).await {
        Ok((address, yes)) => {
            let mut book = pool.belief.by_address.borrow_mut();
            book.retain(|known, _| addresses.contains(known));
            book.insert(address, (yes, Instant::now()));
            Ok(())
        }
        Err(error) => {
            work.fail(error.clone());
            Err(error)
        }
    }
}

async fn probe(pool: &Pool) -> Result<(SocketAddr, bool), UpstreamError> {
    let (mut io, address) = connect(pool).await?;
    let answer = tokio::time::timeout(LIMIT, async {
        let mut head = [0; 9];
        io.write_all(HELLO).await?;
        io.read_exact(&mut head).await?;
        // A SETTINGS frame (type 4) on stream 0.
        Ok::<_, std::io::Error>(head[3] == 4 && head[5..] == [0; 4])
    })
    .await;
    Ok((address, matches!(answer, Ok(Ok(true)))))
}
