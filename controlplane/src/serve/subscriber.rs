//! One data plane's stream: what it was sent, what it answered, and what it gets next.
//!
//! At most one snapshot is unanswered; whatever was published meanwhile is skipped but for the newest. Each stream is
//! a task of its own with a bounded queue, so a slow data plane delays nobody.

use edgequota_policy::{Hash, Snapshot, Version};
use edgequota_proto::{
    control::{self, FromDataPlane, from_control_plane::Message, from_data_plane},
    envelope,
};
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast::error::RecvError, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::{Shared, accept::Peer, hello, outbound::Outbound, retry::Retry};
use crate::{
    fleet::{Changed, Command, Member, NackClass, Rejection},
    publish::{BOUNDS, Met, Published},
};

pub(crate) struct Subscriber {
    shared: Shared,
    peer: Peer,
    authenticated: bool,
    member: Member,
    outbound: Outbound,
    node: String,
    /// Its first Hello came.
    greeted: bool,
    held: Option<Version>,
    /// Sent and not answered.
    pending: Option<Version>,
    /// The version it was last told that it has.
    told: Option<Version>,
    /// The last reason for silence that it was told, so that it is told once.
    waiting: Option<String>,
    retry: Retry,
    /// Something is to be sent as soon as it is this stream's turn.
    wants_turn: bool,
    turn: Option<Turn>,
    heard: Instant,
    handing_over: Option<oneshot::Sender<Snapshot>>,
}

/// The right to write a snapshot, given back once the transport took it or did not take it in time.
struct Turn {
    _permit: OwnedSemaphorePermit,
    taken: oneshot::Receiver<()>,
    until: Instant,
}

impl Turn {
    async fn over(turn: &mut Option<Turn>) {
        match turn {
            None => std::future::pending().await,
            Some(turn) => {
                tokio::select! {
                    _ = &mut turn.taken => {}
                    () = sleep_until(turn.until) => {}
                }
            }
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        None => std::future::pending().await,
        Some(when) => sleep_until(when).await,
    }
}

/// The two sources that only the loop reads.
pub(crate) struct Inputs {
    messages: Streaming<FromDataPlane>,
    commands: mpsc::Receiver<Command>,
}

impl Subscriber {
    pub(crate) fn new(
        shared: Shared,
        peer: Peer,
        authenticated: bool,
        member: Member,
        outbound: Outbound,
    ) -> Subscriber {
        let retry = Retry::new(shared.times.retry_first, shared.times.retry_most);
        Subscriber {
            shared,
            peer,
            authenticated,
            member,
            outbound,
            node: peer.address.to_string(),
            greeted: false,
            held: None,
            pending: None,
            told: None,
            waiting: None,
            retry,
            wants_turn: false,
            turn: None,
            heard: Instant::now(),
            handing_over: None,
        }
    }

    /// Until either side goes.
    pub(crate) async fn run(mut self, messages: Streaming<FromDataPlane>, commands: mpsc::Receiver<Command>) {
        let end = self.follow(Inputs { messages, commands }).await;
        match end {
            Ok(()) => debug!(node = self.node, "a data plane left"),
            Err(status) => {
                info!(node = self.node, peer = %self.peer.address, reason = status.message(), "a data plane's stream ends");
                self.outbound.end(status);
            }
        }
    }

