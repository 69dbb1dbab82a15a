//! From a listening socket to requests: accept, find out the protocol, serve, drain.

pub(crate) mod accept;
pub(crate) mod client;
pub(crate) mod h2;
pub(crate) mod pace;
pub(crate) mod sniff;
pub(crate) mod stage;
