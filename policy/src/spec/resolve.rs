//! Inheritance (DESIGN 4): what a limit or an override leaves out, and where it comes from. One place for both the
//! resolved spec and the compiled policy.

use std::{borrow::Cow, collections::HashMap};

use super::{
    Accuracy, DEFAULT, FailurePolicy, HeaderStyle, KeyPatchSpec, KeyStrategySpec, LimitMode, LimitSpec, NamedLimitSpec,
    OverrideSpec, PolicySpec, RateLimitSpec, Secret,
};
use crate::{GoDuration, backend::url};

/// A limit with nothing left out.
#[derive(Clone, Debug)]
pub(crate) struct LimitValues {
    pub(crate) average: i64,
    pub(crate) burst: i64,
    pub(crate) period: GoDuration,
    pub(crate) cost: i64,
    pub(crate) mode: LimitMode,
    pub(crate) headers: HeaderStyle,
    pub(crate) accuracy: Accuracy,
    pub(crate) failure_policy: FailurePolicy,
    pub(crate) failure_code: i64,
    pub(crate) min_ttl: GoDuration,
    pub(crate) key: KeyStrategySpec,
}

/// The fields of a key strategy, so that none is forgotten in one of the places that walk them.
macro_rules! for_key_fields {
    ($action:ident) => {
        $action!(
            r#type,
            header_name,
            path_prefix,
            global_key,
            trusted_proxies,
            trusted_ip_depth,
            ipv6_prefix,
            on_missing,
            missing_code,
            hash
        )
    };
}

/// The other inherited fields of a limit.
macro_rules! for_inherited_fields {
    ($action:ident) => {
        $action!(headers, accuracy, failure_policy, failure_code, min_ttl)
    };
}

impl LimitValues {
    /// The default limit. A burst below 1 becomes 1.
    pub(crate) fn of_default(base: &RateLimitSpec) -> Self {
        LimitValues {
            average: base.average,
            burst: base.burst.max(1),
            period: base.period,
            cost: base.cost,
            mode: base.mode,
            headers: base.headers,
            accuracy: base.accuracy,
            failure_policy: base.failure_policy,
            failure_code: base.failure_code,
            min_ttl: base.min_ttl,
            key: base.key_strategy.clone(),
        }
    }

    /// A route's limit. `average` 0 stands for "not written", which is a problem of its own.
    pub(crate) fn of(limit: &LimitSpec, base: &RateLimitSpec) -> Self {
        let average = limit.average.unwrap_or(0);
        LimitValues {
            average,
            burst: limit.burst.unwrap_or(average),
            period: limit.period,
            cost: limit.cost,
            mode: limit.mode,
            headers: limit.headers.unwrap_or(base.headers),
            accuracy: limit.accuracy.unwrap_or(base.accuracy),
            failure_policy: limit.failure_policy.unwrap_or(base.failure_policy),
            failure_code: limit.failure_code.unwrap_or(base.failure_code),
            min_ttl: limit.min_ttl.unwrap_or(base.min_ttl),
            key: key_of(&limit.key_strategy, &base.key_strategy),
        }
    }
}

fn key_of(patch: &KeyPatchSpec, base: &KeyStrategySpec) -> KeyStrategySpec {
    macro_rules! merge {
        ($($field:ident),*) => {
            KeyStrategySpec { $($field: patch.$field.clone().unwrap_or_else(|| base.$field.clone()),)* }
        };
    }
    for_key_fields!(merge)
}

/// Name of a further limit of a route.
pub(crate) fn further_name(route: &str, limit: &str) -> String {
    format!("{route}/{limit}")
}

pub(super) fn resolved(mut spec: PolicySpec) -> PolicySpec {
    spec.rate_limit.burst = spec.rate_limit.burst.max(1);
    spec.backend.url = url::with_port(&spec.backend.url);
    for backend in &mut spec.backends {
        backend.url = url::with_port(&backend.url);
    }
    for route in &mut spec.routes {
        if route.backend.is_empty() {
            route.backend = DEFAULT.to_owned();
        }
        if let Some(limit) = &mut route.rate_limit {
            write_out(limit, &spec.rate_limit);
        }
        for limit in &mut route.limits {
            let mut plain = limit.plain();
            write_out(&mut plain, &spec.rate_limit);
            *limit = NamedLimitSpec::named(std::mem::take(&mut limit.name), plain);
        }
    }
    resolve_overrides(&mut spec);
    move_deprecated_token(&mut spec);
    spec
}

