//! One HTTP/1 connection of a client, from accept to close.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use edgequota_ops::shutdown::Stage;
use http::{Method, StatusCode, Version};
use http_body::Body as _;
use tokio::{net::TcpStream, time::Instant};

use super::{
    Framing, HeadLimits,
    conn::{self, CONTINUE, Conn, RequestBody},
    decode::Decoder,
    head::{HeadError, HeadScan, RequestHead, parse_request},
    send::{SendError, Sender, WaitsFor},
    write::{Persistence, response_head},
};
use crate::{
    body::Body,
    listen::{client::Client, pace::Pace, stage::WorkerStage},
    request::{self, Answer, Broken, Received, reject::Reject},
    spare,
    timer::{Deadline, is_past},
};

/// Serves a connection until it ends. `early`: what was read while the protocol was found out.
pub(crate) async fn serve(io: TcpStream, early: BytesMut, client: Rc<Client>) {
    let conn = Rc::new(RefCell::new(Conn::new(io, early)));
    let mut deadline = Deadline::default();
    let reached = pin!(client.worker.stage.reached(Stage::Draining));
    let mut drain = DrainWatch::new(&client.worker.stage, reached);
    loop {
        // Boxed so that an idle connection does not hold the room of a busy one, and for as long as it is busy so that
        // not every request pays for it.
        let quiet_since = match Box::pin(busy(&conn, &client, &mut deadline, &mut drain)).await {
            Some(Pause::Quiet(since)) => since,
            Some(Pause::Linger) => {
                conn::linger(&conn).await;
                break;
            }
            None => break,
        };
        let end = client.worker.live().idle_timeout.and_then(|idle| quiet_since.checked_add(idle));
        deadline.set_at(end);
        if first_byte(&conn, &mut deadline, &mut drain).await != Some(First::Byte) {
            break;
        }
    }
    conn.borrow_mut().close();
}

/// How long the rest of a head may take once the process drains.
const HEAD_IN_DRAIN: Duration = Duration::from_secs(1);
/// A connection that is silent for this long is idle: it gives up what it holds for its next request.
const QUIET: Duration = Duration::from_secs(1);

/// Why a connection is not busy any more.
enum Pause {
    /// Silent since.
    Quiet(Instant),
    /// Close, but let the client read what was sent.
    Linger,
}

/// What becomes of the connection after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Open,
    /// Close, but let the client read what was sent.
    Linger,
    Close,
}

/// What comes first while nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Byte,
    /// The deadline.
    Deadline,
}

/// Tells when the process drains; costs a look at a cell once its task is on the list of those to be woken.
struct DrainWatch<'a, F> {
    stage: &'a WorkerStage,
    reached: Pin<&'a mut F>,
    listed: bool,
}

impl<'a, F: Future<Output = ()>> DrainWatch<'a, F> {
    fn new(stage: &'a WorkerStage, reached: Pin<&'a mut F>) -> DrainWatch<'a, F> {
        DrainWatch { stage, reached, listed: false }
    }

    /// Always from the same task.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.stage.now() >= Stage::Draining {
            return true;
        }
        if !self.listed {
            self.listed = true;
            return self.reached.as_mut().poll(cx).is_ready();
        }
        // A stage before the drain has taken the task off the list.
        self.stage.now() > Stage::Running && self.reached.as_mut().poll(cx).is_ready()
    }
}

/// Serves request after request. `None`: the connection is over.
async fn busy(
    conn: &Rc<RefCell<Conn>>,
    client: &Rc<Client>,
    deadline: &mut Deadline,
    drain: &mut DrainWatch<'_, impl Future<Output = ()>>,
) -> Option<Pause> {
    loop {
        if conn.borrow().buf.is_empty() {
            let now = Instant::now();
            let quiet = client.worker.live().idle_timeout.map_or(QUIET, |idle| idle.min(QUIET));
            deadline.set_at(now.checked_add(quiet));
            if first_byte(conn, deadline, drain).await? == First::Deadline {
                return Some(Pause::Quiet(now));
            }
        }
        let keep = match next_head(conn, client, deadline, drain).await? {
            Ok(head) => exchange(conn, client, head, deadline).await,
            Err(error) => {
                refuse(conn, client, error, deadline).await;
                Keep::Linger
            }
        };
        match keep {
            Keep::Open => {}
            Keep::Linger => return Some(Pause::Linger),
            Keep::Close => return None,
        }
    }
}

