//! A control plane that says what a test tells it to, also what a real one never would.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use edgequota_policy::{PolicySpec, snapshot::Hash};
use edgequota_proto::{
    control::{
        FromControlPlane, FromDataPlane, Heartbeat, Snapshot, Version,
        control_plane_server::{ControlPlane, ControlPlaneServer},
        from_control_plane::Message as Said,
        from_data_plane::Message as Answered,
    },
    envelope::{self, Bounds},
};
use futures_util::Stream;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::eventually::eventually;

const BOUNDS: Bounds = Bounds { plain: 16 << 20, compressed: 4 << 20 };

#[derive(Debug, Default)]
struct State {
    /// Ways to the data planes that are connected.
    streams: Mutex<Vec<mpsc::Sender<Result<FromControlPlane, Status>>>>,
    answers: Mutex<Vec<Answered>>,
    subscribed: Mutex<usize>,
    mute: Mutex<bool>,
}

/// A running fake; ends when dropped.
#[derive(Debug)]
pub struct FakeControl {
    addr: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
}

struct Service(Arc<State>);

#[tonic::async_trait]
impl ControlPlane for Service {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<FromControlPlane, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<FromDataPlane>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (tx, rx) = mpsc::channel(64);
        self.0.streams.lock().unwrap().push(tx.clone());
        *self.0.subscribed.lock().unwrap() += 1;
        let (state, mut incoming) = (Arc::clone(&self.0), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                let Some(message) = message.message else { continue };
                if matches!(message, Answered::Heartbeat(_)) {
                    let mute = *state.mute.lock().unwrap();
                    if !mute {
                        let _ = tx.send(Ok(FromControlPlane { message: Some(Said::Heartbeat(Heartbeat {})) })).await;
                    }
                } else {
                    state.answers.lock().unwrap().push(message);
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }
}

/// A snapshot as a control plane makes it.
pub fn snapshot(spec: &PolicySpec, generation: u64) -> Snapshot {
    let plain = spec.clone().resolved().canonical();
    of_bytes(&plain, generation)
}

/// A snapshot of any bytes, with their true hash.
pub fn of_bytes(plain: &[u8], generation: u64) -> Snapshot {
    Snapshot {
        version: Some(Version { generation, hash: Hash::of(plain).0.to_vec().into() }),
        gzip: envelope::pack(plain, BOUNDS).unwrap(),
        plain_size: plain.len() as u64,
    }
}

impl FakeControl {
    /// Listens on a port of the kernel's choice.
    pub async fn start() -> FakeControl {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let stop = CancellationToken::new();
        let server =
            tonic::transport::Server::builder().add_service(ControlPlaneServer::new(Service(Arc::clone(&state))));
        tokio::spawn(
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned()),
        );
        FakeControl { addr, state, stop }
    }

    /// The `control_plane:` block for a data plane.
    pub fn yaml(&self) -> String {
        format!("control_plane: {{ address: \"http://{}\" }}\n", self.addr)
    }

    /// Streams that were opened so far.
    pub fn subscribed(&self) -> usize {
        *self.state.subscribed.lock().unwrap()
    }

    /// From now on heartbeats are not answered.
    pub fn be_silent(&self) {
        *self.state.mute.lock().unwrap() = true;
    }

    /// Says something on the newest stream, once there is one.
    pub async fn say(&self, said: Said) {
        let stream = eventually("a data plane subscribes", Duration::from_secs(20), || async {
            self.state.streams.lock().unwrap().last().cloned()
        })
        .await;
        let _ = stream.send(Ok(FromControlPlane { message: Some(said) })).await;
    }

    /// Everything but heartbeats that data planes have said, oldest first.
    pub fn answers(&self) -> Vec<Answered> {
        self.state.answers.lock().unwrap().clone()
    }

    /// Says it, and waits for the ack or nack of its generation.
    pub async fn push(&self, snapshot: Snapshot) -> Answered {
        let generation = snapshot.version.as_ref().map_or(0, |v| v.generation);
        let before = self.answers().len();
        self.say(Said::Snapshot(snapshot)).await;
        eventually(&format!("an answer to generation {generation}"), Duration::from_secs(20), || async {
            self.state.answers.lock().unwrap()[before..]
                .iter()
                .find(|a| match a {
                    Answered::Ack(ack) => ack.version.as_ref().is_some_and(|v| v.generation == generation),
                    Answered::Nack(nack) => nack.version.as_ref().is_some_and(|v| v.generation == generation),
                    _ => false,
                })
                .cloned()
        })
        .await
    }
}

impl Drop for FakeControl {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
