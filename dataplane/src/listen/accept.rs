//! Taking connections, and sharing them out between the workers.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use edgequota_ops::shutdown::Stage;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{client::Client, h2, sniff};
use crate::{h1, worker::Worker};

/// A socket that a busier worker hands over before it reads from it.
pub(crate) type Handed = (std::net::TcpStream, SocketAddr);

/// How long to hold off when the process is out of descriptors: accepting again at once would spin.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Accepts until the drain, then takes what the kernel had already accepted, then closes the listener.
pub(crate) async fn accept(worker: &Rc<Worker>, listener: TcpListener, mut handed: mpsc::Receiver<Handed>) {
    loop {
        tokio::select! {
            biased;
            Some((socket, peer)) = handed.recv() => match adopt(socket) {
                Ok(socket) => admit(worker, socket, peer),
                Err(error) => tracing::debug!(%error, "a handed over connection was lost"),
            },
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => place(worker, socket, peer),
                Err(error) => back_off(&error).await,
            },
            () = worker.stage.reached(Stage::Draining) => break,
        }
    }
    // Connections in the backlog were completed by the kernel: closing now would reset clients that did nothing wrong.
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    while let std::task::Poll::Ready(Ok((socket, peer))) = listener.poll_accept(&mut cx) {
        admit(worker, socket, peer);
    }
    while let Ok((socket, peer)) = handed.try_recv() {
        if let Ok(socket) = adopt(socket) {
            admit(worker, socket, peer);
        }
    }
}

fn adopt(socket: std::net::TcpStream) -> io::Result<TcpStream> {
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

/// Keeps the connection, or hands it to a worker that has clearly fewer: the kernel spreads by hash, and a few
/// long-lived HTTP/2 connections would load one core and idle the rest.
fn place(worker: &Rc<Worker>, socket: TcpStream, peer: SocketAddr) {
    let Some(other) = worker.shared.admission.lighter_worker(worker.index) else {
        return admit(worker, socket, peer);
    };
    let handed = socket.into_std().map(|socket| worker.shared.admission.hand_over(other, (socket, peer)));
    match handed {
        Ok(Ok(())) => {}
        Ok(Err((socket, peer))) => {
            if let Ok(socket) = TcpStream::from_std(socket) {
                admit(worker, socket, peer);
            }
        }
        Err(error) => tracing::debug!(%error, "a connection could not be handed over"),
    }
}

fn admit(worker: &Rc<Worker>, socket: TcpStream, peer: SocketAddr) {
    let Some(slot) = worker.shared.admission.connection(worker.index, worker.shared.live().max_connections) else {
        worker.shared.metrics.connections_rejected.inc();
        return;
    };
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
        Some((sniff::Protocol::Http2, early)) => h2::serve(sniff::Rewound::new(early, socket), client).await,
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
