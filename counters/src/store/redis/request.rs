//! A plan as a command of Redis.

use std::sync::LazyLock;

use redis::Cmd;

use crate::store::{plan::Plan, script};

static SCRIPT_HASH: LazyLock<String> = LazyLock::new(|| redis::Script::new(script::SOURCE).get_hash().to_owned());

/// A call in the form it is sent, owned: it outlives the plan and may be sent again.
pub(super) struct Request {
    pub(super) command: Cmd,
    pub(super) plan: Plan,
}

impl Request {
    pub(super) fn new(plan: &Plan) -> Request {
        let mut command = Cmd::with_capacity(4 + plan.len(), 96 + 144 * plan.len());
        command.arg("EVALSHA").arg(SCRIPT_HASH.as_str());
        script::arguments(std::slice::from_ref(plan), &mut command);
        Request { command, plan: plan.clone() }
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
