//! Requests, and which answers are right.

use bytes::Bytes;
use http::Request;

use super::{
    policy::{BASE, BURST, CLOSED},
    world::Meanwhile,
};
use crate::{
    body::{self, AnyBody},
    client::{Answer, request},
};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No limit.
    Free,
    /// The default limit, never reached, passThrough.
    Open,
    /// Reached at once, passThrough.
    Tight,
    /// Never reached, inMemoryFallback.
    Memory,
    /// Hammered, failClosed, exact.
    Exact,
    /// Hammered, failClosed, leased.
    Leased,
    /// A body goes to the origin and comes back.
    Echo,
    /// The origin answers 5xx by itself.
    OriginFails,
    /// The origin closes without an answer.
    NoAnswer,
    /// The origin breaks off in the middle of its body.
    HalfAnswer,
    /// The origin comes and goes.
    Flaky,
}

/// A request with what its answer must hold.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) kind: Kind,
    method: &'static str,
    path: String,
    key: String,
    script: String,
    sent: Bytes,
    expected: Bytes,
}

impl Kind {
    pub(super) const ALL: [Kind; 11] = [
        Kind::Free,
        Kind::Open,
        Kind::Tight,
        Kind::Memory,
        Kind::Exact,
        Kind::Leased,
        Kind::Echo,
        Kind::OriginFails,
        Kind::NoAnswer,
        Kind::HalfAnswer,
        Kind::Flaky,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Free => "free",
            Kind::Open => "open",
            Kind::Tight => "tight",
            Kind::Memory => "memory",
            Kind::Exact => "exact",
            Kind::Leased => "leased",
            Kind::Echo => "echo",
            Kind::OriginFails => "origin fails",
            Kind::NoAnswer => "no answer",
            Kind::HalfAnswer => "half an answer",
            Kind::Flaky => "flaky",
        }
    }

    /// Mostly the limits whose promise is judged: they must be over their rate on a slow machine too.
    fn any(n: usize) -> Kind {
        match fastrand::usize(0..100) {
            0..30 => Kind::Exact,
            30..60 => Kind::Leased,
            60..86 => [Kind::Free, Kind::Open, Kind::Tight, Kind::Memory, Kind::Echo, Kind::Flaky][n % 6],
            _ => Kind::ALL[fastrand::usize(0..Kind::ALL.len())],
        }
    }
}

impl Wanted {
    /// The `n`th request of a client.
    pub(super) fn any(n: usize) -> Wanted {
        Wanted::of(Kind::any(n))
    }

    pub(super) fn of(kind: Kind) -> Wanted {
        let length = if fastrand::u8(..) < 8 { fastrand::usize(0..300_000) } else { fastrand::usize(0..2_000) };
        let mut wanted = Wanted {
            kind,
            method: "GET",
            path: "/free/x".to_owned(),
            key: String::new(),
            script: format!("length={length}"),
            sent: Bytes::new(),
            expected: vec![b'x'; length].into(),
        };
        match kind {
            Kind::Free => {}
            Kind::Open => (wanted.path, wanted.key) = ("/".to_owned(), format!("open-{}", fastrand::u16(0..500))),
            Kind::Tight => (wanted.path, wanted.key) = ("/tight".to_owned(), format!("tight-{}", fastrand::u8(0..8))),
            Kind::Memory => {
                (wanted.path, wanted.key) = ("/memory/x/y".to_owned(), format!("memory-{}", fastrand::u16(0..500)));
            }
            Kind::Exact => (wanted.path, wanted.key) = ("/exact".to_owned(), "hot".to_owned()),
            Kind::Leased => (wanted.path, wanted.key) = ("/leased".to_owned(), "hot".to_owned()),
            Kind::Flaky => wanted.path = "/flaky".to_owned(),
            Kind::Echo => {
                wanted.method = "POST";
                wanted.sent = std::iter::repeat_with(|| fastrand::u8(..)).take(length).collect::<Vec<_>>().into();
                wanted.expected = wanted.sent.clone();
                wanted.script = "stream".to_owned();
            }
            Kind::OriginFails => wanted.script = format!("status=503; {}", wanted.script),
            Kind::NoAnswer => wanted.script = "drop=head".to_owned(),
            Kind::HalfAnswer => wanted.script = "chunks=3; chunk-size=200; drop=body".to_owned(),
        }
        wanted
    }

