//! Metrics as per-worker padded cells, read at scrape time; exposed through OpenTelemetry's Prometheus exporter
//! (counters and gauges as observable instruments, histograms through a collector on the exporter's registry).
use std::sync::Arc;

/// Marks this thread as worker `index` (1..); unmarked threads share shard 0.
pub fn enter_worker(_index: usize) { todo!() }

/// The registry of one plane. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {}
/// Cells of a counter. Cheap to clone; `inc` is a relaxed add on this worker's own cache line.
#[derive(Clone)]
pub struct Counter {}
/// A settable gauge.
#[derive(Clone)]
pub struct Gauge {}
/// Counters by label values, at most `cap` sets, then all labels `__overflow__`.
#[derive(Clone)]
pub struct CounterVec {}
/// A histogram.
#[derive(Clone)]
pub struct Histogram {}
/// Histograms by label values.
#[derive(Clone)]
pub struct HistogramVec {}

impl Metrics {
    /// For `workers` workers. Registers the process metrics too.
    pub fn new(_workers: usize) -> Metrics { todo!() }
    /// `name` without `_total`.
    pub fn counter(&self, _name: &'static str, _help: &'static str) -> Counter { todo!() }
    /// A counter whose value is read by `f` at scrape time.
    pub fn counter_fn(&self, _name: &'static str, _help: &'static str, _f: Arc<dyn Fn() -> u64 + Send + Sync>) { todo!() }
    /// Labelled.
    pub fn counter_vec(&self, _name: &'static str, _help: &'static str, _labels: &'static [&'static str], _cap: usize) -> CounterVec { todo!() }
    /// Settable.
    pub fn gauge(&self, _name: &'static str, _help: &'static str) -> Gauge { todo!() }
    /// Read at scrape; each item is (label values, value); names of the labels fixed.
    pub fn gauge_fn(&self, _name: &'static str, _help: &'static str, _labels: &'static [&'static str], _f: Arc<dyn Fn() -> Vec<(Vec<String>, f64)> + Send + Sync>) { todo!() }
    /// In seconds (or what the name says). At most `cap` label sets.
    pub fn histogram_vec(&self, _name: &'static str, _help: &'static str, _buckets: &'static [f64], _labels: &'static [&'static str], _cap: usize) -> HistogramVec { todo!() }
    /// Prometheus text, or OpenMetrics.
    pub fn render(&self, _openmetrics: bool) -> String { todo!() }
    /// Every registered name as it appears in the text (for the docs test).
    pub fn names(&self) -> Vec<String> { todo!() }
}
impl Counter {
    /// +1.
    pub fn inc(&self) { todo!() }
    /// +n.
    pub fn add(&self, _n: u64) { todo!() }
    /// Sum over workers.
    pub fn value(&self) -> u64 { todo!() }
}
impl CounterVec {
    /// Finds or creates; takes a lock, so the request path keeps what it got.
    pub fn with(&self, _values: &[&str]) -> Counter { todo!() }
    /// Times the overflow set was handed out.
    pub fn overflowed(&self) -> u64 { todo!() }
    /// Changes the cap (hot, `max_tenant_labels`); sets already there stay.
    pub fn set_cap(&self, _cap: usize) { todo!() }
}
impl Gauge {
    /// Sets.
    pub fn set(&self, _v: f64) { todo!() }
}
impl HistogramVec {
    /// Finds or creates; takes a lock.
    pub fn with(&self, _values: &[&str]) -> Histogram { todo!() }
}
impl Histogram {
    /// One observation.
    pub fn observe(&self, _v: f64) { todo!() }
}
