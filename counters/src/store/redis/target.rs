//! Which server a set of connections is to lead to.

use tokio::sync::watch;

use super::endpoint::Endpoint;

/// Where to connect, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Target {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// Nobody was found.
    Nowhere,
    At(Place),
}

/// A server that should count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) endpoint: Endpoint,
    /// In a cluster: one of the hash slots that it should have.
    pub(super) slot: Option<u16>,
}

impl Target {
    pub(super) fn at(endpoint: Endpoint) -> Target {
        Target::At(Place { endpoint, slot: None })
    }

    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Target::At(place) => Some(place),
            Target::Unknown | Target::Nowhere => None,
        }
    }
}

/// Tells it to those who watch, if it is news.
pub(super) fn publish(to: &watch::Sender<Target>, target: Target) -> bool {
    to.send_if_modified(|known| {
        let news = *known != target;
        *known = target;
        news
    })
}
