//! Where counters live: Redis or the embedded in-process store. Both answer a [`Plan`] with [`Replies`].

pub mod embedded;
pub mod plan;
pub mod redis;
pub mod script;

pub use plan::{Counter, CounterReply, Credit, Entry, Plan, Purpose, Replies};

/// Why a store did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// `redis.deadline` passed.
    #[error("redis did not answer within redis.deadline")]
    Deadline,
    /// The breaker is open: not asked.
    #[error("redis is not asked while it does not answer")]
    BreakerOpen,
    /// No connection: not asked.
    #[error("there is no connection to redis")]
    NotConnected,
    /// More calls are unanswered on the connection than it may hold: not asked.
    #[error("too many calls to redis are unanswered")]
    Busy,
    /// The connection broke under the call.
    #[error("the connection to redis broke: {0}")]
    Connection(String),
    /// The server is not (or no longer) a primary that takes writes.
    #[error("redis takes no writes now: {0}")]
    NotWritable(String),
    /// An ACL rule is missing.
    #[error("redis refuses a command or key that counting needs, extend the ACL of this user: {0}")]
    NoPermission(String),
    /// Any other error of the server.
    #[error("redis answered with an error: {0}")]
    Server(String),
    /// An answer of another shape than the script's.
    #[error("redis answered something that the script never answers")]
    BadReply,
}

impl StoreError {
    /// Was the store asked at all? (If not, it is no error of the store.)
    pub fn was_asked(&self) -> bool {
        !matches!(self, StoreError::BreakerOpen | StoreError::NotConnected | StoreError::Busy)
    }

    /// Of several plans in one call, one alone may be to blame: its key is forbidden, or the server could not execute it.
    pub(crate) fn may_be_of_one_plan(&self) -> bool {
        matches!(self, StoreError::NoPermission(_) | StoreError::Server(_))
    }
}
