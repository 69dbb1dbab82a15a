//! A data plane that is nothing but a gRPC client: it says exactly what the test tells it to.

use std::{net::SocketAddr, time::Duration};

use edgequota_policy::{Hash, PolicySpec, Version};
use edgequota_proto::{
    control::{
        self, FromControlPlane, FromDataPlane, control_plane_client::ControlPlaneClient, from_control_plane,
        from_data_plane::Message, nack::Class,
    },
    envelope::{self, Bounds},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

pub type Said = from_control_plane::Message;
const BOUNDS: Bounds = Bounds { plain: 16 << 20, compressed: 4 << 20 };

/// A policy that is held: canonical bytes of the default limit's average.
pub fn bytes(average: i64) -> Vec<u8> {
    let mut spec = PolicySpec::default();
    spec.backend.url = "http://backend:8080".into();
    spec.rate_limit.average = average;
    spec.rate_limit.burst = 5;
    spec.resolved().canonical()
}

pub fn version(generation: u64, bytes: &[u8]) -> Version {
    Version { generation, hash: Hash::of(bytes) }
}

pub fn to_wire(version: Version) -> control::Version {
    control::Version { generation: version.generation, hash: version.hash.0.to_vec().into() }
}

fn from_wire(version: Option<control::Version>) -> Version {
    let version = version.expect("a version");
    Version { generation: version.generation, hash: Hash(version.hash.as_ref().try_into().unwrap()) }
}

/// A snapshot that came.
#[derive(Debug, Clone)]
pub struct Got {
    pub version: Version,
    pub spec: PolicySpec,
}

pub struct Plane {
    pub node: String,
    say: mpsc::Sender<FromDataPlane>,
    heard: Streaming<FromControlPlane>,
    /// Snapshots in the order they came, also those that a test looked past.
    pub snapshots: usize,
}

pub async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

impl Plane {
    /// Subscribes and says hello.
    pub async fn join(address: SocketAddr, node: &str, holds: Option<(Version, &str)>) -> Plane {
        let mut plane = Plane::silent(channel(address).await, node, None).await.unwrap();
        plane.hello(holds).await;
        plane
    }

    /// Subscribes without a word.
    pub async fn silent(channel: Channel, node: &str, token: Option<&str>) -> Result<Plane, Status> {
        let (say, outgoing) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let mut client = ControlPlaneClient::new(channel).max_decoding_message_size(8 << 20);
        let heard = client.subscribe(request).await?.into_inner();
        Ok(Plane { node: node.to_owned(), say, heard, snapshots: 0 })
    }

    pub async fn say(&self, message: Message) {
        // A stream that ended meanwhile shows when it is read.
        let _ = self.say.send(FromDataPlane { message: Some(message) }).await;
    }

    pub async fn hello(&mut self, holds: Option<(Version, &str)>) {
        self.say(Message::Hello(control::Hello {
            node: self.node.clone(),
            instance: format!("{}-instance", self.node),
            binary: "test".into(),
            workers: 2,
            holds: holds.map(|(version, _)| to_wire(version)),
            source: holds.map(|(_, source)| source.to_owned()).unwrap_or_default(),
            ..control::Hello::default()
        }))
        .await;
    }

    /// The next message; heartbeats and fleet sizes are skipped, heartbeats answered.
    pub async fn next(&mut self) -> Result<Said, Status> {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(10), self.heard.message()).await;
            let message = next.expect("something is said within 10 s")?;
            match message.ok_or_else(|| Status::ok("closed"))?.message.expect("a message") {
                Said::Heartbeat(_) => self.say(Message::Heartbeat(control::Heartbeat {})).await,
                Said::Fleet(_) => {}
                other => {
                    self.snapshots += usize::from(matches!(other, Said::Snapshot(_)));
                    return Ok(other);
                }
            }
        }
    }

    /// The next message of any kind, without answering heartbeats.
    pub async fn next_quietly(&mut self) -> Result<Said, Status> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.heard.message()).await;
        let message = next.expect("something is said within 10 s")?;
        Ok(message.ok_or_else(|| Status::ok("closed"))?.message.expect("a message"))
    }

    /// What is said within `time`, heartbeats aside.
    pub async fn within(&mut self, time: Duration) -> Vec<Said> {
        let mut said = Vec::new();
        let until = tokio::time::Instant::now() + time;
        while let Ok(Ok(message)) = tokio::time::timeout_at(until, self.next()).await {
            said.push(message);
        }
        said
    }

    pub async fn fleet(&mut self) -> control::Fleet {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(10), self.heard.message()).await;
            let message = next.expect("something is said within 10 s").unwrap().expect("a message");
            if let Some(Said::Fleet(fleet)) = message.message {
                return fleet;
            }
            self.say(Message::Heartbeat(control::Heartbeat {})).await;
        }
    }

    pub async fn snapshot(&mut self) -> Got {
        match self.next().await.unwrap() {
            Said::Snapshot(snapshot) => {
                let plain = envelope::unpack(&snapshot.gzip, snapshot.plain_size, BOUNDS).unwrap();
                let version = from_wire(snapshot.version);
                assert_eq!(Hash::of(&plain), version.hash);
                Got { version, spec: PolicySpec::from_canonical(&plain).unwrap() }
            }
            other => panic!("a snapshot, not {other:?}"),
        }
    }

    pub async fn relabel(&mut self) -> Version {
        match self.next().await.unwrap() {
            Said::Relabel(relabel) => from_wire(relabel.version),
            other => panic!("a relabel, not {other:?}"),
        }
    }

    pub async fn ack(&self, version: Version) {
        self.say(Message::Ack(control::Ack { version: Some(to_wire(version)) })).await;
    }

    pub async fn nack(&self, version: Version, class: Class, reason: &str) {
        self.say(Message::Nack(control::Nack {
            version: Some(to_wire(version)),
            class: class.into(),
            reason: reason.into(),
            path: "routes[0]".into(),
        }))
        .await;
    }

    /// Accepts a snapshot without inflating it.
    pub async fn accept_unread(&mut self) -> Version {
        match self.next().await.unwrap() {
            Said::Snapshot(snapshot) => {
                let version = from_wire(snapshot.version);
                self.ack(version).await;
                version
            }
            other => panic!("a snapshot, not {other:?}"),
        }
    }

    /// Gets a snapshot and accepts it.
    pub async fn take(&mut self) -> Got {
        let got = self.snapshot().await;
        self.ack(got.version).await;
        got
    }

    /// Answers the request for what it holds.
    pub async fn hand_over(&mut self, version: Version, bytes: &[u8]) {
        loop {
            match self.next().await.unwrap() {
                Said::SendCurrent(_) => break,
                Said::Waiting(_) => {}
                other => panic!("a request for the policy, not {other:?}"),
            }
        }
        let gzip = envelope::pack(bytes, BOUNDS).unwrap();
        self.say(Message::Current(control::Snapshot {
            version: Some(to_wire(version)),
            gzip,
            plain_size: bytes.len() as u64,
        }))
        .await;
    }
}
