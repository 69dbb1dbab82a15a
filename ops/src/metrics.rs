//! Metrics as per-worker padded cells, read at scrape time; exposed through OpenTelemetry's Prometheus exporter
//! (counters and gauges as observable instruments, histograms through a collector on the exporter's registry).
//!
//! Recording is one relaxed add on a cache line that no other worker writes. Everything that costs (labels, sums,
//! text) happens when `/metrics` is read. Every label set is bounded by its cap; label values longer than 256 bytes
//! are cut.

mod cells;
mod export;
mod openmetrics;
mod process;
mod registered;
mod sets;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

pub use cells::{Counter, Gauge, Histogram, enter_worker};
pub use sets::{CounterVec, HistogramVec};

pub(crate) use cells::current_shard;

use cells::Arena;
use export::Exporter;
use registered::{CounterFn, GaugeFn, Registered, Slot, current};
use sets::LabelSets;

/// What a labelled gauge answers at scrape time: (label values, value) each.
pub type GaugeRows = Vec<(Vec<String>, f64)>;

/// The registry of one plane. Cheap to clone.
///
/// Asking twice for one name gives the same cells, so parts that do not know of each other may share a metric; the
/// help, labels and cap of the first registration stand. A function registered twice: the later one is read.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    arena: Arena,
    exporter: Exporter,
    registered: Mutex<BTreeMap<&'static str, Registered>>,
}

impl Metrics {
    /// For `workers` workers (see [`enter_worker`]). Registers the process metrics and the log's dropped lines too.
    pub fn new(workers: usize) -> Metrics {
        let metrics = Self::bare(workers);
        for (name, counter) in process::register(&metrics.inner.exporter) {
            metrics.registered().insert(name, Registered::Process { counter });
        }
        metrics.counter_fn(
            "edgequota_log_dropped",
            "Log lines dropped because stdout was slow.",
            Arc::new(crate::logging::dropped),
        );
        metrics
    }

    /// Without the metrics of the process.
    fn bare(workers: usize) -> Metrics {
        Metrics {
            inner: Arc::new(Inner {
                arena: Arena::new(workers),
                exporter: Exporter::new(),
                registered: Mutex::new(BTreeMap::new()),
            }),
        }
    }

