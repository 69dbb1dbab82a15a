//! A data plane that says what a test tells it to, and enforces nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use edgequota_proto::control::{
    Ack, FromControlPlane, FromDataPlane, Hello, Nack, Snapshot, Version, control_plane_client::ControlPlaneClient,
    from_control_plane::Message as Said, from_data_plane::Message as Answer, nack::Class,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

const LARGEST: usize = 5 << 20;

/// One stream to a real control plane. Heartbeats are left out: it is dead after 15 s unless it says something.
#[derive(Debug)]
pub struct FakePlane {
    out: mpsc::Sender<FromDataPlane>,
    incoming: Streaming<FromControlPlane>,
}

impl FakePlane {
    /// Subscribes as `node`, holding what `holds` says.
    pub async fn subscribe(addr: SocketAddr, node: &str, holds: Option<Version>) -> FakePlane {
        let mut plane = FakePlane::connect(addr).await;
        plane.hello(node, holds).await;
        plane
    }

    /// Opens the stream and says nothing.
    pub async fn connect(addr: SocketAddr) -> FakePlane {
        let channel = Endpoint::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
        let client = ControlPlaneClient::new(channel);
        let (out, rx) = mpsc::channel(16);
        let mut client = client.max_decoding_message_size(LARGEST);
        let incoming = client.subscribe(ReceiverStream::new(rx)).await.unwrap().into_inner();
        FakePlane { out, incoming }
    }

    /// Says who it is.
    pub async fn hello(&mut self, node: &str, holds: Option<Version>) {
        let hello = Hello {
            node: node.to_owned(),
            instance: format!("{node}-{}", fastrand::u64(..)),
            binary: "fake".to_owned(),
            workers: 1,
            source: holds.as_ref().map_or_else(String::new, |_| "control_plane".to_owned()),
            holds,
            ..Hello::default()
        };
        self.say(Answer::Hello(hello)).await;
    }

    /// Says anything; false: the stream is over.
    pub async fn say(&self, answer: Answer) -> bool {
        self.out.send(FromDataPlane { message: Some(answer) }).await.is_ok()
    }

    /// The next thing said that is neither a heartbeat nor about the fleet; None: the stream ended, or nothing came
    /// within `limit`.
    pub async fn next(&mut self, limit: Duration) -> Option<Said> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = tokio::time::timeout(left, self.incoming.message()).await.ok()?.ok()??;
            match message.message {
                Some(Said::Heartbeat(_) | Said::Fleet(_)) | None => {}
                Some(said) => return Some(said),
            }
        }
    }

    /// The next policy.
    ///
    /// # Panics
    /// When something else comes, or nothing within `limit`.
    pub async fn snapshot(&mut self, limit: Duration) -> Snapshot {
        match self.next(limit).await {
            Some(Said::Snapshot(snapshot)) => snapshot,
            other => panic!("wanted a policy, got {other:?}"),
        }
    }

    /// Accepts it.
    pub async fn ack(&self, version: Option<Version>) {
        self.say(Answer::Ack(Ack { version })).await;
    }

    /// Refuses it.
    pub async fn nack(&self, version: Option<Version>, class: Class, reason: &str, path: &str) {
        let mut nack = Nack { version, reason: reason.to_owned(), path: path.to_owned(), ..Nack::default() };
        nack.set_class(class);
        self.say(Answer::Nack(nack)).await;
    }

    /// Waits until the control plane ends the stream; false: it did not within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.incoming.message()).await {
                Err(_) => return false,
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None) | Err(_)) => return true,
            }
        }
    }
}
