//! `/startz`, `/healthz`, `/readyz`: readiness is a set of named guards that log how long each took.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde_json::{Value, json};
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// Longest text of a guard or a note in the detail, in bytes.
const MAX_TEXT: usize = 2048;

/// Where a process stands for Kubernetes. Cheap to clone.
#[derive(Clone)]
pub struct Probes {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Mirrors [`State::ready`], for those who wait.
    ready: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    started: bool,
    draining: bool,
    guards: BTreeMap<&'static str, Gate>,
    notes: BTreeMap<&'static str, String>,
}

struct Gate {
    /// None: open.
    waiting_for: Option<String>,
    since: Instant,
}

/// One named reason to be not ready. Closed when made; may close again later. Dropping it changes nothing: a part that
/// went away without opening its guard keeps the process unready.
#[derive(Clone)]
pub struct Guard {
    name: &'static str,
    inner: Arc<Inner>,
}

/// What a probe answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// 200, else 503.
    pub ok: bool,
    /// The JSON body.
    pub body: Value,
}

impl Probes {
    /// Not started, no guards: not ready.
    pub fn new() -> Probes {
        let inner = Inner { state: Mutex::new(State::default()), ready: watch::Sender::new(false) };
        Probes { inner: Arc::new(inner) }
    }

    /// `/startz` turns 200.
    pub fn started(&self) {
        self.inner.change(|state| state.started = true);
    }

    /// A guard that waits, with what it waits for (`policy from https://...`). The same name again is the same guard,
    /// closed again.
    pub fn guard(&self, name: &'static str, waiting_for: &str) -> Guard {
        let guard = Guard { name, inner: self.inner.clone() };
        guard.close(waiting_for);
        guard
    }

    /// A note shown in the detail that does not make it unready (a rejected policy); None takes it away.
    pub fn note(&self, name: &'static str, text: Option<String>) {
        let mut state = self.inner.state();
        match text {
            Some(text) => state.notes.insert(name, cut(&text).to_owned()),
            None => state.notes.remove(name),
        };
    }

    /// From here on not ready, whatever the guards say.
    pub fn drain(&self) {
        self.inner.change(|state| state.draining = true);
    }

    /// Started, all guards open, not draining.
    pub fn ready(&self) -> bool {
        *self.inner.ready.borrow()
    }

    /// Waits until ready. Cancel safe.
    pub async fn until_ready(&self) {
        // the sender lives in `self`, so this cannot end early
        let _ = self.inner.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// `/startz`.
    pub fn startz(&self) -> Answer {
        let ok = self.inner.state().started;
        let status = if ok { "started" } else { "not_started" };
        Answer { ok, body: json!({ "status": status }) }
    }

    /// `/healthz`: that it answers at all is the answer.
    pub fn healthz(&self) -> Answer {
        Answer { ok: true, body: json!({ "status": "alive" }) }
    }

    /// `/readyz`, with a `detail` where there is something to say.
    pub fn readyz(&self) -> Answer {
        let state = self.inner.state();
        let ok = state.ready();
        let status = if ok { "ready" } else { "not_ready" };
        let mut body = json!({ "status": status });
        let detail = state.detail();
        if !detail.is_empty() {
            body["detail"] = Value::String(detail);
        }
        Answer { ok, body }
    }
}

impl Default for Probes {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probes({})", self.readyz().body)
    }
}

impl Guard {
    /// Open: no longer in the way.
    pub fn open(&self) {
        self.inner.change(|state| {
            let Some(gate) = state.guards.get_mut(self.name) else {
                return;
            };
            if gate.waiting_for.take().is_some() {
                let waited_ms = u64::try_from(gate.since.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(guard = self.name, waited_ms, "readiness guard open");
                gate.since = Instant::now();
            }
        });
    }

    /// Closed (again), with what it waits for.
    pub fn close(&self, waiting_for: &str) {
        let text = cut(waiting_for.strip_prefix("waiting for ").unwrap_or(waiting_for)).to_owned();
        self.inner.change(|state| {
            let gate =
                state.guards.entry(self.name).or_insert_with(|| Gate { waiting_for: None, since: Instant::now() });
            let was_open = gate.waiting_for.is_none();
            if was_open {
                gate.since = Instant::now();
            }
            if was_open || gate.waiting_for.as_deref() != Some(text.as_str()) {
                tracing::info!(guard = self.name, waiting_for = text.as_str(), "readiness guard closed");
            }
            gate.waiting_for = Some(text);
        });
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({})", self.name)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let ready = state.ready();
        // under the lock, so that two changes cannot publish in the wrong order
        let turned = self.ready.send_if_modified(|shown| std::mem::replace(shown, ready) != ready);
        drop(state);
        if turned {
            tracing::info!(ready, "readiness changed");
        }
    }
}

impl State {
    fn ready(&self) -> bool {
        self.started && !self.draining && self.guards.values().all(|gate| gate.waiting_for.is_none())
    }

    fn detail(&self) -> String {
        let mut said = Vec::new();
        if self.draining {
            said.push("draining".to_owned());
        } else if !self.started {
            said.push("starting".to_owned());
        }
        let waiting = self.guards.values().filter_map(|gate| gate.waiting_for.as_deref());
        said.extend(waiting.map(|what| format!("waiting for {what}")));
        said.extend(self.notes.iter().map(|(name, text)| format!("{name}: {text}")));
        said.join("; ")
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
