//! `sentinel`: the primary is whom the Sentinels name, once it says so itself.
//!
//! There is one connection to each Sentinel, which is asked and listened to: `+switch-master` is followed at once. Whom most
//! of them name comes first; who does not answer has no voice.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use edgequota_config::settings::Redis;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use redis::{Cmd, PushInfo, PushKind, Value, aio::MultiplexedConnection};
use secrecy::SecretString;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{BELIEVED, LOOKED, Scout, again_in, patience};
use crate::store::redis::{
    common::Obstacle,
    connect,
    dial::{Login, dial},
    endpoint::Endpoint,
    failure::Failure,
    role::{Role, text},
    target::{Target, publish},
};

const SWITCHED: &str = "+switch-master";
/// Longest wait for one Sentinel's answer.
const ANSWER: Duration = Duration::from_secs(1);
/// With one answer there, others may still come within this time.
const OTHERS: Duration = Duration::from_millis(100);
/// How often it is looked whether a Sentinel is still there.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Longest pause between two attempts to reach a Sentinel.
const PAUSE: Duration = Duration::from_secs(15);
/// Switches that may wait to be looked at; more are the same news.
const NEWS: usize = 16;

/// A Sentinel and the connection to it, when there is one.
struct Sentinel {
    endpoint: Endpoint,
    line: Mutex<Option<Line>>,
}

#[derive(Clone)]
struct Line {
    handle: MultiplexedConnection,
    /// It tells of a switch.
    tells: bool,
}

/// Something happened.
enum News {
    /// A Sentinel says that this is the primary now.
    Switched(Endpoint),
    /// A Sentinel can be asked that could not before, or cannot.
    Tried,
}

/// Never ready.
pub(super) async fn follow(scout: &Scout<'_>, target: &watch::Sender<Target>, doubts: &Notify) {
    let endpoints = scout.settings.endpoints.iter().filter_map(|text| Endpoint::parse(text));
    let sentinels: Vec<Sentinel> = endpoints.map(|endpoint| Sentinel { endpoint, line: Mutex::default() }).collect();
    let (news, told) = mpsc::channel(NEWS);
    let listening = join_all(sentinels.iter().map(|sentinel| listen(scout, sentinel, &news)));
    tokio::select! {
        _ = listening => {}
        () = decide(scout, &sentinels, target, doubts, told) => {}
    }
}

async fn decide(
    scout: &Scout<'_>,
    sentinels: &[Sentinel],
    target: &watch::Sender<Target>,
    doubts: &Notify,
    mut told: mpsc::Receiver<News>,
) {
    let mut switched = None;
    // The first connection, or the first that could not be made.
    let _ = timeout(patience(scout.settings), told.recv()).await;
    loop {
        let looked = Instant::now();
        let mut named = ask_all(scout, sentinels).await;
        let reached = !named.is_empty();
        // Who has just switched knows best.
        if let Some(endpoint) = switched.take() {
            named.retain(|known| *known != endpoint);
            named.insert(0, endpoint);
        }
        let refused = Mutex::default();
        let roles = join_all(named.iter().map(|endpoint| scout.role(endpoint, &refused))).await;
        let found = named.iter().zip(&roles).find(|(_, role)| matches!(role, Some(Role::Primary(_))));
        let known = target.borrow().place().map(|place| place.endpoint.clone());
        match found {
            Some((endpoint, _)) => {
                if publish(target, Target::at(endpoint.clone())) {
                    tracing::info!(%endpoint, "the sentinels name this primary");
                }
            }
            None => {
                let demoted = match &known {
                    None => true,
                    Some(known) => scout.role(known, &refused).await == Some(Role::Replica),
                };
                if demoted && publish(target, Target::Nowhere) {
                    let why = if reached { "whom the sentinels name is no primary" } else { "no sentinel names one" };
                    tracing::warn!(why, master_name = scout.settings.master_name, "there is no primary");
                }
            }
        }
        scout.looked(found.is_some(), &refused);
        let tells = sentinels.iter().any(|sentinel| sentinel.line().is_some_and(|line| line.tells));
        let pause = if found.is_some() && tells { BELIEVED } else { Duration::from_secs(1) };
        tokio::select! {
            () = sleep_until(looked + again_in(pause)) => {}
            () = doubts.notified() => sleep_until(looked + LOOKED).await,
            news = told.recv() => {
                if let Some(News::Switched(endpoint)) = news {
                    switched = Some(endpoint);
                }
            }
        }
    }
}

/// Whom they name, the most named first.
async fn ask_all(scout: &Scout<'_>, sentinels: &[Sentinel]) -> Vec<Endpoint> {
    let master = &scout.settings.master_name;
    let mut question = Cmd::new();
    question.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let (question, refused) = (&question, &Mutex::new(None));
    let asked = sentinels.iter().filter_map(|sentinel| Some((sentinel, sentinel.line()?)));
    let mut asked: FuturesUnordered<_> = asked
        .map(|(sentinel, mut line)| async move {
            let answer = timeout(ANSWER, line.handle.send_packed_command(question)).await.ok()?;
            match answer.and_then(Value::extract_error) {
                Ok(value) => address(&value, &sentinel.endpoint, master),
                Err(error) => {
                    let failure = Failure::of(&error, "");
                    if let Failure::NoPermission(message) = &failure {
                        *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.clone());
                    }
                    tracing::debug!(sentinel = %sentinel.endpoint, ?failure, "a sentinel does not say who is the primary");
                    None
                }
            }
        })
        .collect();
    let mut votes: Vec<(usize, Endpoint)> = Vec::new();
    let mut end = Instant::now() + ANSWER;
    while let Ok(Some(answer)) = timeout_at(end, asked.next()).await {
        let Some(endpoint) = answer else { continue };
        end = end.min(Instant::now() + OTHERS);
        match votes.iter_mut().find(|(_, known)| *known == endpoint) {
            Some((votes, _)) => *votes += 1,
            None => votes.push((1, endpoint)),
        }
    }
    let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
    let obstacle = refused.filter(|_| votes.is_empty());
    let rule = "+sentinel|get-master-addr-by-name is missing at the sentinels";
    let obstacle = obstacle.map(|message| format!("{rule} ({message})"));
    scout.common.obstacle_is(Obstacle::Directory, obstacle.as_deref());
    votes.sort_by_key(|(votes, _)| std::cmp::Reverse(*votes));
    votes.into_iter().map(|(_, endpoint)| endpoint).collect()
}

