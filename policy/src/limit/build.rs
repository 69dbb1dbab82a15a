//! From a checked, merged limit to the compiled one.

use std::sync::Arc;

use super::{KeyStrategy, Limit, Mode, Override, Overrides};
use crate::{
    Numbers,
    numbers::NumbersError,
    spec::{DEFAULT, KeyStrategySpec, LimitMode, LimitValues, OverrideSpec, RateLimitSpec},
};

/// Namespace of counters when `key_prefix` is empty; the original's.
const PREFIX: &str = "edgequota";

/// Numbers as they are written; negative ones are refused like 0.
pub(crate) fn numbers(average: i64, burst: i64, period: crate::GoDuration) -> Result<Numbers, NumbersError> {
    let positive = |n: i64| u64::try_from(n).unwrap_or(0);
    Numbers::new(positive(average), positive(burst), period.get())
}

/// Numbers of an override: what it leaves out comes from its limit.
pub(crate) fn override_numbers(over: &OverrideSpec, limit: &LimitValues) -> Result<Numbers, NumbersError> {
    numbers(
        over.average.unwrap_or(limit.average),
        over.burst.unwrap_or(limit.burst),
        over.period.unwrap_or(limit.period),
    )
}

/// Writes subjects of one limit the way that it extracts them.
pub(crate) struct SubjectForm(KeyStrategy);

impl SubjectForm {
    pub(crate) fn of(key: &KeyStrategySpec) -> Self {
        Self(KeyStrategy::compile(key))
    }
    pub(crate) fn subject_of(&self, key: &str) -> String {
        self.0.override_key(key)
    }
}

impl Limit {
    /// None for a disabled limit.
    pub(crate) fn compile(
        name: &str,
        values: &LimitValues,
        base: &RateLimitSpec,
    ) -> Result<Option<Limit>, NumbersError> {
        let mode = match values.mode {
            LimitMode::Enforce => Mode::Enforce,
            LimitMode::Shadow => Mode::Shadow,
            LimitMode::Disabled => return Ok(None),
        };
        let prefix = if base.key_prefix.is_empty() { PREFIX } else { &base.key_prefix };
        Ok(Some(Limit {
            name: Arc::from(name),
            mode,
            accuracy: values.accuracy,
            numbers: numbers(values.average, values.burst, values.period)?,
            failure_policy: values.failure_policy,
            failure_code: u16::try_from(values.failure_code).unwrap_or(429),
            cost: u64::try_from(values.cost).unwrap_or(1).max(1),
            min_ttl: values.min_ttl.non_zero(),
            headers: values.headers,
            global_passthrough_rps: (base.global_passthrough_rps > 0).then_some(base.global_passthrough_rps),
            key: KeyStrategy::compile(&values.key),
            overrides: Overrides::default(),
            key_base: format!("rl:{prefix}:").into_boxed_str(),
            is_default: name == DEFAULT,
        }))
    }

    /// Lays one override over this limit. `numbers`: None for `block`, which keeps the limit's.
    pub(crate) fn add_override(&mut self, keys: &[String], index: usize, numbers: Option<Numbers>) {
        self.overrides.reserve(keys.len());
        let over = Override { numbers: numbers.unwrap_or(self.numbers), blocked: numbers.is_none(), index };
        for key in keys {
            self.overrides.insert(self.key.override_key(key), over);
        }
    }
}
