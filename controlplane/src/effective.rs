//! Which limits a described request meets, and why: with the very code that enforces. Routing, key extraction and
//! numbers come from the compiled policy, tokens and the verdict from [`Decider::look`], which spends nothing.

pub mod answer;
pub mod described;

use std::{net::IpAddr, sync::Arc};

use edgequota_counters::{Ask, Decider, Decision, LimitState, Refusal, Verdict};
use edgequota_policy::{
    Caller, Limit, Policy, PolicySpec, RequestView,
    limit::{Accuracy, Effective, FailurePolicy, KeyError, Mode, Subject},
    path,
    route::Matched,
};
use http::{HeaderMap, Method};
use ipnet::IpNet;

use crate::publish::Published;
use answer::{
    Answer, BackendAnswer, LimitAnswer, PolicyAnswer, RequestAnswer, RouteAnswer, SourceAnswer, VerdictAnswer,
};
pub use described::{BadDescription, Described};

/// A request that is described well enough to be looked at.
#[derive(Debug)]
pub struct Request {
    method: Method,
    host: String,
    path: String,
    headers: HeaderMap,
    peer: IpAddr,
    trusted: Vec<IpNet>,
    notes: Vec<String>,
}

/// A policy to explain.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Compiled.
    pub policy: Arc<Policy>,
    /// Written.
    pub spec: Arc<PolicySpec>,
    /// How it is called.
    pub name: PolicyAnswer,
}

impl Explained {
    /// What is served.
    pub fn published(published: &Published) -> Explained {
        Explained {
            policy: Arc::clone(&published.policy),
            spec: Arc::clone(&published.spec),
            name: PolicyAnswer {
                version: published.version.to_string(),
                generation: published.version.generation,
                hash: published.version.hash.to_string(),
                source: published.origin.to_string(),
            },
        }
    }

    /// Answers. Without a `decider` (a local file, no store) everything but the tokens is told.
    pub async fn answer(&self, request: &Request, decider: Option<&Decider>) -> Answer {
        let mut notes = request.notes.clone();
        let base = |path: &str, notes: Vec<String>| RequestAnswer {
            method: request.method.to_string(),
            host: request.host.clone(),
            path: path.to_owned(),
            peer: request.peer.to_string(),
            client_ip: request.peer.to_string(),
            notes,
        };
        let normal = match path::normalise(&request.path) {
            Ok(normal) => normal,
            Err(error) => {
                let verdict = VerdictAnswer::refused(400, "bad_request", error.to_string());
                return Answer::without_route(self.name.clone(), base(&request.path, notes), verdict);
            }
        };
        let view = RequestView {
            method: &request.method,
            host: &request.host,
            path: &normal,
            headers: &request.headers,
            caller: Caller { peer: request.peer, trusted_proxies: &request.trusted },
        };
        if normal != request.path {
            notes.push(format!("the path is normalised from {}", request.path));
        }
        let mut described = base(&normal, notes);
        described.client_ip = edgequota_policy::limit::client_ip(&view, &request.trusted, 0).to_string();
        let Some(matched) = self.policy.route(&view) else {
            let reason = "no route matches, and there is no default backend".to_owned();
            return Answer::without_route(
                self.name.clone(),
                described,
                VerdictAnswer::refused(404, "no_route", reason),
            );
        };
        let (mut limits, asks, failed) = self.ask(&matched, &view);
        let decision = match decider {
            Some(decider) if failed.is_none() => Some(decider.look(&asks).await),
            _ => None,
        };
        let verdict = match (failed, &decision) {
            (Some(refused), _) => refused,
            (None, Some(decision)) => verdict(decision),
            (None, None) => unknown(&asks),
        };
        if let Some(decision) = &decision {
            let counted = limits.iter_mut().filter(|l| l.subject.is_some());
            for (limit, state) in counted.zip(&decision.limits) {
                fill(limit, state);
            }
        }
        Answer {
            policy: self.name.clone(),
            request: described,
            route: Some(route(&matched)),
            backend: Some(BackendAnswer {
                name: matched.backend.name.to_string(),
                url: matched.backend.url.to_string(),
            }),
            limits,
            verdict,
        }
    }