fn address(value: &Value, sentinel: &Endpoint, master: &str) -> Option<Endpoint> {
    let Value::Array(items) = value else {
        tracing::warn!(%sentinel, master_name = master, "a sentinel does not know redis.master_name");
        return None;
    };
    let [host, port] = items.as_slice() else { return None };
    Some(Endpoint::new(&text(host)?, text(port)?.parse().ok()?))
}

impl Sentinel {
    fn line(&self) -> Option<Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, line: Option<Line>) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }
}

/// Keeps the connection to one Sentinel. Never ready.
async fn listen(scout: &Scout<'_>, sentinel: &Sentinel, news: &mpsc::Sender<News>) {
    let mut pause = Duration::from_secs(1);
    loop {
        let born = Instant::now();
        if let Err(error) = hear(scout, sentinel, news).await {
            tracing::warn!(sentinel = %sentinel.endpoint, error, "no connection to a sentinel");
        }
        sentinel.set(None);
        let _ = news.try_send(News::Tried);
        pause = if born.elapsed() > PAUSE { Duration::from_secs(1) } else { (pause * 2).min(PAUSE) };
        sleep(pause.mul_f64(fastrand::f64())).await;
    }
}

/// Connects and listens until the connection is gone.
async fn hear(scout: &Scout<'_>, sentinel: &Sentinel, news: &mpsc::Sender<News>) -> Result<(), String> {
    let _permit = scout.common.budget.one(&sentinel.endpoint).await;
    let password = connect::sentinel_password(scout.settings).await.map_err(|error| error.to_string())?;
    let gone = Arc::new(Notify::new());
    let pushed = {
        let (news, gone, master) = (news.clone(), Arc::clone(&gone), scout.settings.master_name.clone());
        move |info: PushInfo| match info.kind {
            PushKind::Disconnection => gone.notify_one(),
            PushKind::Message => {
                if let Some(endpoint) = switch(&info.data, &master) {
                    let _ = news.try_send(News::Switched(endpoint));
                }
            }
            _ => {}
        }
    };
    let login = login(scout.settings, &password);
    let dialled = dial(&sentinel.endpoint, &login, pushed).await.map_err(|error| error.to_string())?;
    let (mut handle, mut tells) = (dialled.handle, dialled.pushes);
    if tells && let Err(error) = handle.subscribe(SWITCHED).await {
        tracing::warn!(sentinel = %sentinel.endpoint, %error, "a sentinel will not tell of a switch: it is asked every second");
        tells = false;
    }
    sentinel.set(Some(Line { handle: handle.clone(), tells }));
    let _ = news.try_send(News::Tried);
    let mut ping = Cmd::new();
    ping.arg("PING");
    loop {
        tokio::select! {
            () = gone.notified() => return Err("the connection is gone".to_owned()),
            () = sleep(PING_EVERY) => {}
        }
        match timeout(ANSWER, handle.send_packed_command(&ping)).await {
            Ok(Err(error)) if error.is_unrecoverable_error() => return Err(error.to_string()),
            // An error is an answer too (an ACL may forbid `PING`).
            Ok(_) => {}
            Err(_) => return Err("it does not answer".to_owned()),
        }
    }
}

fn login<'a>(settings: &'a Redis, password: &'a SecretString) -> Login<'a> {
    Login {
        username: &settings.sentinel_username,
        password,
        db: 0,
        tls: settings.sentinel_tls.as_ref().unwrap_or(&settings.tls),
        ..connect::login(settings, password)
    }
}

/// The new primary of `master` in a message of `+switch-master`: name, old host, old port, new host, new port.
fn switch(message: &[Value], master: &str) -> Option<Endpoint> {
    let payload = text(message.last()?)?;
    let mut words = payload.split(' ');
    (words.next()? == master).then_some(())?;
    let (host, port) = (words.nth(2)?, words.next()?);
    Some(Endpoint::new(host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_heeded_when_it_is_of_our_primary() {
        let message = |payload: &str| {
            ["+switch-master", payload].map(|word| Value::BulkString(word.as_bytes().to_vec())).to_vec()
        };
        let told = message("mymaster 10.0.0.1 6379 10.0.0.2 6380");
        assert_eq!(switch(&told, "mymaster"), Some(Endpoint::new("10.0.0.2", 6380)));
        assert_eq!(switch(&told, "other"), None);
        for garbage in ["", "mymaster", "mymaster a 1 b", "mymaster a 1 b x"] {
            assert_eq!(switch(&message(garbage), "mymaster"), None, "{garbage}");
        }
    }
}
