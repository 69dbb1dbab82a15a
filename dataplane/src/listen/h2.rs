//! One HTTP/2 connection of a client.
//!
//! On the `h2` crate itself: a server library above it offers no way to notice, stream by stream, a client that has
//! stopped reading.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use edgequota_ops::shutdown::Stage;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{Request, Response, Version};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::{client::Client, pace::Pace, sniff::Rewound};
use crate::{
    body::{Body, BodyError},
    fields::Fields,
    request::{self, Answer, Broken, Received},
    timer::{Deadline, is_past},
};

/// Streams a client may have open at once.
const MAX_STREAMS: u32 = 200;
/// Flow-control window of one request body, and of all bodies of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Unsent bytes of one answer that we hold: a client that does not read costs this and no more.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that a client opened and reset and that are still remembered (rapid reset).
const MAX_RESETS: usize = 20;
/// A silent connection with open streams is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(15);
/// How long an idle client has to take note of a GOAWAY before its connection is closed.
const PART_WITHIN: Duration = Duration::from_secs(1);

/// Streams that are open, and when the last one ended.
#[derive(Debug)]
struct Activity {
    open: Cell<usize>,
    ended: Cell<Instant>,
    any: Cell<bool>,
}

struct Open(Rc<Activity>);

impl Open {
    fn new(activity: &Rc<Activity>) -> Open {
        activity.open.set(activity.open.get() + 1);
        activity.any.set(true);
        Open(Rc::clone(activity))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.ended.set(Instant::now());
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(io: Rewound, client: Rc<Client>) {
    let live = client.worker.live();
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(live.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(MAX_RESETS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .handshake::<_, Bytes>(io);
    let mut deadline = Deadline::after(live.read_header_timeout);
    let mut handshake = pin!(handshake);
    let shaken = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done.ok()),
        Poll::Pending => deadline.poll(cx).map(|()| None),
    })
    .await;
    let Some(mut connection) = shaken else { return };
    let activity = Rc::new(Activity { open: Cell::new(0), ended: Cell::new(Instant::now()), any: Cell::new(false) });
    let mut pulse = connection.ping_pong().map(Pulse::new);
    // Not while the process is merely leaving: a client that is told to go then comes back to the same process as long
    // as balancers still send it here, and some (haproxy) fail requests on a connection that has seen a GOAWAY.
    let mut draining = pin!(client.worker.stage.reached(Stage::Draining));
    let mut parting = false;
    deadline.set(live.read_header_timeout);
    let mut aged = Deadline::default();
    aged.set_at(client.ages_at());
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(next) = connection.poll_accept(cx) {
                return Poll::Ready(Event::Accepted(next.and_then(Result::ok).map(Box::new)));
            }
            if !parting && (draining.as_mut().poll(cx).is_ready() || aged.poll(cx).is_ready()) {
                return Poll::Ready(Event::Part);
            }
            if let Some(pulse) = &mut pulse
                && pulse.poll_dead(cx, activity.open.get() > 0)
            {
                return Poll::Ready(Event::Dead);
            }
            deadline.poll(cx).map(|()| Event::Quiet)
        })
        .await;
        match event {
            Event::Accepted(Some(accepted)) => {
                let (request, respond) = *accepted;
                let open = Open::new(&activity);
                tokio::task::spawn_local(stream(Rc::clone(&client), request, respond, open));
                deadline.set(live.idle_timeout);
            }
            Event::Accepted(None) | Event::Dead => return,
            Event::Part => {
                parting = true;
                connection.graceful_shutdown();
            }
            Event::Quiet if activity.open.get() > 0 => deadline.set(live.idle_timeout),
            Event::Quiet => {
                let rest = live
                    .idle_timeout
                    .map(|idle| activity.ended.get() + idle)
                    .filter(|at| activity.any.get() && *at > Instant::now());
                match rest {
                    Some(at) => deadline.set_at(Some(at)),
                    // It had its time to part: a client that ignores a GOAWAY is cut.
                    None if parting => return,
                    None => {
                        parting = true;
                        connection.graceful_shutdown();
                        deadline.set(Some(PART_WITHIN));
                    }
                }
            }
        }
    }
}

type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

enum Event {
    /// `None`: the connection is over.
    Accepted(Option<Box<Accepted>>),
    /// The process drains, or the connection is old: GOAWAY.
    Part,
    /// No answer to a ping.
    Dead,
    /// A deadline passed.
    Quiet,
}

/// Asks a connection that has streams open whether it lives.
struct Pulse {
    ping: h2::PingPong,
    deadline: Deadline,
    asked: bool,
}

impl Pulse {
    fn new(ping: h2::PingPong) -> Pulse {
        Pulse { ping, deadline: Deadline::after(Some(PING_EVERY)), asked: false }
    }

