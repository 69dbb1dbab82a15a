//! An answer as text.

use std::fmt::Write as _;

use crate::effective::answer::{Answer, LimitAnswer, VerdictAnswer};

/// The answer for people, ending with a line break.
pub fn render(answer: &Answer) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut out, answer);
    out
}

fn write(out: &mut String, answer: &Answer) -> std::fmt::Result {
    let request = &answer.request;
    let host = if request.host.is_empty() { "(no host)" } else { &request.host };
    writeln!(out, "request   {} {host}{} from {}", request.method, request.path, request.client_ip)?;
    for note in &request.notes {
        writeln!(out, "          ({note})")?;
    }
    writeln!(out, "policy    {} ({})", answer.policy.version, answer.policy.source)?;
    if let Some(route) = &answer.route {
        match &route.name {
            Some(name) => writeln!(out, "route     {name}: {}", route.why)?,
            None => writeln!(out, "route     none: {}", route.why)?,
        }
    }
    if let Some(backend) = &answer.backend {
        writeln!(out, "backend   {} -> {}", backend.name, backend.url)?;
    }
    if answer.route.is_some() && answer.limits.is_empty() {
        writeln!(out, "limits    none")?;
    }
    for limit in &answer.limits {
        limit_lines(out, limit)?;
    }
    writeln!(out, "verdict   {}", verdict(&answer.verdict))
}

fn limit_lines(out: &mut String, limit: &LimitAnswer) -> std::fmt::Result {
    let shadow = if limit.mode == "shadow" { " (shadow: never refuses)" } else { "" };
    writeln!(
        out,
        "limit     {}{shadow}: {}",
        limit.name,
        numbers(limit.average, limit.burst, &limit.period, limit.blocked)
    )?;
    if limit.cost != 1 && !limit.blocked {
        writeln!(out, "  cost      {} tokens a request", limit.cost)?;
    }
    if let Some(subject) = &limit.subject {
        writeln!(out, "  subject   {subject}")?;
    }
    if let Some(key) = &limit.counter_key {
        writeln!(out, "  counter   {key}")?;
    }
    for (index, source) in limit.sources.iter().enumerate() {
        let arrow = if index == 0 { "from" } else { "then" };
        let numbers = numbers(source.average, source.burst, &source.period, source.blocked);
        writeln!(out, "  {arrow}      {}: {numbers}", source.from)?;
    }
    if let Some(remaining) = limit.remaining {
        let full = limit
            .reset_after_seconds
            .filter(|s| *s > 0.0)
            .map_or_else(|| ", full".to_owned(), |s| format!(", full in {}", seconds(s)));
        writeln!(out, "  left      {remaining} of {}{full}", limit.burst)?;
    }
    if limit.passes == Some(false) && !limit.blocked {
        let next = if limit.cost == 1 { "the next token".to_owned() } else { format!("{} tokens", limit.cost) };
        let when = limit.retry_after_seconds.map_or_else(String::new, |s| format!(", {next} in {}", seconds(s)));
        writeln!(out, "  now       refuses{when}")?;
    }
    if !limit.note.is_empty() {
        writeln!(out, "  note      {}", limit.note)?;
    }
    Ok(())
}

fn numbers(average: u64, burst: u64, period: &str, blocked: bool) -> String {
    if blocked { "blocked".to_owned() } else { format!("{average} per {period}, burst {burst}") }
}

fn verdict(verdict: &VerdictAnswer) -> String {
    let reason = &verdict.reason;
    match (verdict.allowed, verdict.status) {
        (Some(true), _) => format!("allowed: {reason}"),
        (Some(false), status) => {
            let status = status.map_or_else(String::new, |s| format!(" with {s}"));
            let retry =
                verdict.retry_after_seconds.map_or_else(String::new, |s| format!("; retry after {}", seconds(s)));
            format!("refused{status}: {reason}{retry}")
        }
        (None, _) => format!("unknown: {reason}"),
    }
}

fn seconds(s: f64) -> String {
    if s < 10.0 { format!("{s:.3} s") } else { format!("{s:.0} s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effective::answer::*;

    #[test]
    fn an_answer_reads_from_top_to_bottom() {
        let source = |from: &str, average| SourceAnswer {
            from: from.into(),
            average,
            burst: 40,
            period: "1s".into(),
            blocked: false,
        };
        let answer = Answer {
            policy: PolicyAnswer {
                version: "7-abcdef01".into(),
                generation: 7,
                hash: "ab".into(),
                source: "files".into(),
            },
            request: RequestAnswer {
                method: "GET".into(),
                host: "api.example.com".into(),
                path: "/v1/search".into(),
                peer: "1.2.3.4".into(),
                client_ip: "1.2.3.4".into(),
                notes: vec![],
            },
            route: Some(RouteAnswer {
                name: Some("search-api".into()),
                host: "exact".into(),
                path: "prefix".into(),
                conditions: 1,
                why: "host by exact, path by prefix, and 1 further condition holds".into(),
            }),
            backend: Some(BackendAnswer { name: "search".into(), url: "http://search:8080".into() }),
            limits: vec![LimitAnswer {
                name: "search-api".into(),
                mode: "enforce".into(),
                accuracy: "exact".into(),
                failure_policy: "passThrough".into(),
                subject: Some("acme".into()),
                counter_key: Some("{rl:edgequota:acme}:search-api".into()),
                average: 100,
                burst: 40,
                period: "1s".into(),
                cost: 5,
                blocked: false,
                sources: vec![source("limit search-api", 20), source("overrides[0] (limit search-api, 2 keys)", 100)],
                remaining: Some(0),
                reset_after_seconds: Some(0.4),
                retry_after_seconds: Some(0.01),
                passes: Some(false),
                note: String::new(),
            }],
            verdict: VerdictAnswer {
                retry_after_seconds: Some(0.01),
                ..VerdictAnswer::refused(429, "rate_limited", "limit search-api has no token left".into())
            },
        };
        let expected = "\
request   GET api.example.com/v1/search from 1.2.3.4
policy    7-abcdef01 (files)
route     search-api: host by exact, path by prefix, and 1 further condition holds
backend   search -> http://search:8080
limit     search-api: 100 per 1s, burst 40
  cost      5 tokens a request
  subject   acme
  counter   {rl:edgequota:acme}:search-api
  from      limit search-api: 20 per 1s, burst 40
  then      overrides[0] (limit search-api, 2 keys): 100 per 1s, burst 40
  left      0 of 40, full in 0.400 s
  now       refuses, 5 tokens in 0.010 s
verdict   refused with 429: limit search-api has no token left; retry after 0.010 s
";
        assert_eq!(render(&answer), expected);
    }
}
