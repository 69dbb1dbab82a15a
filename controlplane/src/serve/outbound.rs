//! The sending half of a stream: a short queue that the transport pulls from.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use edgequota_proto::control::{FromControlPlane, from_control_plane::Message};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Status;

/// Enough for a heartbeat, a fleet size and a snapshot at once. A peer that lets it fill up does not read.
const QUEUE: usize = 8;

struct Item {
    message: Result<FromControlPlane, Status>,
    /// Dropped when the transport comes back for more.
    taken: Option<oneshot::Sender<()>>,
}

/// The task's end.
pub(crate) struct Outbound(mpsc::Sender<Item>);

/// The transport's end.
pub(crate) struct Pulled {
    queue: mpsc::Receiver<Item>,
    taken: Option<oneshot::Sender<()>>,
}

pub(crate) fn channel() -> (Outbound, Pulled) {
    let (sender, queue) = mpsc::channel(QUEUE);
    (Outbound(sender), Pulled { queue, taken: None })
}

impl Outbound {
    /// Queues a message; `false`: the peer does not read, or is gone.
    pub(crate) fn send(&self, message: Message) -> bool {
        self.put(Ok(FromControlPlane { message: Some(message) }), None)
    }

    /// Queues a message that may as well be lost: only while half of the queue is free for what may not.
    pub(crate) fn hint(&self, message: Message) -> bool {
        self.0.capacity() > QUEUE / 2 && self.send(message)
    }

    /// Queues a message; the receiver resolves once the transport has taken it and wants the next.
    pub(crate) fn send_tracked(&self, message: Message) -> Option<oneshot::Receiver<()>> {
        let (taken, receiver) = oneshot::channel();
        self.put(Ok(FromControlPlane { message: Some(message) }), Some(taken)).then_some(receiver)
    }

    /// The last word; lost when the peer does not read.
    pub(crate) fn end(&self, status: Status) {
        self.put(Err(status), None);
    }

    /// Resolves when the peer has gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }

    fn put(&self, message: Result<FromControlPlane, Status>, taken: Option<oneshot::Sender<()>>) -> bool {
        self.0.try_send(Item { message, taken }).is_ok()
    }
}

impl Stream for Pulled {
    type Item = Result<FromControlPlane, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The transport asks for the next message only when it has room: the one before is on its way.
        self.taken = None;
        self.queue.poll_recv(cx).map(|item| {
            item.map(|item| {
                self.taken = item.taken;
                item.message
            })
        })
    }
}