    pub(super) fn request(&self) -> Request<AnyBody> {
        let headers = [("x-t", self.key.as_str()), ("x-origin", self.script.as_str())];
        let from = usize::from(self.key.is_empty());
        request(self.method, "soak.example", &self.path, &headers[from..], body::full(self.sent.clone()))
    }

    /// What is wrong with an answer.
    ///
    /// # Errors
    /// In words.
    pub(super) fn judge(&self, answer: &Answer, meanwhile: Meanwhile) -> Result<(), String> {
        let status = answer.status.as_u16();
        match (self.kind, status) {
            (Kind::HalfAnswer, 200) => Err("an answer that was cut ended in an orderly way".to_owned()),
            (Kind::OriginFails, 503) | (Kind::Free | Kind::Echo | Kind::Flaky, 200) => self.whole(answer),
            // Over HTTP/2 a reset overtakes the head of the answer that it ends: then there was none.
            (Kind::NoAnswer | Kind::HalfAnswer, 502) => refusal(answer, "backend_unavailable"),
            (Kind::Flaky, 502) if !meanwhile.flaky => refusal(answer, "backend_unavailable"),
            (Kind::Flaky, 504) if !meanwhile.flaky => refusal(answer, "backend_timeout"),
            (Kind::Open | Kind::Memory | Kind::Tight | Kind::Exact | Kind::Leased, 200) => {
                self.whole(answer)?;
                self.numbers(answer, meanwhile)
            }
            (Kind::Tight | Kind::Exact | Kind::Leased, 429) => {
                refusal(answer, "rate_limited")?;
                if answer.header("retry-after").parse().unwrap_or(0) < 1 {
                    return Err(format!("Retry-After is {:?}", answer.header("retry-after")));
                }
                self.numbers(answer, meanwhile)
            }
            (Kind::Exact | Kind::Leased, CLOSED) if !meanwhile.redis => refusal(answer, "service_unavailable"),
            _ => {
                Err(format!("not allowed while {meanwhile:?}: {}", answer.text().chars().take(200).collect::<String>()))
            }
        }
    }

    /// Whether a body that broke off, or no answer at all, is right.
    pub(super) fn may_break(&self, meanwhile: Meanwhile) -> bool {
        self.kind == Kind::HalfAnswer || (self.kind == Kind::Flaky && !meanwhile.flaky)
    }

    fn whole(&self, answer: &Answer) -> Result<(), String> {
        if answer.body == self.expected {
            return Ok(());
        }
        let (got, wanted) = (answer.body.len(), self.expected.len());
        Err(format!("another body: {got} bytes instead of {wanted}"))
    }

    /// The limit's numbers are those of a version that may have been in force.
    fn numbers(&self, answer: &Answer, meanwhile: Meanwhile) -> Result<(), String> {
        let (oldest, newest) = meanwhile.versions;
        let said = answer.header("x-ratelimit-limit");
        // A failure policy has no numbers of the store's; in trouble they may be left out.
        if said.is_empty() && !meanwhile.redis {
            return Ok(());
        }
        let said: usize = said.parse().map_err(|_| format!("X-RateLimit-Limit is {said:?}"))?;
        let right = match self.kind {
            Kind::Tight => (oldest..=newest).any(|n| said == 5 + n % 2),
            Kind::Exact | Kind::Leased => said as f64 == BURST,
            _ => (BASE + oldest..=BASE + newest).contains(&said),
        };
        let left = answer.header("x-ratelimit-remaining");
        if !right {
            Err(format!("X-RateLimit-Limit is {said}, versions {oldest} to {newest} may be in force"))
        } else if left.parse::<usize>().is_ok_and(|left| left <= said) || !meanwhile.redis {
            Ok(())
        } else {
            Err(format!("X-RateLimit-Remaining is {left:?} of {said}"))
        }
    }
}

fn refusal(answer: &Answer, code: &str) -> Result<(), String> {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if body["error"] == code { Ok(()) } else { Err(format!("wanted error {code}: {}", answer.text())) }
}