    async fn follow(&mut self, mut inputs: Inputs) -> Result<(), Status> {
        let times = self.shared.times;
        let ending = self.shared.ending.clone();
        let mut published = self.shared.publisher.subscribe();
        let mut size = self.shared.fleet.size();
        let mut hints = self.shared.fleet.changed_counters();
        let mut beat = interval(times.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let patience = if self.greeted { times.dead } else { times.hello };
            let turns = self.shared.turns();
            tokio::select! {
                // In this order: what was said counts before the clock, so that a busy machine does not make a data
                // plane dead whose words are waiting here. One that floods us delays nobody but itself.
                biased;
                () = ending.cancelled() => return Err(Status::unavailable("the control plane leaves")),
                () = self.outbound.closed() => return Ok(()),
                message = inputs.messages.message() => match message {
                    Ok(Some(message)) => self.heard(message).await?,
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        debug!(node = self.node, %status, "a data plane's stream broke");
                        return Ok(());
                    }
                },
                command = inputs.commands.recv() => match command {
                    Some(Command::HandOver(answer)) => self.ask_for_current(answer),
                    Some(Command::Replaced) | None => {
                        return Err(Status::aborted("the same data plane has a newer stream"));
                    }
                },
                changed = published.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.push(None);
                }
                changed = size.changed() => {
                    if changed.is_ok() {
                        self.tell_size(*size.borrow_and_update());
                    }
                }
                hint = hints.recv() => match hint {
                    Ok(changed) => self.pass_on(&changed),
                    // Hints that were missed are not worth a word: nothing is remembered for longer than a second.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Ok(()),
                },
                permit = turns.acquire_owned(), if self.wants_turn => self.push(permit.ok()),
                () = Turn::over(&mut self.turn) => self.turn = None,
                () = at(self.retry.due(Instant::now())) => self.push(None),
                () = sleep_until(self.heard + patience) => {
                    return Err(Status::deadline_exceeded("the data plane was silent for too long"));
                }
                _ = beat.tick() => {
                    self.outbound.send(Message::Heartbeat(control::Heartbeat {}));
                    // Also the second chance for what a full queue did not take.
                    self.push(None);
                }
            }
        }
    }

    async fn heard(&mut self, message: FromDataPlane) -> Result<(), Status> {
        self.heard = Instant::now();
        self.member.heard();
        match message.message {
            Some(from_data_plane::Message::Hello(said)) => self.hello(&said),
            _ if !self.greeted => Err(Status::invalid_argument("the first message must be a Hello")),
            Some(from_data_plane::Message::Ack(ack)) => self.acked(ack),
            Some(from_data_plane::Message::Nack(nack)) => self.nacked(nack),
            Some(from_data_plane::Message::Current(snapshot)) => self.handed_over(snapshot).await,
            // A message that this binary does not know yet is none of its business.
            Some(from_data_plane::Message::Heartbeat(_)) | None => Ok(()),
        }
    }

    fn hello(&mut self, said: &control::Hello) -> Result<(), Status> {
        let identity = hello::identity(said).map_err(Status::invalid_argument)?;
        let holds = said.holds.as_ref().map(hello::version).transpose().map_err(Status::invalid_argument)?;
        holds.map_or(Ok(()), |version| self.plausible(version))?;
        let source = match said.source.as_str() {
            source @ ("control_plane" | "state_dir" | "own_file") => source,
            _ => "",
        };
        if !self.greeted {
            self.node.clone_from(&identity.node);
            info!(node = self.node, peer = %self.peer.address, binary = identity.binary, workers = identity.workers,
                  holds = holds.map(|v| v.generation), source, "a data plane subscribes");
        }
        self.greeted = true;
        self.held = holds;
        self.told = None;
        self.waiting = None;
        self.retry.clear();
        self.member.hello(identity, holds, source.to_owned());
        self.meet();
        self.tell_size(*self.shared.fleet.size().borrow());
        self.push(None);
        Ok(())
    }

    /// Acks and refusals need no such check: they count only for a version that was sent.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    fn plausible(&self, version: Version) -> Result<(), Status> {
        if self.shared.publisher.plausible(version.generation, std::time::SystemTime::now()) {
            return Ok(());
        }
        Err(Status::invalid_argument("version.generation is beyond any clock: is this host's state_dir damaged?"))
    }

    /// Remembers the generation that it holds, and reports one that is newer than ours.
    fn meet(&mut self) {
        let Some(held) = self.held else { return };
        if self.shared.publisher.met(held) == Met::Newer {
            let deference = self.shared.times.deference;
            self.member.withheld(&format!(
                "holds generation {} of another control plane; it is left alone for {deference:?}",
                held.generation
            ));
            // Full: as many others are reported, and one is enough to make us look.
            let _ = self.shared.newer.try_send(held);
        }
    }

    fn acked(&mut self, ack: control::Ack) -> Result<(), Status> {
        let version = wire_version(ack.version)?;
        if self.pending == Some(version) {
            self.pending = None;
            debug!(node = self.node, generation = version.generation, "policy accepted");
        } else if self.told != Some(version) {
            debug!(node = self.node, generation = version.generation, "an ack for what was not sent is ignored");
            return Ok(());
        }
        self.held = Some(version);
        self.told = Some(version);
        self.retry.accepted(version.hash);
        self.member.acked(version);
        self.push(None);
        Ok(())
    }

    fn nacked(&mut self, nack: control::Nack) -> Result<(), Status> {
        let class = match nack.class() {
            control::nack::Class::Local => NackClass::Local,
            control::nack::Class::Unsupported | control::nack::Class::Unspecified => NackClass::Unsupported,
        };
        let version = wire_version(nack.version)?;
        if self.pending != Some(version) {
            debug!(node = self.node, generation = version.generation, "a nack for what was not sent is ignored");
            return Ok(());
        }
        self.pending = None;
        let (reason, path) = (hello::reason(&nack.reason), hello::reason(&nack.path));
        warn!(
            node = self.node,
            generation = version.generation,
            class = class.as_str(),
            reason,
            path,
            "a data plane refused the policy"
        );
        self.shared.counts.nacks.with(&[class.as_str()]).inc();
        match class {
            NackClass::Unsupported => self.retry.unsupported(version.hash),
            NackClass::Local => self.retry.local(version.hash, Instant::now()),
        }
        self.member.nacked(Rejection { version, class, reason, path, at: std::time::SystemTime::now() });
        self.push(None);
        Ok(())
    }

    /// Sends what is due, if anything is.
    fn push(&mut self, permit: Option<OwnedSemaphorePermit>) {
        self.wants_turn = false;
        if !self.greeted || self.pending.is_some() || self.shared.leaving.is_cancelled() {
            return;
        }
        let Some(current) = self.shared.publisher.current() else {
            self.say_waiting(&self.shared.publisher.waiting());
            return;
        };
        if let Some(held) = self.held {
            if held.hash == current.version.hash {
                return self.relabel(current.version);
            }
            if held.generation >= current.version.generation {
                return self.meet();
            }
        }
        if !self.retry.allows(current.version.hash, Instant::now()) {
            return;
        }
        if current.literal_secrets
            && let Some(reason) = self.shared.auth.withhold_secrets(self.peer.tls, self.authenticated)
        {
            return self.say_waiting(reason);
        }
        match permit.or_else(|| self.shared.turns().try_acquire_owned().ok()) {
            Some(permit) => self.send(&current, permit),
            None => self.wants_turn = true,
        }
    }

    fn send(&mut self, current: &Published, permit: OwnedSemaphorePermit) {
        let snapshot = control::Snapshot {
            version: Some(hello::to_wire(current.version)),
            gzip: current.gzip.clone(),
            plain_size: current.bytes.len() as u64,
        };
        // Not taken: the queue is full, the next heartbeat tries again.
        if let Some(taken) = self.outbound.send_tracked(Message::Snapshot(snapshot)) {
            self.shared.counts.snapshots.inc();
            self.pending = Some(current.version);
            self.waiting = None;
            self.member.sent(current.version);
            self.turn = Some(Turn { _permit: permit, taken, until: Instant::now() + self.shared.times.send_turn });
        }
    }

    fn relabel(&mut self, version: Version) {
        if self.told == Some(version) {
            return;
        }
        let message = control::Relabel { version: Some(hello::to_wire(version)) };
        if self.outbound.send(Message::Relabel(message)) {
            self.told = Some(version);
        }
    }

    fn say_waiting(&mut self, reason: &str) {
        // Empty: the files are being read for the first time, which takes a moment and is no news.
        if reason.is_empty() || self.waiting.as_deref() == Some(reason) {
            return;
        }
        if self.outbound.send(Message::Waiting(control::Waiting { reason: reason.to_owned() })) {
            warn!(node = self.node, reason, "a data plane gets no policy");
            self.member.withheld(reason);
            self.waiting = Some(reason.to_owned());
        }
    }

    fn tell_size(&self, size: Option<crate::fleet::Size>) {
        if let Some(size) = size.filter(|_| self.greeted) {
            self.outbound.send(Message::Fleet(control::Fleet { planes: size.planes, workers: size.workers }));
        }
    }

    fn pass_on(&self, changed: &Changed) {
        let secret = changed.secret && self.shared.auth.withhold_secrets(self.peer.tls, self.authenticated).is_some();
        if self.greeted && !secret {
            let keys = changed.keys.clone();
            self.outbound.hint(Message::CounterReset(control::CounterReset { keys }));
        }
    }

    fn ask_for_current(&mut self, answer: oneshot::Sender<Snapshot>) {
        // Not taken: the answer is dropped, and whoever asked turns to the next data plane.
        if self.outbound.send(Message::SendCurrent(control::SendCurrent {})) {
            self.handing_over = Some(answer);
        }
    }

    async fn handed_over(&mut self, wire: control::Snapshot) -> Result<(), Status> {
        let Some(answer) = self.handing_over.take() else {
            return Err(Status::invalid_argument("a policy was handed over that nobody asked for"));
        };
        let version = wire_version(wire.version)?;
        self.plausible(version)?;
        let unpacked = tokio::task::spawn_blocking(move || {
            let plain = envelope::unpack(&wire.gzip, wire.plain_size, BOUNDS).map_err(|e| e.to_string())?;
            if Hash::of(&plain) == version.hash { Ok(plain) } else { Err("its hash is wrong".to_owned()) }
        })
        .await
        .unwrap_or_else(|error| Err(error.to_string()));
        match unpacked {
            Ok(plain) => drop(answer.send(Snapshot { version, bytes: plain.into() })),
            Err(error) => warn!(node = self.node, error, "a data plane handed over a damaged policy"),
        }
        Ok(())
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn wire_version(version: Option<control::Version>) -> Result<Version, Status> {
    version
        .as_ref()
        .ok_or_else(|| "version is missing".to_owned())
        .and_then(hello::version)
        .map_err(Status::invalid_argument)
}
