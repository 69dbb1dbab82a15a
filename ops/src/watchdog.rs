//! A worker that panicked, or had no turn for 60 s, aborts the process: Kubernetes restarts it.
/// Watches workers from a thread of its own.
#[derive(Clone, Debug)]
pub struct Watchdog {}
/// One worker's pulse: touch it from the worker's loop at least every few seconds; dropping it while panicking aborts.
#[derive(Debug)]
pub struct Pulse {}
impl Watchdog {
    /// `limit` without a touch: abort, naming the worker.
    pub fn start(_limit: std::time::Duration) -> Watchdog {
        todo!()
    }
    /// For one worker.
    pub fn pulse(&self, _name: String) -> Pulse {
        todo!()
    }
}
impl Pulse {
    /// Alive.
    pub fn touch(&self) {
        todo!()
    }
}
