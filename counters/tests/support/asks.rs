//! Limits as a policy compiles them, and what is asked of them.

use std::sync::Arc;

use edgequota_counters::Ask;
use edgequota_policy::{
    Limit, Policy, PolicySpec,
    limit::{FailurePolicy, Mode, Subject},
};

/// A limit to be written into a policy. As it is made by [`limit`], it refills within an hour, so that no test sees it.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    pub burst: u64,
    pub average: u64,
    pub period: &'static str,
    pub mode: Mode,
    pub failure_policy: FailurePolicy,
    pub global_passthrough_rps: u64,
    pub cost: u64,
    pub leased: bool,
    pub blocked: &'static [&'static str],
}

/// An enforced limit of `burst` tokens. `default` is the default limit, any other name a route's.
pub fn limit(name: &'static str, burst: u64, failure_policy: FailurePolicy) -> Rule {
    Rule {
        name,
        burst,
        average: burst,
        period: "1h",
        mode: Mode::Enforce,
        failure_policy,
        global_passthrough_rps: 0,
        cost: 1,
        leased: false,
        blocked: &[],
    }
}

impl Rule {
    fn compiled(self) -> Arc<Limit> {
        let block = serde_json::json!({
            "average": self.average, "burst": self.burst, "period": self.period, "failure_code": 503,
            "cost": self.cost, "accuracy": if self.leased { "leased" } else { "exact" },
            "mode": if self.mode == Mode::Enforce { "enforce" } else { "shadow" },
            "failure_policy": match self.failure_policy {
                FailurePolicy::PassThrough => "passThrough",
                FailurePolicy::InMemoryFallback => "inMemoryFallback",
                FailurePolicy::FailClosed => "failClosed",
            },
        });
        let mut spec = serde_json::json!({ "backend": { "url": "http://backend:80" } });
        if self.name == "default" {
            spec["rate_limit"] = block;
        } else {
            spec["routes"] =
                serde_json::json!([{ "name": self.name, "match": { "path_prefix": "/" }, "rate_limit": block }]);
        }
        if self.global_passthrough_rps > 0 {
            spec["rate_limit"]["global_passthrough_rps"] = self.global_passthrough_rps.into();
        }
        if !self.blocked.is_empty() {
            spec["overrides"] = serde_json::json!([{ "keys": self.blocked, "limit": self.name, "block": true }]);
        }
        let spec: PolicySpec = serde_json::from_value(spec).expect("a policy spec");
        let policy = Policy::compile(&spec.resolved()).expect("a policy");
        Arc::clone(policy.limit(self.name).expect("the limit"))
    }
}

/// What `subject` asks of a limit.
pub fn ask(rule: Rule, subject: &str) -> Ask {
    let limit = rule.compiled();
    let subject = Subject { raw: subject.to_owned(), secret: false };
    let effective = limit.effective(&subject);
    Ask { limit, subject, effective }
}

/// The same, blocked by an override.
pub fn blocked(rule: Rule, subject: &'static str) -> Ask {
    let ask = ask(Rule { blocked: Box::leak(Box::new([subject])), ..rule }, subject);
    assert!(ask.effective.blocked);
    ask
}
