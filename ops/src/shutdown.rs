//! Signals, and the stages of a drain.
/// Where a process stands; only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Running,
    /// SIGTERM came: not ready, still accepting for `drain_delay`, answers say close.
    Leaving,
    /// Listeners closed; what is in flight has until `drain_timeout`.
    Draining,
    /// Force.
    Ended,
}
/// The stage, to read, to wait for and to advance. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {}
impl Shutdown {
    /// Running.
    pub fn new() -> Shutdown {
        todo!()
    }
    /// Now.
    pub fn stage(&self) -> Stage {
        todo!()
    }
    /// Waits until at least `stage`. Cancel safe.
    pub async fn reached(&self, _stage: Stage) {
        todo!()
    }
    /// Never goes back.
    pub fn advance(&self, _to: Stage) {
        todo!()
    }
    /// SIGTERM: Leaving, after `delay` Draining. SIGINT: Draining at once. A second signal of either kind: exit
    /// now with 130. Callable once per process; SIGHUP calls `hup`.
    pub fn listen_to_signals(&self, _delay: std::time::Duration, _hup: impl Fn() + Send + 'static) {
        todo!()
    }
}
impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}
