//! The task that keeps one slot supplied with a good connection.
//!
//! A connection is replaced when it breaks, when the server cannot count any more (READONLY, LOADING, MASTERDOWN),
//! when nothing was received for `redis.read_timeout` with calls outstanding, and when settings or the password file
//! change; in the last case the old one serves until the new one counted. Certificates are read for each connection.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use edgequota_config::settings::Redis;
use redis::Cmd;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    PING, Primary, Slot,
    backoff::Backoff,
    connect::{self, Made},
    connection::Connection,
    failure::Failure,
};
use crate::clock::micros;

/// A connection that ends sooner is treated like a failed connect, so that no server state makes a tight loop.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// How often a password file is looked at (the kubelet needs up to a minute to change it).
const PASSWORD_EVERY: Duration = Duration::from_secs(5);

/// Why a connection is no longer tended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Lost,
    Replace,
    Stop,
}

/// Gives the slot back when the task ends, by order or with its runtime (even before it began).
pub(super) struct Leave {
    primary: Arc<Primary>,
    slot: usize,
    tried: bool,
}

impl Leave {
    pub(super) fn new(primary: &Arc<Primary>, slot: usize) -> Leave {
        Leave { primary: Arc::clone(primary), slot, tried: false }
    }

    fn slot(&self) -> &Slot {
        &self.primary.slots[self.slot]
    }

    fn tried(&mut self) {
        if !self.tried {
            self.tried = true;
            self.primary.tries.send_modify(|tries| tries.ended += 1);
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.tried();
        self.slot().connection.store(None);
        self.slot().claimed.store(false, Ordering::Release);
        self.primary.look_around();
    }
}

/// Runs until the process's counting ends.
pub(super) async fn supervise(mut leave: Leave) {
    let (primary, slot) = (Arc::clone(&leave.primary), leave.slot);
    let mut changes = primary.settings.clone();
    let mut backoff = Backoff::new();
    loop {
        let settings = changes.borrow_and_update().clone();
        primary.adopt(&settings);
        let made = tokio::select! {
            made = make(&primary, &settings) => made,
            () = keep(&primary, slot, &settings) => return,
            () = primary.stop.cancelled() => return,
        };
        let born = Instant::now();
        let end = match made {
            Ok((made, password)) => {
                let connection = install(&primary, slot, made);
                leave.tried();
                tend(&primary, &connection, &mut changes, &settings, &password).await
            }
            Err(error) => {
                leave.tried();
                primary.counted.redis_errors.inc();
                tracing::warn!(%error, "no connection to redis");
                End::Lost
            }
        };
        match end {
            End::Stop => return,
            End::Replace => backoff.reset(),
            End::Lost => {
                primary.look_around();
                if born.elapsed() >= SHORT_LIFE {
                    backoff.reset();
                    continue;
                }
                tokio::select! {
                    () = pause(&primary, backoff.delay(), &mut changes) => {}
                    () = keep(&primary, slot, &settings) => return,
                    () = primary.stop.cancelled() => return,
                }
            }
        }
    }
}

/// Watches over the connection that a change of settings is about to replace; it serves until then. Never ready.
async fn keep(primary: &Primary, slot: usize, settings: &Redis) {
    if let Some(connection) = primary.slots[slot].live() {
        while connection.is_live() {
            tokio::select! {
                () = connection.condemned() => {}
                () = connection.attention() => {
                    if !still_answers(primary, &connection, settings).await {
                        primary.condemn(&connection);
                    }
                }
            }
        }
    }
    std::future::pending::<()>().await;
}

async fn make(primary: &Primary, settings: &Redis) -> Result<(Made, SecretString), connect::ConnectError> {
    let password = connect::password(settings).await?;
    let made = connect::connect(settings, &password, &primary.node).await?;
    Ok((made, password))
}

fn install(primary: &Primary, slot: usize, made: Made) -> Arc<Connection> {
    if let Some(message) = &made.permission {
        primary.counted.permission_errors.inc();
        primary.report_permission(message);
    }
    if let Some(policy) = &made.eviction {
        let evicts = policy != "noeviction";
        if primary.evicts.swap(evicts, Ordering::Relaxed) != evicts && evicts {
            tracing::warn!(%policy, "redis may evict counters, each eviction hands out a burst: set maxmemory-policy noeviction");
        }
    }
    tracing::info!(endpoint = %made.endpoint, slot, "connected to redis");
    let connection = Arc::new(Connection::new(made.handle, made.fate));
    primary.slots[slot].connection.store(Some(Arc::clone(&connection)));
    primary.close_breaker("connected");
    primary.connected.notify_waiters();
    connection
}

/// Sits out a failed connect.
async fn pause(primary: &Primary, delay: Duration, changes: &mut watch::Receiver<Arc<Redis>>) {
    tokio::select! {
        () = sleep(delay) => {}
        () = primary.connected.notified() => {}
        () = primary.kick.notified() => {}
        () = changed(changes) => {}
    }
}

/// Ready when the settings changed; never once nobody can change them any more.
async fn changed(changes: &mut watch::Receiver<Arc<Redis>>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn tend(
    primary: &Primary,
    connection: &Connection,
    changes: &mut watch::Receiver<Arc<Redis>>,
    settings: &Redis,
    password: &SecretString,
) -> End {
    // Outside of the loop: whatever else happens, its clock goes on.
    let new_password = password_changed(settings, password);
    tokio::pin!(new_password);
    loop {
        tokio::select! {
            () = primary.stop.cancelled() => return End::Stop,
            () = connection.condemned() => return End::Lost,
            () = connection.attention() => {
                if !still_answers(primary, connection, settings).await {
                    connection.condemn();
                    return End::Lost;
                }
            }
            () = changed(changes) => return End::Replace,
            () = &mut new_password => {
                tracing::info!("redis.password_file changed");
                return End::Replace;
            }
        }
    }
}

/// Pings until the server answers or has been silent for `redis.read_timeout`. Answers come in order, so one `PING` on its
/// way tells as much as any number.
async fn still_answers(primary: &Primary, connection: &Connection, settings: &Redis) -> bool {
    let mut ping = Cmd::new();
    ping.arg("PING");
    loop {
        let asked_us = micros(primary.start.elapsed());
        let exchange = primary.exchange(connection, &ping, PING);
        let answer = async {
            match settings.read_timeout.non_zero() {
                Some(patience) => timeout(patience, exchange).await.ok(),
                None => Some(exchange.await),
            }
        };
        let answer = tokio::select! {
            answer = answer => answer,
            () = connection.condemned() => return false,
            () = primary.stop.cancelled() => return true,
        };
        match answer {
            Some(Err(Failure::Broken(_) | Failure::NotWritable(_) | Failure::NotReady(_))) => {
                return false;
            }
            // An error is an answer too (an ACL may forbid `PING`).
            Some(_) => return true,
            // Answers to earlier calls came in the meantime: slow, not silent.
            None if connection.answered_us() >= asked_us => {}
            None => {
                tracing::warn!("redis was silent for redis.read_timeout");
                return false;
            }
        }
    }
}

/// Ready when the password file holds another password; never without one.
async fn password_changed(settings: &Redis, password: &SecretString) {
    if settings.password_file.is_empty() {
        std::future::pending::<()>().await;
    }
    loop {
        sleep(PASSWORD_EVERY).await;
        // A file that cannot be read is being replaced, or is missed at the next connect.
        if let Ok(now) = connect::password(settings).await
            && now.expose_secret() != password.expose_secret()
        {
            return;
        }
    }
}
