//! The task that keeps one slot supplied with a good connection.
//!
//! A connection is replaced when it breaks, when the server cannot count any more (READONLY, MASTERDOWN), when nothing was
//! received for `redis.read_timeout` with calls outstanding, and when the target, settings or the password file change; in
//! the last cases the old one serves until the new one counted. Certificates are read for each connection.

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

use super::{PING, Primary, Slot, connection::Connection, health::Problem};
use crate::store::redis::{
    budget::Permit,
    changed,
    connect::{self, ConnectError, Made},
    failure::Failure,
    probe,
    target::{Place, Target},
};

/// A connection that ends sooner is treated like a failed connect, so that no server state makes a tight loop.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// A server that refused something is tried again so often, whether or not there are calls.
const PROBLEM_EVERY: Duration = Duration::from_secs(5);
/// The longest that this may take.
const PROBE: Duration = Duration::from_secs(1);
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

/// What a connection must be like.
struct Wishes {
    settings: watch::Receiver<Arc<Redis>>,
    target: watch::Receiver<Target>,
}

impl Wishes {
    fn now(&mut self) -> (Arc<Redis>, Target) {
        (self.settings.borrow_and_update().clone(), self.target.borrow_and_update().clone())
    }

    /// Ready when they changed; never once nobody can change them any more.
    async fn changed(&mut self) {
        tokio::select! {
            () = changed(&mut self.settings) => {}
            () = changed(&mut self.target) => {}
        }
    }
}

/// Runs until the server is no longer counted on.
pub(super) async fn supervise(mut leave: Leave) {
    let (primary, slot) = (Arc::clone(&leave.primary), leave.slot);
    let mut wishes = Wishes { settings: primary.common.settings(), target: primary.target.clone() };
    loop {
        let (settings, target) = wishes.now();
        let Some(place) = target.place() else {
            if target == Target::Nowhere {
                primary.give_up(slot);
                leave.tried();
            }
            tokio::select! {
                () = wishes.changed() => continue,
                () = primary.stop.cancelled() => return,
            }
        };
        let made = tokio::select! {
            made = make(&primary, slot, &settings, place) => made,
            () = keep(&primary, slot, &settings) => return,
            () = wishes.changed() => {
                primary.dialling.start_over().await;
                continue;
            }
            () = primary.stop.cancelled() => return,
        };
        let end = match made {
            Ok((made, permit, password)) => {
                let born = Instant::now();
                let connection = install(&primary, slot, place, made, permit);
                leave.tried();
                let end = tend(&primary, &connection, place, &mut wishes, &settings, &password).await;
                if end == End::Lost && born.elapsed() < SHORT_LIFE {
                    primary.dialling.short_lived().await;
                }
                end
            }
            Err(error) => {
                primary.tries.send_modify(|tries| tries.failed = true);
                leave.tried();
                primary.common.counted.redis_errors.inc();
                tracing::warn!(%error, "no connection to redis");
                End::Lost
            }
        };
        match end {
            End::Stop => return,
            End::Replace => primary.dialling.start_over().await,
            End::Lost => {
                primary.look_around();
                primary.doubts.notify_one();
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

/// One attempt, when it is this slot's turn and there is room for a connection more.
async fn make(
    primary: &Primary,
    slot: usize,
    settings: &Redis,
    place: &Place,
) -> Result<(Made, Permit, SecretString), ConnectError> {
    let mut turn = primary.dialling.turn().await;
    let budget = &primary.common.budget;
    let permit = match budget.one_now(&place.endpoint) {
        Some(permit) => permit,
        None => {
            // The old connection makes room; until the new one is there the others serve.
            if let Some(connection) = primary.slots[slot].connection.swap(None) {
                connection.condemn();
            }
            budget.one(&place.endpoint).await
        }
    };
    let attempt = async {
        let password = connect::password(settings).await?;
        let made = connect::connect(settings, place, &password, &primary.common.node).await?;
        Ok((made, permit, password))
    };
    let attempt = attempt.await;
    match &attempt {
        Ok(_) => turn.succeeded(),
        Err(_) => turn.failed(),
    }
    attempt
}

fn install(primary: &Primary, slot: usize, place: &Place, made: Made, permit: Permit) -> Arc<Connection> {
    if let Some(message) = &made.permission {
        primary.common.counted.permission_errors.inc();
        primary.report(Problem::rule(message));
    }
    if let Some(message) = &made.unable {
        primary.report(Problem::unable(message));
    }
    if let Some(policy) = &made.eviction {
        let evicts = policy != "noeviction";
        if primary.evicts.swap(evicts, Ordering::Relaxed) != evicts && evicts {
            tracing::warn!(%policy, "redis may evict counters, each eviction hands out a burst: set maxmemory-policy noeviction");
        }
    }
    tracing::info!(endpoint = %place.endpoint, slot, "connected to redis");
    let connection = Arc::new(Connection::new(place.endpoint.clone(), permit, made.handle, made.fate));
    primary.slots[slot].connection.store(Some(Arc::clone(&connection)));
    primary.close_breaker("connected");
    primary.connected.notify_waiters();
    primary.dialling.now();
    connection
}

async fn tend(
    primary: &Primary,
    connection: &Connection,
    place: &Place,
    wishes: &mut Wishes,
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
                let answers = tokio::select! {
                    answers = still_answers(primary, connection, settings) => answers,
                    // Whoever is silent here is not waited for when it is known who counts instead.
                    () = wishes.changed() => return End::Replace,
                };
                if !answers {
                    connection.condemn();
                    return End::Lost;
                }
            }
            () = wishes.changed() => return End::Replace,
            () = sleep(PROBLEM_EVERY), if primary.has_problem.load(Ordering::Relaxed) => {
                let mut handle = connection.handle();
                let probed = timeout(PROBE, probe::probe(&mut handle, place.slot)).await;
                if matches!(probed, Ok(Ok(None))) {
                    primary.mended();
                }
            }
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
        let asked_us = primary.common.now_us();
        let exchange = primary.exchange(connection, &ping, PING, false);
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
