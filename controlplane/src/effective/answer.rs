//! What is answered: the JSON of `/v1/limits/effective`, which `edgequota explain` prints for people.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which limits a request meets, and what would happen to it now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// The policy that was asked.
    pub policy: PolicyAnswer,
    /// The request as it was understood.
    pub request: RequestAnswer,
    /// The route that takes it; absent when it is refused before.
    pub route: Option<RouteAnswer>,
    /// Where it would go.
    pub backend: Option<BackendAnswer>,
    /// Every limit that is looked at, in order. Disabled ones are absent.
    pub limits: Vec<LimitAnswer>,
    /// What a data plane would do with it now.
    pub verdict: VerdictAnswer,
}

impl Answer {
    /// Refused before a route was found.
    pub(crate) fn without_route(policy: PolicyAnswer, request: RequestAnswer, verdict: VerdictAnswer) -> Answer {
        Answer { policy, request, route: None, backend: None, limits: Vec::new(), verdict }
    }
}

/// A policy's name.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicyAnswer {
    /// `<generation>-<short hash>`.
    pub version: String,
    /// Milliseconds since 1970 when it was issued, or more.
    pub generation: u64,
    /// SHA-256 of the canonical form, in hex.
    pub hash: String,
    /// Where it comes from: `files`, `state_dir`, `adopted from <node>`, or a file's name.
    pub source: String,
}

/// A request as it was understood.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RequestAnswer {
    /// Method.
    pub method: String,
    /// Lower case, without port.
    pub host: String,
    /// Normalised, without query.
    pub path: String,
    /// Address of the peer.
    pub peer: String,
    /// Address of the client, after the forwarding headers that are believed.
    pub client_ip: String,
    /// What was assumed or changed.
    pub notes: Vec<String>,
}

/// A route, and why it is this one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RouteAnswer {
    /// Name; absent: no route matches, the default backend takes it.
    pub name: Option<String>,
    /// How the host matches: `exact`, `wildcard`, `any`, `default`.
    pub host: String,
    /// How the path matches: `exact`, `prefix`, `regex`, `any`.
    pub path: String,
    /// How many further conditions (methods, headers) hold.
    pub conditions: usize,
    /// The same in words.
    pub why: String,
}

/// A backend.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BackendAnswer {
    /// Name; `default` for the default one.
    pub name: String,
    /// URL with an explicit port.
    pub url: String,
}

/// One limit for one request.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LimitAnswer {
    /// `default`, `<route>` or `<route>/<name>`.
    pub name: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// `exact` or `leased`.
    pub accuracy: String,
    /// What happens when the store does not answer.
    pub failure_policy: String,
    /// Who is counted; a credential shows as a hash. Absent: nobody, see `note`.
    pub subject: Option<String>,
    /// The counter's key in the store, with a credential as a hash.
    pub counter_key: Option<String>,
    /// Tokens per period that apply.
    pub average: u64,
    /// Room of the bucket that applies.
    pub burst: u64,
    /// In which time `average` tokens come back.
    pub period: String,
    /// Tokens that one request takes.
    #[serde(default = "one")]
    pub cost: u64,
    /// The subject is blocked.
    pub blocked: bool,
    /// Where the numbers come from; the last one wins.
    pub sources: Vec<SourceAnswer>,
    /// Whole tokens left now. Absent: the store did not say.
    pub remaining: Option<u64>,
    /// Until the bucket is full.
    pub reset_after_seconds: Option<f64>,
    /// Until there are `cost` tokens; 0: there are.
    pub retry_after_seconds: Option<f64>,
    /// Whether this limit alone would let the request pass.
    pub passes: Option<bool>,
    /// What else there is to say; mostly empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What an older control plane does not say.
fn one() -> u64 {
    1
}

/// Numbers and where they are written.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SourceAnswer {
    /// `limit <name>` or `overrides[<index>] (...)`, the index in the joined policy.
    pub from: String,
    /// Tokens per period.
    pub average: u64,
    /// Room of the bucket.
    pub burst: u64,
    /// Period.
    pub period: String,
    /// It blocks the subject.
    pub blocked: bool,
}

/// What would happen now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VerdictAnswer {
    /// Absent: unknown.
    pub allowed: Option<bool>,
    /// The status that the proxy itself would answer with; absent when it forwards or when that is unknown.
    pub status: Option<u16>,
    /// The error code of a refusal.
    pub error: Option<String>,
    /// In words.
    pub reason: String,
    /// When to try again.
    pub retry_after_seconds: Option<f64>,
}

impl VerdictAnswer {
    pub(crate) fn allowed(reason: &str) -> VerdictAnswer {
        VerdictAnswer {
            allowed: Some(true),
            status: None,
            error: None,
            reason: reason.to_owned(),
            retry_after_seconds: None,
        }
    }

    pub(crate) fn refused(status: u16, error: &str, reason: String) -> VerdictAnswer {
        VerdictAnswer {
            allowed: Some(false),
            status: Some(status),
            error: Some(error.to_owned()),
            reason,
            retry_after_seconds: None,
        }
    }

    pub(crate) fn unknown(reason: &str) -> VerdictAnswer {
        VerdictAnswer { allowed: None, ..VerdictAnswer::allowed(reason) }
    }
}
