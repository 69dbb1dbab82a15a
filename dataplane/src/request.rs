//! The pipeline: what happens to a request, in order.

pub(crate) mod context;
pub(crate) mod forward;
pub(crate) mod headers;
pub(crate) mod limit;
pub(crate) mod rate_headers;
pub(crate) mod record;
pub(crate) mod reject;
pub(crate) mod route;

use std::rc::Rc;

use http::{Method, StatusCode, Uri, Version};
use tokio::time::Instant;

use self::{context::Context, record::Record, reject::Reject};
use crate::{body::Body, fields::Fields, listen::client::Client};

/// A request as the wire gave it, framing already understood.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: Fields,
    pub(crate) body: Body,
    /// The client waits for `100 Continue`.
    pub(crate) expect_continue: bool,
}

/// What goes back. Whoever sends it tells the record how that went.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Fields,
    pub(crate) body: Body,
    pub(crate) record: Record,
    /// `server.request_timeout`: by then all of it must be sent.
    pub(crate) until: Option<Instant>,
}

/// Why an answer did not reach the client whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the client went away")]
    Gone,
    #[error("the client did not read for longer than server.write_timeout")]
    Stalled,
    #[error("the request took longer than server.request_timeout")]
    OutOfTime,
    #[error("the answer broke off: {0}")]
    Answer(String),
}

/// Answers a request, whatever happens.
pub(crate) async fn answer(client: &Rc<Client>, received: Received) -> Answer {
    let mut context = Context::open(client, &received);
    let deadline = context.deadline;
    let result = match deadline {
        None => stages(client, &mut context, received).await,
        Some(at) => match tokio::time::timeout_at(at, stages(client, &mut context, received)).await {
            Ok(result) => result,
            Err(_) => Err(Reject::RequestTimeout),
        },
    };
    match result {
        Ok(done) => context.answer(done),
        Err(reject) => context.refuse(&reject),
    }
}

/// Answers what could not even be read as a request.
pub(crate) fn refuse_unread(client: &Rc<Client>, reject: &Reject) -> Answer {
    Context::unread(client).refuse(reject)
}

/// An answer before the common headers are put on it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: StatusCode,
    pub(crate) headers: Fields,
    pub(crate) body: Body,
}

/// The stages. Each order choice has its reason.
async fn stages(client: &Rc<Client>, context: &mut Context, received: Received) -> Result<Done, Reject> {
    // Load balancers ask on the proxy port too, and must get an answer whatever the load.
    if let Some(done) = context.health(client, &received) {
        return Ok(done);
    }
    // First of all others, so that an overloaded process spends nothing on what it will refuse.
    context.admit(client)?;
    // The same bound for every protocol; HTTP/1 heads were held to it while they were read.
    route::check_headers(client, &received)?;
    // Once, here: the whole request sees one version of the policy.
    let current = client.worker.policy().ok_or(Reject::NoPolicy)?;
    context.record.policy(&current);
    // Before any decision is made on host or path: what is matched is what is sent on.
    let uri = received.uri.clone();
    let host = route::host(&received)?;
    let target = route::target(&received, &uri, host.as_ref())?;
    context.record.target(&target);
    // A protocol that cannot be served is not counted against anyone.
    route::refuse_upgrade(&received)?;
    let routed = route::route(client, &current, &target, &received)?;
    context.record.routed(&routed);
    // Known before a token is spent, so that a hopeless request costs its sender nothing.
    route::check_length(&routed.pool.backend, &received)?;
    // The last thing before forwarding: a token is spent on requests only that would otherwise pass.
    let asks = limit::asks(client, &target, &received, &routed)?;
    // A long stream must not keep a replaced policy in memory: from here on it holds its backend and limits only.
    drop(current);
    limit::decide(client, context, asks).await?;
    forward::forward(client, context, target, routed.pool, received).await
}
