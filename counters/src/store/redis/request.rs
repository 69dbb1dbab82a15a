//! A plan as a command of Redis.

use std::sync::LazyLock;

use redis::Cmd;

use crate::store::{
    plan::{Plan, Purpose},
    script,
};

static SCRIPT_HASH: LazyLock<String> = LazyLock::new(|| redis::Script::new(script::SOURCE).get_hash().to_owned());

/// A call in the form it is sent, owned: it outlives the plan and may be sent again.
pub(super) struct Request {
    pub(super) command: Cmd,
    pub(super) counters: usize,
    pub(super) purpose: Purpose,
}

impl Request {
    pub(super) fn new(plan: &Plan) -> Request {
        let mut command = Cmd::with_capacity(6 + 9 * plan.len(), 64 + 160 * plan.len());
        command.arg("EVALSHA").arg(SCRIPT_HASH.as_str());
        script::arguments(plan, &mut command);
        Request { command, counters: plan.len(), purpose: plan.purpose }
    }

    /// The same call with the script's text, for a server that does not know it.
    pub(super) fn with_source(&self) -> Cmd {
        let mut whole = Cmd::new();
        whole.arg("EVAL").arg(script::SOURCE);
        for arg in self.command.args_iter().skip(2) {
            if let redis::Arg::Simple(bytes) = arg {
                whole.arg(bytes);
            }
        }
        whole
    }
}