    /// `name` without `_total`, which the exporter appends.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        let found = self.find_or(name, || {
            let counter = Counter::new(&self.inner.arena);
            let read = counter.clone();
            self.inner.exporter.counter(name, help, 1, move |out| out(read.value(), &[]));
            Registered::Counter(counter)
        });
        match found {
            Registered::Counter(counter) => counter,
            _ => {
                wrong_kind(name);
                Counter::new(&self.inner.arena)
            }
        }
    }

    /// A counter whose value is read by `f` at scrape time; `f` must never go down.
    pub fn counter_fn(&self, name: &'static str, help: &'static str, f: Arc<dyn Fn() -> u64 + Send + Sync>) {
        let found = self.find_or(name, || {
            let slot: Slot<CounterFn> = Arc::new(Mutex::new(f.clone()));
            let read = slot.clone();
            self.inner.exporter.counter(name, help, 1, move |out| out(current(&read)(), &[]));
            Registered::CounterFn(slot)
        });
        match found {
            Registered::CounterFn(slot) => *slot.lock().unwrap_or_else(PoisonError::into_inner) = f,
            _ => wrong_kind(name),
        }
    }

    /// Counters by label values: at most `cap` sets, then all labels are `__overflow__`.
    pub fn counter_vec(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        cap: usize,
    ) -> CounterVec {
        let found = self.find_or(name, || {
            let sets = Arc::new(LabelSets::new(labels, cap));
            let vec = CounterVec::new(sets.clone(), self.inner.arena.clone());
            self.inner.exporter.counter(name, help, sets.ceiling() + 1, move |out| {
                sets.each(|labels, counter: &Counter| out(counter.value(), &export::attributes(labels)));
            });
            Registered::CounterVec(vec)
        });
        match found {
            Registered::CounterVec(vec) => vec,
            _ => {
                wrong_kind(name);
                CounterVec::new(Arc::new(LabelSets::new(labels, cap)), self.inner.arena.clone())
            }
        }
    }

    /// Settable; 0 until it is set.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        let found = self.find_or(name, || {
            let gauge = Gauge::new();
            let read = gauge.clone();
            self.inner.exporter.gauge(name, help, 1, move |out| out(read.value(), &[]));
            Registered::Gauge(gauge)
        });
        match found {
            Registered::Gauge(gauge) => gauge,
            _ => {
                wrong_kind(name);
                Gauge::new()
            }
        }
    }

    /// Read at scrape; each item is (label values, value); names of the labels fixed. What `f` no longer names is no
    /// longer shown. At most 10,000 rows are shown; `f` itself must be bounded.
    pub fn gauge_fn(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        f: Arc<dyn Fn() -> GaugeRows + Send + Sync>,
    ) {
        let found = self.find_or(name, || {
            let slot: Slot<GaugeFn> = Arc::new(Mutex::new(f.clone()));
            let read = slot.clone();
            let limit = if labels.is_empty() { 1 } else { export::MAX_ROWS };
            self.inner.exporter.gauge(name, help, limit, move |out| {
                for (values, value) in current(&read)().into_iter().take(export::MAX_ROWS) {
                    let pairs = labels.iter().copied().zip(values.iter().map(String::as_str));
                    out(value, &export::attributes(pairs));
                }
            });
            Registered::GaugeFn(slot)
        });
        match found {
            Registered::GaugeFn(slot) => *slot.lock().unwrap_or_else(PoisonError::into_inner) = f,
            _ => wrong_kind(name),
        }
    }

    /// In seconds (or what the name says). `buckets`: upper bounds, ascending, without +Inf, at most 62. At most
    /// `cap` label sets, then all labels are `__overflow__`.
    pub fn histogram_vec(
        &self,
        name: &'static str,
        help: &'static str,
        buckets: &'static [f64],
        labels: &'static [&'static str],
        cap: usize,
    ) -> HistogramVec {
        let new = || {
            let sets = Arc::new(LabelSets::new(labels, cap));
            HistogramVec::new(sets, self.inner.arena.clone(), buckets)
        };
        let found = self.find_or(name, || {
            let vec = new();
            self.inner.exporter.histograms(name, help, vec.clone());
            Registered::HistogramVec(vec)
        });
        match found {
            Registered::HistogramVec(vec) => vec,
            _ => {
                wrong_kind(name);
                new()
            }
        }
    }

    /// Prometheus text (0.0.4), or OpenMetrics (1.0.0).
    pub fn render(&self, openmetrics: bool) -> String {
        let families = self.inner.exporter.gather();
        let mut text = String::with_capacity(16 * 1024);
        if openmetrics {
            openmetrics::encode(&families, &mut text);
        } else if let Err(error) = prometheus::TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::error!(%error, "metrics cannot be written as text");
        }
        text
    }

    /// Every registered name as it appears in the text (for the docs test), sorted.
    pub fn names(&self) -> Vec<String> {
        let suffix = |kind: &Registered| if kind.is_counter() { "_total" } else { "" };
        self.registered().iter().map(|(name, kind)| format!("{name}{}", suffix(kind))).collect()
    }

    fn registered(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Registered>> {
        self.inner.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_or(&self, name: &'static str, make: impl FnOnce() -> Registered) -> Registered {
        self.registered().entry(name).or_insert_with(make).clone()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("names", &self.registered().len()).finish()
    }
}

/// A mistake in the program, not of the user: the caller gets cells that nobody reads.
fn wrong_kind(name: &'static str) {
    tracing::error!(metric = name, "metric registered twice as two kinds, the second one is not exposed");
}
