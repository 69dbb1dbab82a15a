//! Plans as a command of Redis.

use std::{borrow::Borrow, sync::LazyLock};

use redis::Cmd;

use crate::store::{plan::Plan, script};

static SCRIPT_HASH: LazyLock<String> = LazyLock::new(|| redis::Script::new(script::SOURCE).get_hash().to_owned());

/// Whether what the plans give back is sent. A second time it must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credits {
    Give,
    Withhold,
}

/// A call by the script's hash.
pub(super) fn by_hash<P: Borrow<Plan>>(plans: &[P], credits: Credits) -> Cmd {
    let counters: usize = plans.iter().map(|plan| plan.borrow().len()).sum();
    let mut command = Cmd::with_capacity(6 + 9 * counters, 96 + 160 * counters);
    command.arg("EVALSHA").arg(SCRIPT_HASH.as_str());
    script::arguments(plans, credits == Credits::Give, &mut command);
    command
}

/// The same call with the script's text, for a server that does not know it.
pub(super) fn with_source<P: Borrow<Plan>>(plans: &[P], credits: Credits) -> Cmd {
    let mut command = Cmd::new();
    command.arg("EVAL").arg(script::SOURCE);
    script::arguments(plans, credits == Credits::Give, &mut command);
    command
}