fn write_out(limit: &mut LimitSpec, base: &RateLimitSpec) {
    let values = LimitValues::of(limit, base);
    if limit.average.is_some() {
        limit.burst = Some(values.burst);
    }
    macro_rules! write {
        ($($field:ident),*) => { $(limit.$field = Some(values.$field);)* };
    }
    for_inherited_fields!(write);
    let key = values.key;
    macro_rules! write_key {
        ($($field:ident),*) => { KeyPatchSpec { $($field: Some(key.$field),)* } };
    }
    limit.key_strategy = for_key_fields!(write_key);
}

fn resolve_overrides(spec: &mut PolicySpec) {
    type Inherited = (i64, i64, GoDuration);
    let numbers = |limit: &LimitSpec| -> Inherited {
        (limit.average.unwrap_or(0), limit.burst.or(limit.average).unwrap_or(0), limit.period)
    };
    let mut known: HashMap<String, Inherited> = HashMap::new();
    let base = &spec.rate_limit;
    known.insert(DEFAULT.to_owned(), (base.average, base.burst, base.period));
    for route in &spec.routes {
        if let Some(limit) = &route.rate_limit {
            known.insert(route.name.clone(), numbers(limit));
        }
        for limit in &route.limits {
            known.insert(further_name(&route.name, &limit.name), numbers(&limit.plain()));
        }
    }
    for over in &mut spec.overrides {
        if let Some((average, burst, period)) = known.get(&over.limit).copied().filter(|_| !over.block) {
            let OverrideSpec { average: own_average, burst: own_burst, period: own_period, .. } = over;
            own_average.get_or_insert(average);
            own_burst.get_or_insert(burst);
            own_period.get_or_insert(period);
        }
    }
}

/// `auth_token` becomes the header that it stands for. A reference stays: `Bearer` cannot be put before what is not known here.
fn move_deprecated_token(spec: &mut PolicySpec) {
    let http = &mut spec.events.http;
    let Some(token) = http.auth_token.literal() else {
        return;
    };
    let value = Secret::Literal(format!("Bearer {token}"));
    http.headers.entry(http.auth_header.clone()).or_insert(value);
    http.auth_token = Secret::default();
}

/// An inherited value may be left out where both the value and what it would be inherited from are the released
/// default: absent and default then mean the same. So a field that a later version adds does not reach older data
/// planes before someone uses it.
pub(super) fn without_released_defaults(spec: &PolicySpec) -> Cow<'_, PolicySpec> {
    if spec.routes.iter().all(|route| route.rate_limit.is_none() && route.limits.is_empty()) {
        return Cow::Borrowed(spec);
    }
    let mut lean = spec.clone();
    let released = RateLimitSpec::default();
    for route in &mut lean.routes {
        if let Some(limit) = &mut route.rate_limit {
            leave_out(limit, &lean.rate_limit, &released);
        }
        for limit in &mut route.limits {
            let mut plain = limit.plain();
            leave_out(&mut plain, &lean.rate_limit, &released);
            *limit = NamedLimitSpec::named(std::mem::take(&mut limit.name), plain);
        }
    }
    Cow::Owned(lean)
}

fn leave_out(limit: &mut LimitSpec, base: &RateLimitSpec, released: &RateLimitSpec) {
    macro_rules! leave {
        ($($field:ident),*) => {
            $(limit.$field = limit.$field.take().filter(|v| *v != released.$field || base.$field != released.$field);)*
        };
    }
    for_inherited_fields!(leave);
    let (base, released) = (&base.key_strategy, &released.key_strategy);
    let key = &mut limit.key_strategy;
    macro_rules! leave_key {
        ($($field:ident),*) => {
            $(key.$field = key.$field.take().filter(|v| *v != released.$field || base.$field != released.$field);)*
        };
    }
    for_key_fields!(leave_key);
}
