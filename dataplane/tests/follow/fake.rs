//! A control plane that is nothing but a gRPC server, and a follower of it.

#![allow(unreachable_pub, reason = "a module of one test")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use edgequota_config::{Document, load::Environment, state::StateDir};
use edgequota_counters::FleetSize;
use edgequota_dataplane::{
    follow::{Config, Hints, Times, follow},
    policy_slot::PolicySlot,
};
use edgequota_ops::{metrics::Metrics, probes::Probes};
use edgequota_policy::{Hash, PolicySpec, Version};
use edgequota_proto::{
    control::{
        self, FromControlPlane, FromDataPlane,
        control_plane_server::{ControlPlane, ControlPlaneServer},
        from_control_plane::Message as Say,
        from_data_plane::Message as Said,
    },
    envelope::{self, Bounds},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::Instant};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub const BOUNDS: Bounds = Bounds { plain: 16 << 20, compressed: 4 << 20 };

/// The only place that sleeps: until something is so, or 10 s.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn spec(average: i64) -> PolicySpec {
    let mut spec = PolicySpec::default();
    spec.backend.url = "http://backend:8080".into();
    spec.rate_limit.average = average;
    spec.resolved()
}

pub fn bytes(average: i64) -> Vec<u8> {
    spec(average).canonical()
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

pub struct Fake {
    pub address: SocketAddr,
    streams: mpsc::Receiver<Subscribed>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Accepting(mpsc::Sender<Subscribed>);

/// One subscriber.
pub struct Subscribed {
    say: mpsc::Sender<Result<FromControlPlane, Status>>,
    heard: Streaming<FromDataPlane>,
    /// The `authorization` it showed.
    pub authorization: Option<String>,
}

#[tonic::async_trait]
impl ControlPlane for Accepting {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<FromControlPlane, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<FromDataPlane>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (say, outgoing) = mpsc::channel(16);
        let authorization = request.metadata().get("authorization").map(|v| v.to_str().unwrap().to_owned());
        let subscribed = Subscribed { say, heard: request.into_inner(), authorization };
        let _ = self.0.send(subscribed).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

impl Fake {
    pub async fn start() -> Fake {
        Fake::with(None).await
    }

    /// Over TLS, if that is given.
    pub async fn with(tls: Option<tokio_rustls::TlsAcceptor>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::channel(4);
        let service = ControlPlaneServer::new(Accepting(sender)).max_decoding_message_size(8 << 20);
        let task = tokio::spawn(async move {
            if let Some(tls) = tls {
                let (ready, incoming) = mpsc::channel(4);
                tokio::spawn(async move {
                    while let Ok((tcp, _)) = listener.accept().await {
                        // A failed handshake is the client's matter.
                        if let Ok(stream) = tls.accept(tcp).await {
                            let _ = ready.send(Ok::<_, std::io::Error>(stream)).await;
                        }
                    }
                });
                let server = tonic::transport::Server::builder().add_service(service);
                return server.serve_with_incoming(ReceiverStream::new(incoming)).await.unwrap();
            }
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Fake { address, streams, task }
    }

    pub async fn accept(&mut self) -> Subscribed {
        let next = tokio::time::timeout(Duration::from_secs(10), self.streams.recv()).await;
        next.expect("a stream within 10 s").unwrap()
    }
}

impl Subscribed {
    pub async fn say(&self, message: Say) {
        self.say.send(Ok(FromControlPlane { message: Some(message) })).await.unwrap();
    }

    pub async fn push(&self, version: Version, plain: &[u8]) {
        let gzip = envelope::pack(plain, BOUNDS).unwrap();
        let snapshot = control::Snapshot { version: Some(to_wire(version)), gzip, plain_size: plain.len() as u64 };
        self.say(Say::Snapshot(snapshot)).await;
    }

    pub async fn relabel(&self, version: Version) {
        self.say(Say::Relabel(control::Relabel { version: Some(to_wire(version)) })).await;
    }

    pub async fn any(&mut self) -> Said {
        let next = tokio::time::timeout(Duration::from_secs(10), self.heard.message()).await;
        next.expect("a word within 10 s").unwrap().expect("an open stream").message.expect("a message")
    }

    /// The next word but heartbeats, which are answered.
    pub async fn next(&mut self) -> Said {
        loop {
            match self.any().await {
                Said::Heartbeat(_) => self.say(Say::Heartbeat(control::Heartbeat {})).await,
                other => return other,
            }
        }
    }

    pub async fn nothing_for(&mut self, time: Duration) {
        if let Ok(said) = tokio::time::timeout(time, self.next()).await {
            panic!("nothing, not {said:?}");
        }
    }

    pub async fn hello(&mut self) -> control::Hello {
        match self.next().await {
            Said::Hello(hello) => hello,
            other => panic!("a hello, not {other:?}"),
        }
    }

    pub async fn ack(&mut self) -> Version {
        match self.next().await {
            Said::Ack(ack) => from_wire(ack.version),
            other => panic!("an ack, not {other:?}"),
        }
    }

    pub async fn nack(&mut self) -> control::Nack {
        match self.next().await {
            Said::Nack(nack) => nack,
            other => panic!("a nack, not {other:?}"),
        }
    }

    pub async fn current(&mut self) -> (Version, Vec<u8>) {
        match self.next().await {
            Said::Current(snapshot) => {
                let plain = envelope::unpack(&snapshot.gzip, snapshot.plain_size, BOUNDS).unwrap();
                (from_wire(snapshot.version), plain)
            }
            other => panic!("what is held, not {other:?}"),
        }
    }
}

/// A follower that is about to start.
pub struct Follow {
    address: String,
    pub state: Option<StateDir>,
    pub own: Option<PolicySpec>,
    pub initial_wait: Duration,
    pub times: Times,
    /// Further lines of `control_plane`.
    pub extra: String,
}

impl Follow {
    pub fn of(fake: &Fake) -> Follow {
        Follow::to(&fake.address.to_string())
    }

    pub fn to(address: &str) -> Follow {
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        Follow {
            address,
            state: None,
            own: None,
            initial_wait: Duration::from_millis(300),
            extra: String::new(),
            times: Times {
                heartbeat: Duration::from_millis(50),
                dead: Duration::from_secs(5),
                connect: Duration::from_secs(2),
                pause_first: Duration::from_millis(20),
                pause_most: Duration::from_millis(100),
            },
        }
    }

    pub fn start(self) -> Following {
        let (slot, fleet) = (Arc::new(PolicySlot::default()), FleetSize::default());
        let (metrics, probes, stop) = (Metrics::new(1), Probes::new(), CancellationToken::new());
        let (config, state) = self.config();
        let changed = Arc::new(Mutex::new(Vec::new()));
        let hints = Hints::to(fleet.clone(), {
            let changed = Arc::clone(&changed);
            move |key| changed.lock().unwrap().push(key.to_owned())
        });
        let task = tokio::spawn({
            let (slot, metrics, probes, stop) = (Arc::clone(&slot), metrics.clone(), probes.clone(), stop.clone());
            async move { follow(config, slot, state, hints, &metrics, &probes, stop).unwrap().await }
        });
        Following { slot, fleet, changed, metrics, probes, stop, task }
    }

    /// The error of settings that cannot work.
    pub async fn fails(self) -> String {
        let (config, state) = self.config();
        let (slot, stop) = (Arc::default(), CancellationToken::new());
        let hints = Hints::to(FleetSize::default(), |_| ());
        follow(config, slot, state, hints, &Metrics::new(1), &Probes::new(), stop).err().unwrap().to_string()
    }

    fn config(self) -> (Config, Option<StateDir>) {
        edgequota_ops::tls::install_provider();
        let text = format!("control_plane:\n  address: \"{}\"\n  node_id: me\n{}", self.address, self.extra);
        let settings = Document::parse("s", &text).unwrap().settings(&Environment::new());
        let mut settings = settings.unwrap_or_else(|problems| panic!("{problems}")).control_plane;
        settings.initial_wait = edgequota_policy::GoDuration::new(self.initial_wait);
        let config = Config {
            settings,
            workers: 3,
            binary: "test".into(),
            labels: BTreeMap::new(),
            own: self.own,
            times: self.times,
        };
        (config, self.state)
    }
}

/// A follower that runs.
pub struct Following {
    pub slot: Arc<PolicySlot>,
    pub fleet: FleetSize,
    /// Counters that were said to have changed.
    pub changed: Arc<Mutex<Vec<String>>>,
    pub metrics: Metrics,
    pub probes: Probes,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Following {
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("it stops").expect("it does not panic");
    }

    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.render(false);
        text.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
    }

    pub fn readyz(&self) -> String {
        format!("{:?}", self.probes.readyz())
    }
}
