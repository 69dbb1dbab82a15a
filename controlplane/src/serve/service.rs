//! The gRPC method: checks who asks, gives the stream a place in the fleet, starts its task.

use edgequota_proto::control::{FromDataPlane, control_plane_server::ControlPlane};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Shared,
    accept::Peer,
    outbound::{self, Pulled},
    subscriber::Subscriber,
};

pub(crate) struct Service {
    shared: Shared,
}

impl Service {
    pub(crate) fn new(shared: Shared) -> Service {
        Service { shared }
    }
}

#[tonic::async_trait]
impl ControlPlane for Service {
    type SubscribeStream = Pulled;

    async fn subscribe(&self, request: Request<Streaming<FromDataPlane>>) -> Result<Response<Pulled>, Status> {
        let Some(peer) = request.extensions().get::<Peer>().copied() else {
            return Err(Status::internal("the connection has no peer"));
        };
        let authenticated = self.shared.auth.check(request.metadata(), &peer).inspect_err(|status| {
            tracing::warn!(peer = %peer.address, reason = status.message(), "a data plane was turned away");
        })?;
        let Some((member, commands)) = self.shared.fleet.join(peer.address, peer.tls, authenticated) else {
            return Err(Status::resource_exhausted("the control plane serves as many data planes as it can"));
        };
        let (outbound, pulled) = outbound::channel();
        let subscriber = Subscriber::new(self.shared.clone(), peer, authenticated, member, outbound);
        tokio::spawn(subscriber.run(request.into_inner(), commands));
        Ok(Response::new(pulled))
    }
}
