//! `/startz`, `/healthz`, `/readyz`: readiness is a set of named guards that log how long each took.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Probes {}
/// One named reason to be not ready. Closed when made; may close again later.
#[derive(Clone, Debug)]
pub struct Guard {}
impl Probes {
    /// Not started, no guards: not ready.
    pub fn new() -> Probes {
        todo!()
    }
    /// `/startz` turns 200.
    pub fn started(&self) {
        todo!()
    }
    /// A guard that waits, with what it waits for.
    pub fn guard(&self, _name: &'static str, _waiting_for: &str) -> Guard {
        todo!()
    }
    /// A note shown in the detail that does not make it unready (a rejected policy).
    pub fn note(&self, _name: &'static str, _text: Option<String>) {
        todo!()
    }
    /// From here on not ready, whatever the guards say.
    pub fn drain(&self) {
        todo!()
    }
    /// Started, all guards open, not draining.
    pub fn ready(&self) -> bool {
        todo!()
    }
    /// Waits until ready.
    pub async fn until_ready(&self) {
        todo!()
    }
}
impl Default for Probes {
    fn default() -> Self {
        Self::new()
    }
}
impl Guard {
    /// Open: no longer in the way.
    pub fn open(&self) {
        todo!()
    }
    /// Closed (again), with what it waits for.
    pub fn close(&self, _waiting_for: &str) {
        todo!()
    }
}