/// Waits for a request's head, whose first bytes have come. `None`: the connection is over.
async fn next_head(
    conn: &RefCell<Conn>,
    client: &Client,
    deadline: &mut Deadline,
    drain: &mut DrainWatch<'_, impl Future<Output = ()>>,
) -> Option<Result<RequestHead, HeadError>> {
    let live = client.worker.live();
    let limits = HeadLimits { max_bytes: live.max_header_bytes, max_headers: live.max_headers };
    let mut scan = HeadScan::default();
    let mut waiting = false;
    let mut hurried = false;
    poll_fn(|cx| {
        let conn = &mut *conn.borrow_mut();
        loop {
            // An empty line before a request is left over by some clients (RFC 9112 section 2.2).
            while conn.buf.starts_with(b"\r\n") {
                let _ = conn.buf.split_to(2);
                scan = HeadScan::default();
            }
            match scan.find(&conn.buf, limits) {
                Ok(Some(end)) => {
                    let head = conn.buf.split_to(end).freeze();
                    return Poll::Ready(Some(parse_request(&head, limits)));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match conn.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    if !waiting {
                        waiting = true;
                        deadline.set(live.read_header_timeout);
                    }
                    // Half a request does not hold a drain up.
                    if !hurried && drain.poll(cx) {
                        hurried = true;
                        deadline.set(Some(HEAD_IN_DRAIN));
                    }
                    return deadline.poll(cx).map(|()| None);
                }
            }
        }
    })
    .await
}

/// Waits for the first byte, with no buffer. `None`: the client hung up, or the process is draining.
async fn first_byte(
    conn: &RefCell<Conn>,
    deadline: &mut Deadline,
    drain: &mut DrainWatch<'_, impl Future<Output = ()>>,
) -> Option<First> {
    // Memory of a busy moment is not kept through an idle one.
    conn.borrow_mut().release_buffer();
    poll_fn(|cx| {
        let conn = &mut *conn.borrow_mut();
        match conn.poll_fill(cx) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
            Poll::Ready(Ok(_)) => return Poll::Ready(Some(First::Byte)),
            Poll::Pending => {}
        }
        // A request that has arrived by the time of the drain is still answered.
        if drain.poll(cx) && !conn.has_unseen_bytes() {
            return Poll::Ready(None);
        }
        deadline.poll(cx).map(|()| Some(First::Deadline))
    })
    .await
}

