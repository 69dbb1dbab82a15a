//! What has been registered under which name.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Counter, CounterVec, Gauge, GaugeRows, HistogramVec};

pub(super) type CounterFn = Arc<dyn Fn() -> u64 + Send + Sync>;
pub(super) type GaugeFn = Arc<dyn Fn() -> GaugeRows + Send + Sync>;

/// A function that is read at scrape time and may be replaced by a later registration of the same name.
pub(super) type Slot<F> = Arc<Mutex<F>>;

/// One name's cells, or the function that is read.
#[derive(Clone)]
pub(super) enum Registered {
    Counter(Counter),
    CounterFn(Slot<CounterFn>),
    CounterVec(CounterVec),
    Gauge(Gauge),
    GaugeFn(Slot<GaugeFn>),
    HistogramVec(HistogramVec),
    Process { counter: bool },
}

impl Registered {
    pub(super) fn is_counter(&self) -> bool {
        matches!(self, Self::Counter(_) | Self::CounterFn(_) | Self::CounterVec(_) | Self::Process { counter: true })
    }
}

/// Clones the function out, so that it never runs under the lock.
pub(super) fn current<F: Clone>(slot: &Slot<F>) -> F {
    slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
