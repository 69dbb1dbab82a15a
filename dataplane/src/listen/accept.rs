//! Taking connections, and sharing them out between the workers.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use edgequota_ops::shutdown::Stage;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{client::Client, h2, sniff};
use crate::{admission::ConnectionSlot, h1, worker::Worker};

/// A socket that a busier worker hands over before it reads from it.
pub(crate) struct Handed {
    pub(crate) socket: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    /// Already the new worker's, so that a burst is not handed whole to whoever was idle before it.
    pub(crate) slot: ConnectionSlot,
}

/// How long to hold off when the process is out of descriptors: accepting again at once would spin.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Accepts until the drain, then takes what the kernel had already accepted, then closes the listener.
pub(crate) async fn accept(worker: &Rc<Worker>, listener: TcpListener, mut handed: mpsc::Receiver<Handed>) {
    loop {
        tokio::select! {
            biased;
            Some(handed) = handed.recv() => adopt(worker, handed),
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => place(worker, socket, peer),
                Err(error) => back_off(&error).await,
            },
            () = worker.stage.reached(Stage::Draining) => break,
        }
    }
    // Connections in the backlog were completed by the kernel: closing now would reset clients that did nothing wrong.
    // The kernel is asked itself: the event loop may not have heard of all of them yet.
    if let Ok(listener) = listener.into_std() {
        while let Ok((socket, peer)) = listener.accept() {
            if let Some(slot) = slot(worker, worker.index) {
                adopt(worker, Handed { socket, peer, slot });
            }
        }
    }
    while let Ok(handed) = handed.try_recv() {
        adopt(worker, handed);
    }
}

fn slot(worker: &Worker, of: usize) -> Option<ConnectionSlot> {
    let slot = worker.shared.admission.connection(of, worker.live().max_connections);
    if slot.is_none() {
        worker.shared.metrics.connections_rejected.inc();
    }
    slot
}

/// Takes over a socket that is not in this worker's event loop yet.
fn adopt(worker: &Rc<Worker>, handed: Handed) {
    let Handed { socket, peer, slot } = handed;
    match socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket)) {
        Ok(socket) => admit(worker, socket, peer, slot),
        Err(error) => tracing::debug!(%error, "a connection was lost on its way to its worker"),
    }
}

/// Keeps the connection, or hands it to a worker that has clearly fewer: the kernel spreads by hash, and a few
/// long-lived HTTP/2 connections would load one core and idle the rest.
fn place(worker: &Rc<Worker>, socket: TcpStream, peer: SocketAddr) {
    let admission = &worker.shared.admission;
    let other = admission.lighter_worker(worker.index);
    let Some(slot) = slot(worker, other.unwrap_or(worker.index)) else { return };
    let Some(other) = other else { return admit(worker, socket, peer, slot) };
    match socket.into_std() {
        Ok(socket) => {
            if let Err(back) = admission.hand_over(other, Handed { socket, peer, slot }) {
                adopt(worker, back);
            }
        }
        Err(error) => tracing::debug!(%error, "a connection could not be handed over"),
    }
}

fn admit(worker: &Rc<Worker>, socket: TcpStream, peer: SocketAddr, slot: ConnectionSlot) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it was served");
        return;
    }
    let client = Rc::new(Client::new(Rc::clone(worker), peer, slot));
    tokio::task::spawn_local(serve(socket, client));
}

async fn serve(mut socket: TcpStream, client: Rc<Client>) {
    match sniff::sniff(&mut socket, &client).await {
        Some((sniff::Protocol::Http1, early)) => h1::server::serve(socket, early, client).await,
        // Boxed: the room that HTTP/2 needs is not every connection's.
        Some((sniff::Protocol::Http2, early)) => Box::pin(h2::serve(sniff::Rewound::new(early, socket), client)).await,
        None => {}
    }
}

async fn back_off(error: &io::Error) {
    // ECONNABORTED and the like concern one connection; EMFILE and ENFILE concern the next ones too.
    if matches!(error.raw_os_error(), Some(23 | 24)) {
        tracing::warn!(%error, "out of file descriptors: raise the limit or lower server.max_connections");
        tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
    }
}