/// One request and its answer.
async fn exchange(conn: &Rc<RefCell<Conn>>, client: &Rc<Client>, head: RequestHead, deadline: &mut Deadline) -> Keep {
    let told = Told { version: head.version, to_head: head.method == Method::HEAD, keep_alive: head.keep_alive };
    let body = request_body(conn, client, &head);
    let received = Received {
        method: head.method,
        uri: head.uri,
        version: head.version,
        headers: head.headers,
        body,
        expect_continue: head.expect_continue,
    };
    let answer = {
        let mut made = pin!(request::answer(client, received));
        poll_fn(|cx| match made.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if conn.borrow_mut().poll_gone(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    };
    match answer {
        Some(answer) => send(conn, client, answer, told, deadline).await,
        None => Keep::Close,
    }
}

fn request_body(conn: &Rc<RefCell<Conn>>, client: &Client, head: &RequestHead) -> Body {
    let mut shared = conn.borrow_mut();
    shared.decoder = Decoder::new(head.framing);
    shared.owed = head.expect_continue.then_some(CONTINUE);
    if head.framing == Framing::None {
        return Body::default();
    }
    drop(shared);
    Body::h1(RequestBody::new(Rc::clone(conn), Pace::new(client.worker.live().read_timeout)))
}

/// What the request said about the answer to it.
#[derive(Clone, Copy, Debug)]
struct Told {
    version: Version,
    to_head: bool,
    keep_alive: bool,
}

/// Sends an answer and puts the connection in order for the next request.
async fn send(conn: &Rc<RefCell<Conn>>, client: &Client, answer: Answer, told: Told, deadline: &mut Deadline) -> Keep {
    let Answer { status, headers, body, mut record, until } = answer;
    let framing = answer_framing(status, &body, told);
    let unread = !conn.borrow().decoder.is_done();
    // A client that still waits for `100 Continue` may or may not send its body now: nobody can tell.
    let unsure = unread && conn.borrow().owed.is_some();
    let mut keep_alive = told.keep_alive && framing != Framing::UntilClose && !unsure && !client.is_leaving();
    if unread && !promises_little(&conn.borrow().decoder) {
        keep_alive = false;
    }
    let persistence = match (keep_alive, told.version) {
        (false, _) => Persistence::Close,
        (true, Version::HTTP_11) => Persistence::Implied,
        (true, _) => Persistence::KeepAlive,
    };
    let mut head = spare::text();
    response_head(&mut head, status, &headers, framing, persistence, told.to_head);
    drop(headers);
    let mut sender = Sender::new(head, body, framing);
    let sent = drive(conn, client, &mut sender, deadline, until).await;
    record.sent(sender.body_bytes());
    if let Err(why) = sent {
        // Where the end of the connection is the end of the answer, only a reset says that it is not whole.
        if framing == Framing::UntilClose {
            conn.borrow_mut().reset_on_close();
        }
        record.broke(&why);
        return Keep::Close;
    }
    drop((sender, record));
    conn.borrow_mut().revoke_body();
    if !keep_alive {
        return Keep::Linger;
    }
    if conn::discard(conn).await { Keep::Open } else { Keep::Linger }
}

fn answer_framing(status: StatusCode, body: &Body, told: Told) -> Framing {
    if told.to_head || status.is_informational() || matches!(status.as_u16(), 204 | 304) {
        return Framing::None;
    }
    match body.size_hint().exact() {
        Some(0) => Framing::None,
        Some(n) => Framing::Length(n),
        None if told.version == Version::HTTP_11 => Framing::Chunked,
        None => Framing::UntilClose,
    }
}

/// Whether what is left of a body is worth reading to keep the connection.
fn promises_little(decoder: &Decoder) -> bool {
    match decoder {
        Decoder::Length(left) => *left <= conn::DISCARD_BYTES as u64,
        _ => true,
    }
}

/// Sends, watching for a client that does not read and for one that hangs up while the backend is silent.
async fn drive(
    conn: &RefCell<Conn>,
    client: &Client,
    sender: &mut Sender,
    deadline: &mut Deadline,
    until: Option<Instant>,
) -> Result<(), Broken> {
    let patience = client.worker.live().write_timeout;
    let mut written = u64::MAX;
    poll_fn(|cx| {
        // The answer may carry the rest of the request's body along, which borrows the connection by itself: the
        // socket is only lent to the sender between its polls of the body.
        match poll_sender(conn, sender, cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(SendError::Io(_))) => return Poll::Ready(Err(Broken::Gone)),
            Poll::Ready(Err(e)) => return Poll::Ready(Err(Broken::Answer(e.to_string()))),
            Poll::Pending => {}
        }
        match sender.waits_for() {
            WaitsFor::Socket => {
                if sender.written() != written {
                    written = sender.written();
                    deadline.set(patience);
                    deadline.limit(until);
                }
                deadline.poll(cx).map(|()| Err(if is_past(until) { Broken::OutOfTime } else { Broken::Stalled }))
            }
            WaitsFor::Body => {
                written = u64::MAX;
                if conn.borrow_mut().poll_gone(cx) { Poll::Ready(Err(Broken::Gone)) } else { Poll::Pending }
            }
        }
    })
    .await
}

fn poll_sender(conn: &RefCell<Conn>, sender: &mut Sender, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
    loop {
        ready!(sender.poll_body(cx))?;
        if ready!(sender.poll_socket(cx, conn.borrow_mut().io()?))? {
            return Poll::Ready(Ok(()));
        }
    }
}

/// Answers a head that could not be read.
async fn refuse(conn: &Rc<RefCell<Conn>>, client: &Rc<Client>, error: HeadError, deadline: &mut Deadline) {
    let reject = match error {
        HeadError::TooLarge | HeadError::TooManyHeaders => Reject::HeadersTooLarge { why: error.to_string() },
        HeadError::Malformed(why) => Reject::BadRequest { why: why.to_owned() },
    };
    let answer = request::refuse_unread(client, &reject);
    send(conn, client, answer, Told { version: Version::HTTP_11, to_head: false, keep_alive: false }, deadline).await;
}