    /// Who is counted by each limit, and the numbers that apply; or the refusal that comes before any counting.
    fn ask(
        &self,
        matched: &Matched<'_>,
        view: &RequestView<'_>,
    ) -> (Vec<LimitAnswer>, Vec<Ask>, Option<VerdictAnswer>) {
        let (mut limits, mut asks, mut failed) = (Vec::new(), Vec::new(), None);
        for limit in matched.limits {
            match limit.subject(view) {
                Ok(Some(subject)) => {
                    let effective = limit.effective(&subject);
                    limits.push(self.describe(limit, &subject, &effective));
                    asks.push(Ask { limit: Arc::clone(limit), subject, effective });
                }
                Ok(None) => {
                    let note = "the request has no key, and on_missing is skip: not counted";
                    limits.push(uncounted(limit, note.to_owned()));
                }
                Err(error) => {
                    limits.push(uncounted(limit, error.to_string()));
                    // A shadow limit never refuses, for whatever reason.
                    if limit.mode == Mode::Enforce {
                        failed.get_or_insert_with(|| key_refused(&error));
                    }
                }
            }
        }
        (limits, asks, failed)
    }

    fn describe(&self, limit: &Limit, subject: &Subject, effective: &Effective) -> LimitAnswer {
        let shown = subject.display().into_owned();
        let mut key = String::new();
        // The key of a credential holds the credential: people get the key of its hash.
        let shown_subject = Subject { raw: shown.clone(), secret: false };
        limit.counter_key(if subject.secret { &shown_subject } else { subject }, &mut key);
        let mut sources = vec![SourceAnswer {
            from: format!("limit {}", limit.name),
            average: limit.numbers.average,
            burst: limit.numbers.burst,
            period: period(limit.numbers.period_us),
            blocked: false,
        }];
        if let Some(index) = effective.override_index {
            sources.push(SourceAnswer {
                from: format!("overrides[{index}] ({})", self.override_label(index)),
                average: effective.numbers.average,
                burst: effective.numbers.burst,
                period: period(effective.numbers.period_us),
                blocked: effective.blocked,
            });
        }
        LimitAnswer {
            subject: Some(shown),
            counter_key: Some(key),
            average: effective.numbers.average,
            burst: effective.numbers.burst,
            period: period(effective.numbers.period_us),
            blocked: effective.blocked,
            sources,
            ..uncounted(limit, String::new())
        }
    }

    /// The override as it is written, without its keys (there may be thousands, and they may be credentials).
    fn override_label(&self, index: usize) -> String {
        match self.spec.overrides.get(index) {
            Some(over) if over.keys.len() == 1 => format!("limit {}, 1 key", over.limit),
            Some(over) => format!("limit {}, {} keys", over.limit, over.keys.len()),
            None => "unknown".into(),
        }
    }
}

fn uncounted(limit: &Limit, note: String) -> LimitAnswer {
    LimitAnswer {
        name: limit.name.to_string(),
        mode: match limit.mode {
            Mode::Enforce => "enforce".into(),
            Mode::Shadow => "shadow".into(),
        },
        accuracy: match limit.accuracy {
            Accuracy::Exact => "exact".into(),
            Accuracy::Leased => "leased".into(),
        },
        failure_policy: match limit.failure_policy {
            FailurePolicy::PassThrough => "passThrough".into(),
            FailurePolicy::InMemoryFallback => "inMemoryFallback".into(),
            FailurePolicy::FailClosed => "failClosed".into(),
        },
        subject: None,
        counter_key: None,
        average: limit.numbers.average,
        burst: limit.numbers.burst,
        period: period(limit.numbers.period_us),
        cost: limit.cost,
        blocked: false,
        sources: Vec::new(),
        remaining: None,
        reset_after_seconds: None,
        retry_after_seconds: None,
        passes: None,
        note,
    }
}

