//! One stream, from the Hello to its end.

use std::fmt;

use edgequota_policy::{Hash, PolicySpec, Version};
use edgequota_proto::{
    control::{
        self, FromControlPlane, FromDataPlane, control_plane_client::ControlPlaneClient, from_control_plane,
        from_data_plane::Message,
    },
    envelope,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, transport::Channel};
use tracing::{debug, info, warn};

use super::{
    Follower,
    apply::{self, BOUNDS, Prepared, Refused},
    fallback::Fallback,
    hints::Budget,
};

/// Answers that wait for the transport; a control plane that does not read them is dead by its heartbeats.
const QUEUE: usize = 16;
/// A snapshot and a little around it.
const MOST_MESSAGE: usize = BOUNDS.compressed + 64 * 1024;

/// Why a stream ended.
#[derive(Debug)]
pub(super) enum End {
    Token(super::connect::TokenError),
    Refused(tonic::Status),
    Closed,
    Silent,
    NotReading,
    Malformed(&'static str),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Token(error) => write!(f, "{error}"),
            End::Refused(status) => write!(f, "{}: {}", status.code(), status.message()),
            End::Closed => f.write_str("closed by the control plane"),
            End::Silent => f.write_str("the control plane was silent for too long"),
            End::NotReading => f.write_str("the control plane does not read"),
            End::Malformed(what) => write!(f, "the control plane sent {what}"),
        }
    }
}

struct Session<'f> {
    follower: &'f mut Follower,
    answers: mpsc::Sender<FromDataPlane>,
    heard: Instant,
    preparing: Option<(Version, JoinHandle<Result<Prepared, Refused>>)>,
    /// What is in force is not what the control plane wants: no heartbeat confirms it.
    behind: bool,
    budget: Budget,
}

/// Runs one stream over `channel` until it ends.
pub(super) async fn run(follower: &mut Follower, channel: Channel, fallback: &mut Fallback) -> End {
    let (answers, outgoing) = mpsc::channel(QUEUE);
    let times = follower.config.times;
    let budget = Budget::new(Instant::now());
    let mut session = Session { follower, answers, heard: Instant::now(), preparing: None, behind: false, budget };
    if !session.hello() {
        return End::NotReading;
    }
    let mut request = Request::new(ReceiverStream::new(outgoing));
    match session.follower.connector.token() {
        Ok(None) => {}
        Ok(Some(token)) => drop(request.metadata_mut().insert("authorization", token)),
        Err(error) => return End::Token(error),
    }
    let mut client = ControlPlaneClient::new(channel)
        .max_decoding_message_size(MOST_MESSAGE)
        .max_encoding_message_size(MOST_MESSAGE);
    let subscribed = {
        let subscribing = tokio::time::timeout(times.connect, client.subscribe(request));
        tokio::pin!(subscribing);
        loop {
            tokio::select! {
                subscribed = &mut subscribing => break subscribed,
                // A control plane that takes the connection and says nothing delays the first policy no longer.
                () = sleep_until(fallback.at), if fallback.armed(&session.follower.applier) => {
                    if fallback.fall_back(&mut session.follower.applier).await && !session.hello() {
                        return End::NotReading;
                    }
                }
            }
        }
    };
    let mut incoming = match subscribed {
        Err(_) => return End::Silent,
        Ok(Err(status)) => return End::Refused(status),
        Ok(Ok(response)) => response.into_inner(),
    };
    info!(address = session.follower.config.settings.address, "subscribed to the control plane");
    let mut beat = interval(times.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let step = tokio::select! {
            message = incoming.message() => match message {
                Ok(Some(message)) => session.heard(message).await,
                Ok(None) => Err(End::Closed),
                Err(status) => Err(End::Refused(status)),
            },
            prepared = prepared(&mut session.preparing) => session.prepared(prepared),
            _ = beat.tick() => session.say(Message::Heartbeat(control::Heartbeat {})),
            () = sleep_until(session.heard + times.dead) => Err(End::Silent),
            () = sleep_until(fallback.at), if fallback.armed(&session.follower.applier) => {
                // What it holds has changed by other means than a push: the control plane is told.
                if fallback.fall_back(&mut session.follower.applier).await && !session.hello() {
                    Err(End::NotReading)
                } else {
                    Ok(())
                }
            }
        };
        if let Err(end) = step {
            return end;
        }
    }
}

/// Resolves when the policy that is being compiled is done. Cancel safe: the handle stays where it is.
async fn prepared(
    preparing: &mut Option<(Version, JoinHandle<Result<Prepared, Refused>>)>,
) -> (Version, Result<Prepared, Refused>) {
    let Some((version, task)) = preparing else {
        return std::future::pending().await;
    };
    let version = *version;
    let result = task.await;
    *preparing = None;
    let result = result.unwrap_or_else(|error| Err(Refused::Local(format!("compiling failed: {error}"))));
    (version, result)
}

