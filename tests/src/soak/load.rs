//! Clients that behave and keep their connections.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{kinds::Wanted, world::World};
use crate::client::{H1, H2};

/// Requests under way on an HTTP/2 connection.
const STREAMS: usize = 8;

/// One HTTP/1.1 connection; opened again where the peer, or a broken body, has closed it.
pub(super) async fn http1(world: Arc<World>, n: usize, stop: CancellationToken) {
    let target = world.proxies[n % world.proxies.len()];
    let mut kept: Option<H1> = None;
    let mut count = n;
    while !stop.is_cancelled() {
        count += 1;
        let mut connection = match kept.take().filter(|c| !c.is_closed()) {
            Some(connection) => connection,
            None => H1::connect(target).await,
        };
        let (wanted, before) = (Wanted::any(count), world.now());
        let answer = connection.send(wanted.request()).await;
        let closes = answer.as_ref().is_ok_and(|a| a.header("connection").eq_ignore_ascii_case("close"));
        kept = (answer.is_ok() && !closes).then_some(connection);
        judge(&world, &wanted, before, answer);
    }
}

/// One HTTP/2 connection with several requests at a time.
pub(super) async fn http2(world: Arc<World>, n: usize, stop: CancellationToken) {
    let target = world.proxies[n % world.proxies.len()];
    let connection = Arc::new(H2::connect(target).await);
    let mut streams = JoinSet::new();
    for stream in 0..STREAMS {
        let (world, connection, stop) = (Arc::clone(&world), Arc::clone(&connection), stop.clone());
        streams.spawn(async move {
            let mut count = n + stream;
            while !stop.is_cancelled() {
                count += 1;
                let (wanted, before) = (Wanted::any(count), world.now());
                let answer = connection.send(wanted.request()).await;
                judge(&world, &wanted, before, answer);
            }
        });
    }
    while let Some(ended) = streams.join_next().await {
        ended.unwrap();
    }
}

/// Judges and writes down.
pub(super) fn judge(world: &World, wanted: &Wanted, before: super::world::Now, answer: Result<crate::Answer, String>) {
    let meanwhile = world.since(before);
    match answer {
        Ok(answer) => {
            let wrong = wanted.judge(&answer, meanwhile).err();
            world.record(wanted.kind, before, answer.status.as_str(), wrong);
        }
        Err(words) => {
            let wrong = (!wanted.may_break(meanwhile)).then(|| format!("{words}, while {meanwhile:?}"));
            world.record(wanted.kind, before, "broken", wrong);
        }
    }
}