fn fill(limit: &mut LimitAnswer, state: &LimitState) {
    limit.remaining = state.remaining;
    limit.reset_after_seconds = state.reset_after.map(|d| d.as_secs_f64());
    limit.retry_after_seconds = state.retry_after.map(|d| d.as_secs_f64());
    limit.passes = state.passed;
    if state.remaining.is_none() && !limit.blocked {
        limit.note = "the store does not answer: the counter is unknown".into();
    }
}

fn key_refused(error: &KeyError) -> VerdictAnswer {
    let (status, code) = error.refusal();
    VerdictAnswer::refused(status, code, error.to_string())
}

fn verdict(decision: &Decision) -> VerdictAnswer {
    use edgequota_counters::AllowedBy;
    let name = |index: usize| decision.limits.get(index).map_or("?".to_owned(), |state| state.limit.name.to_string());
    match &decision.verdict {
        Verdict::Allowed(by) => VerdictAnswer::allowed(match by {
            AllowedBy::NoLimit => "no limit applies",
            AllowedBy::Store => "every limit has a token",
            AllowedBy::Fallback => "the store does not answer; the in-process fallback has room",
            AllowedBy::PassThrough => "the store does not answer; failure_policy is passThrough",
        }),
        Verdict::Refused(Refusal::Limited { limit, retry_after }) => {
            let cost = decision.limits.get(*limit).map_or(1, |state| state.limit.cost);
            let reason = match cost {
                1 => format!("limit {} has no token left", name(*limit)),
                cost => format!("limit {} has fewer than the {cost} tokens that a request takes", name(*limit)),
            };
            VerdictAnswer {
                retry_after_seconds: Some(retry_after.as_secs_f64()),
                ..VerdictAnswer::refused(429, "rate_limited", reason)
            }
        }
        Verdict::Refused(Refusal::Blocked { limit }) => {
            let reason = format!("the subject is blocked in limit {}", name(*limit));
            VerdictAnswer::refused(429, "rate_limited", reason)
        }
        Verdict::Refused(Refusal::Unavailable { code }) => {
            let reason = "the store does not answer; failure_policy is failClosed".to_owned();
            VerdictAnswer::refused(*code, "service_unavailable", reason)
        }
        Verdict::Refused(Refusal::PassThroughFull) => {
            let reason = "the store does not answer, and global_passthrough_rps is used up".to_owned();
            VerdictAnswer::refused(429, "rate_limited", reason)
        }
    }
}

/// Without a store only a block, or the absence of limits, decides.
fn unknown(asks: &[Ask]) -> VerdictAnswer {
    let enforced = |ask: &&Ask| ask.limit.mode == Mode::Enforce;
    if let Some(ask) = asks.iter().filter(enforced).find(|ask| ask.effective.blocked) {
        let reason = format!("the subject is blocked in limit {}", ask.limit.name);
        return VerdictAnswer::refused(429, "rate_limited", reason);
    }
    if asks.iter().any(|ask| enforced(&ask)) {
        return VerdictAnswer::unknown("depends on the counters, which were not asked");
    }
    VerdictAnswer::allowed("no limit is enforced")
}

fn route(matched: &Matched<'_>) -> RouteAnswer {
    let why = &matched.why;
    let conditions = match why.conditions {
        0 => String::new(),
        1 => ", and 1 further condition holds".to_owned(),
        n => format!(", and {n} further conditions hold"),
    };
    let text = match matched.route {
        None => "no route matches: the default backend".to_owned(),
        Some(_) => format!("{}, {}{conditions}", kind("host", why.host), kind("path", why.path)),
    };
    RouteAnswer {
        name: matched.route.map(ToString::to_string),
        host: why.host.to_owned(),
        path: why.path.to_owned(),
        conditions: why.conditions,
        why: text,
    }
}

fn kind(what: &str, kind: &str) -> String {
    match kind {
        "any" => format!("any {what}"),
        kind => format!("{what} by {kind}"),
    }
}

fn period(us: u64) -> String {
    edgequota_policy::GoDuration::new(std::time::Duration::from_micros(us)).to_string()
}