impl Session<'_> {
    fn say(&self, message: Message) -> Result<(), End> {
        let said = self.answers.try_send(FromDataPlane { message: Some(message) });
        said.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => End::NotReading,
            mpsc::error::TrySendError::Closed(_) => End::Closed,
        })
    }

    fn hello(&self) -> bool {
        let config = &self.follower.config;
        let held = self.follower.applier.holds();
        let hello = control::Hello {
            node: node(&config.settings.node_id),
            instance: self.follower.instance.clone(),
            labels: config.labels.clone(),
            binary: config.binary.clone(),
            workers: config.workers,
            holds: held.map(|(version, _)| to_wire(version)),
            source: held.map_or(String::new(), |(_, source)| source.as_str().to_owned()),
        };
        self.say(Message::Hello(hello)).is_ok()
    }

    async fn heard(&mut self, message: FromControlPlane) -> Result<(), End> {
        use from_control_plane::Message as Said;
        self.heard = Instant::now();
        match message.message {
            Some(Said::Snapshot(snapshot)) => self.pushed(snapshot),
            Some(Said::Relabel(relabel)) => self.relabelled(from_wire(relabel.version.as_ref())?),
            Some(Said::Heartbeat(_)) => {
                if !self.behind {
                    self.follower.applier.measured.confirm();
                }
                Ok(())
            }
            Some(Said::Fleet(fleet)) => {
                self.follower.hints.size(&fleet);
                Ok(())
            }
            Some(Said::SendCurrent(_)) => self.hand_over().await,
            Some(Said::Waiting(waiting)) => {
                warn!(reason = waiting.reason, "the control plane has no policy for this data plane");
                self.behind = true;
                self.follower.applier.say_waiting(Some(&waiting.reason));
                Ok(())
            }
            Some(Said::CounterReset(reset)) => {
                self.follower.hints.changed(&reset, &mut self.budget, self.heard);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn pushed(&mut self, snapshot: control::Snapshot) -> Result<(), End> {
        let version = from_wire(snapshot.version.as_ref())?;
        if self.preparing.is_some() {
            return Err(End::Malformed("a second policy before the first was answered"));
        }
        if let Err(refused) = self.follower.applier.check_newer(version) {
            return self.not_newer(version, &refused);
        }
        if self.follower.applier.relabel(version) {
            return self.accept(version);
        }
        let task = tokio::task::spawn_blocking(move || apply::unpack(&snapshot, version));
        self.preparing = Some((version, task));
        Ok(())
    }

    fn prepared(&mut self, (version, result): (Version, Result<Prepared, Refused>)) -> Result<(), End> {
        match result {
            Ok(prepared) => {
                // While it was being compiled, the kept policy may have been put in force.
                if let Err(refused) = self.follower.applier.check_newer(version) {
                    return self.not_newer(version, &refused);
                }
                self.follower.applier.put_pushed(prepared);
                self.accept(version)
            }
            Err(refused) => self.refuse(version, &refused),
        }
    }

    fn not_newer(&mut self, version: Version, refused: &Refused) -> Result<(), End> {
        self.refuse(version, refused)?;
        // It knows less than we hold: say it again.
        if self.hello() { Ok(()) } else { Err(End::NotReading) }
    }

    fn relabelled(&mut self, version: Version) -> Result<(), End> {
        if self.follower.applier.relabel(version) {
            return self.accept(version);
        }
        debug!(generation = version.generation, "a relabel for what is not held is answered with a hello");
        if self.hello() { Ok(()) } else { Err(End::NotReading) }
    }

    fn accept(&mut self, version: Version) -> Result<(), End> {
        self.behind = false;
        self.say(Message::Ack(control::Ack { version: Some(to_wire(version)) }))
    }

    fn refuse(&mut self, version: Version, refused: &Refused) -> Result<(), End> {
        self.behind = true;
        self.follower.applier.refused(version, refused);
        let (class, path) = match refused {
            Refused::Unsupported { path, .. } => (control::nack::Class::Unsupported, path.clone()),
            Refused::Local(_) | Refused::NotNewer { .. } => (control::nack::Class::Local, String::new()),
        };
        let mut nack = control::Nack {
            version: Some(to_wire(version)),
            reason: refused.to_string(),
            path,
            ..control::Nack::default()
        };
        nack.set_class(class);
        self.say(Message::Nack(nack))
    }

    /// Hands what is held to a control plane that has lost its own.
    async fn hand_over(&mut self) -> Result<(), End> {
        let Some(snapshot) = self.follower.applier.current() else {
            return Ok(());
        };
        let open = !self.follower.connector.encrypted() && !self.follower.config.settings.allow_insecure;
        let packed = tokio::task::spawn_blocking(move || {
            if open && PolicySpec::from_canonical(&snapshot.bytes).is_ok_and(|spec| spec.has_literal_secrets()) {
                return Err("it holds literal secrets and the stream is not encrypted".to_owned());
            }
            let gzip = envelope::pack(&snapshot.bytes, BOUNDS).map_err(|error| error.to_string())?;
            Ok(control::Snapshot {
                version: Some(to_wire(snapshot.version)),
                gzip,
                plain_size: snapshot.bytes.len() as u64,
            })
        })
        .await
        .unwrap_or_else(|error| Err(error.to_string()));
        match packed {
            Ok(snapshot) => {
                info!("the control plane asked for the policy that is held here, and gets it");
                self.say(Message::Current(snapshot))
            }
            Err(reason) => {
                warn!(reason, "the control plane asked for the policy that is held here, and does not get it");
                Ok(())
            }
        }
    }
}

/// `control_plane.node_id`, else the host's name.
fn node(configured: &str) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    if host.is_empty() { "unknown".to_owned() } else { host.to_owned() }
}

fn to_wire(version: Version) -> control::Version {
    control::Version { generation: version.generation, hash: version.hash.0.to_vec().into() }
}

fn from_wire(version: Option<&control::Version>) -> Result<Version, End> {
    let version = version.ok_or(End::Malformed("a message without a version"))?;
    let hash: [u8; 32] =
        version.hash.as_ref().try_into().map_err(|_| End::Malformed("a hash that is not 32 bytes long"))?;
    Ok(Version { generation: version.generation, hash: Hash(hash) })
}
