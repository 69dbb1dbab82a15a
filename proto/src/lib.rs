//! The wire between the planes: the code generated from the .proto files, and the [`envelope`] that policies travel in.
//!
//! A policy travels as version, hash and gzip of its canonical JSON, so no field of a policy is declared here a second
//! time.

pub mod envelope;

/// Most keys of one `CounterReset`.
pub const MOST_RESET_KEYS: usize = 64;
/// Most bytes of such a key. None that is made here is longer.
pub const MOST_RESET_KEY_BYTES: usize = 1024;

/// `edgequota.control.v1`: the stream between the planes.
pub mod control {
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::unwrap_used)]
    mod generated {
        tonic::include_proto!("edgequota.control.v1");
    }
    pub use generated::*;
}
