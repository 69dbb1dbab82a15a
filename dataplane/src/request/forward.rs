//! To the backend and back.

use std::rc::Rc;

use tokio::time::Instant;

use super::{
    Done, Received,
    context::{Context, is_grpc},
    headers,
    reject::Reject,
    route::Target,
};
use crate::{
    listen::client::Client,
    upstream::{
        Pool,
        exchange::{Outgoing, exchange},
    },
};

/// Forwards a request that may pass.
pub(crate) async fn forward(
    client: &Rc<Client>,
    context: &mut Context,
    target: Target<'_>,
    pool: Rc<Pool>,
    received: Received,
) -> Result<Done, Reject> {
    let Received { method, version, headers: mut fields, body, expect_continue, .. } = received;
    let is_grpc = is_grpc(&fields);
    headers::to_backend(&mut fields, client, &target, context.record.request_id.as_bytes());
    let outgoing = Outgoing {
        method,
        path: target.path,
        query: target.query,
        host: target.host_header.cloned(),
        headers: fields,
        body: body.at_most(pool.backend.max_request_body_size).until(context.deadline),
        expect_continue,
        from_h2: version == http::Version::HTTP_2,
        is_grpc,
    };
    let began = Instant::now();
    let result = exchange(&pool, outgoing).await;
    client.worker.shared.metrics.backend_duration.observe(began.elapsed().as_secs_f64());
    let mut answer = result?;
    context.record.backend_protocol(answer.protocol);
    headers::to_client(answer.status, &mut answer.headers);
    Ok(Done { status: answer.status, headers: answer.headers, body: answer.body.until(context.deadline) })
}