    fn poll_dead(&mut self, cx: &mut Context<'_>, busy: bool) -> bool {
        loop {
            if self.asked {
                match self.ping.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.asked = false;
                        self.deadline.set(Some(PING_EVERY));
                    }
                    Poll::Ready(Err(_)) => return true,
                    Poll::Pending => return self.deadline.poll(cx).is_ready(),
                }
            }
            if self.deadline.poll(cx).is_pending() {
                return false;
            }
            if busy && self.ping.send_ping(h2::Ping::opaque()).is_ok() {
                self.asked = true;
                self.deadline.set(Some(PONG_WITHIN));
            } else {
                self.deadline.set(Some(PING_EVERY));
            }
        }
    }
}

/// One request and its answer.
async fn stream(client: Rc<Client>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>, _open: Open) {
    let (parts, body) = request.into_parts();
    let body =
        if body.is_end_stream() { Body::default() } else { Body::h2(H2Body::new(body, &parts.headers, &client)) };
    let received = Received {
        method: parts.method,
        uri: parts.uri,
        version: Version::HTTP_2,
        headers: Fields::from_map(&parts.headers),
        body,
        expect_continue: false,
    };
    let answer = {
        let mut made = pin!(request::answer(&client, received));
        poll_fn(|cx| match made.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        })
        .await
    };
    let Some(Answer { status, headers, body, mut record, until }) = answer else { return };
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers.to_map();
    let nothing = body.size_hint().exact() == Some(0);
    let Ok(send) = respond.send_response(head, nothing) else {
        return record.broke(&Broken::Gone);
    };
    if !nothing && let Err(why) = send_body(send, body, &client, until, |n| record.sent_more(n)).await {
        record.broke(&why);
    }
}

async fn send_body(
    mut send: SendStream<Bytes>,
    mut body: Body,
    client: &Client,
    until: Option<Instant>,
    mut sent: impl FnMut(u64),
) -> Result<(), Broken> {
    let mut body = pin!(&mut body);
    let mut deadline = Deadline::default();
    loop {
        let frame = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => send.poll_reset(cx).map(|_| Err(Broken::Gone)),
        })
        .await?;
        match frame.map(|f| f.map(Frame::into_data)) {
            None => return send.send_data(Bytes::new(), true).map_err(|_| Broken::Gone),
            Some(Ok(Ok(data))) if data.is_empty() => {}
            Some(Ok(Ok(mut data))) => {
                let last = body.is_end_stream();
                while !data.is_empty() {
                    send.reserve_capacity(data.len());
                    deadline.set(client.worker.live().write_timeout);
                    deadline.limit(until);
                    let room = poll_fn(|cx| room(&mut send, &mut deadline, until, cx)).await?;
                    let piece = data.split_to(room.min(data.len()));
                    sent(piece.len() as u64);
                    send.send_data(piece, last && data.is_empty()).map_err(|_| Broken::Gone)?;
                }
                if last {
                    return Ok(());
                }
            }
            Some(Ok(Err(frame))) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return send.send_trailers(trailers).map_err(|_| Broken::Gone);
            }
            Some(Err(error)) => {
                // Never an orderly end: the client must see that the answer is not whole.
                send.send_reset(Reason::INTERNAL_ERROR);
                return Err(Broken::Answer(error.to_string()));
            }
        }
    }
}

/// Waits until the client takes more.
fn room(
    send: &mut SendStream<Bytes>,
    deadline: &mut Deadline,
    until: Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Broken>> {
    if send.capacity() > 0 {
        return Poll::Ready(Ok(send.capacity()));
    }
    loop {
        match send.poll_capacity(cx) {
            Poll::Ready(Some(Ok(0))) => {}
            Poll::Ready(Some(Ok(n))) => return Poll::Ready(Ok(n)),
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Broken::Gone)),
            Poll::Pending => break,
        }
    }
    if send.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(Broken::Gone));
    }
    ready!(deadline.poll(cx));
    send.send_reset(Reason::CANCEL);
    Poll::Ready(Err(if is_past(until) { Broken::OutOfTime } else { Broken::Stalled }))
}

/// A request body. Its window is given back as it is consumed, so a slow backend slows the client down.
#[derive(Debug)]
pub(crate) struct H2Body {
    stream: RecvStream,
    pace: Pace,
    length: Option<u64>,
    data_ended: bool,
}

impl H2Body {
    fn new(stream: RecvStream, headers: &http::HeaderMap, client: &Client) -> H2Body {
        let length =
            headers.get(http::header::CONTENT_LENGTH).and_then(|v| crate::h1::head::content_length(v.as_bytes()));
        H2Body { stream, pace: Pace::new(client.worker.live().read_timeout), length, data_ended: false }
    }

    pub(crate) fn never_slow(&mut self) {
        self.pace.exempt();
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.data_ended {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    if let Some(left) = &mut self.length {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    let kept = self.pace.progress(data.len());
                    return Poll::Ready(Some(kept.map(|()| Frame::data(data)).map_err(|_| BodyError::ClientSlow)));
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(BodyError::ClientGone))),
                Poll::Ready(None) => self.data_ended = true,
                Poll::Pending => return self.pace.poll_wait(cx).map(|_| Some(Err(BodyError::ClientSlow))),
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(_) => Poll::Ready(Some(Err(BodyError::ClientGone))),
        }
    }
}
