//! From cells to metric families: OpenTelemetry's Prometheus exporter for counters and gauges, a collector on the
//! same registry for histograms, because OpenTelemetry has no observable histogram.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry::{
    KeyValue,
    metrics::{Meter, MeterProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{Instrument, SdkMeterProvider, Stream},
};
use prometheus::{
    core::{Collector, Desc},
    proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::sets::HistogramVec;

/// Most label sets of a gauge that is read by a function.
pub(super) const MAX_ROWS: usize = 10_000;

/// The most label sets of each labelled instrument. The SDK sets room aside for as many, so the default of 2,000 is
/// as wrong for an instrument without labels as it is for one with many.
type Limits = Arc<Mutex<HashMap<String, usize>>>;

/// Gives one value with its attributes to a scrape.
pub(super) type Out<'a, N> = &'a dyn Fn(N, &[KeyValue]);

pub(super) struct Exporter {
    registry: prometheus::Registry,
    meter: Meter,
    limits: Limits,
    /// Dropping it shuts the reader down.
    _provider: SdkMeterProvider,
}

impl Exporter {
    pub(super) fn new() -> Exporter {
        let registry = prometheus::Registry::new();
        let limits = Limits::default();
        let caps = limits.clone();
        let mut builder = SdkMeterProvider::builder().with_resource(Resource::builder_empty().build()).with_view(
            move |instrument: &Instrument| {
                let caps = caps.lock().unwrap_or_else(PoisonError::into_inner);
                let cap = caps.get(instrument.name()).copied().unwrap_or(1);
                Stream::builder().with_cardinality_limit(cap).build().ok()
            },
        );
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .without_units()
            .build();
        match exporter {
            Ok(exporter) => builder = builder.with_reader(exporter),
            // only a registry that already holds an exporter refuses, and this one is new
            Err(error) => {
                tracing::error!(%error, "metrics exporter cannot be built, counters are not exposed")
            }
        }
        let provider = builder.build();
        let meter = provider.meter("edgequota");
        Exporter { registry, meter, limits, _provider: provider }
    }

    /// `read` is called at each scrape. `cap`: most label sets.
    pub(super) fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        cap: usize,
        read: impl Fn(Out<'_, u64>) + Send + Sync + 'static,
    ) {
        self.limit(name, cap);
        self.meter
            .u64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| read(&|value, labels| observer.observe(value, labels)))
            .build();
    }

    /// As [`Exporter::counter`], for fractions.
    pub(super) fn fractional_counter(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn(Out<'_, f64>) + Send + Sync + 'static,
    ) {
        self.limit(name, 1);
        self.meter
            .f64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| read(&|value, labels| observer.observe(value, labels)))
            .build();
    }

    /// An up-down counter, which is exposed as a gauge: the SDK's own observable gauge shows label sets for ever once
    /// it has seen them, so that every policy version would stay on the page.
    pub(super) fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        cap: usize,
        read: impl Fn(Out<'_, f64>) + Send + Sync + 'static,
    ) {
        self.limit(name, cap);
        self.meter
            .f64_observable_up_down_counter(name)
            .with_description(help)
            .with_callback(move |observer| read(&|value, labels| observer.observe(value, labels)))
            .build();
    }

    pub(super) fn histograms(&self, name: &'static str, help: &'static str, vec: HistogramVec) {
        let registered = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new())
            .and_then(|desc| self.registry.register(Box::new(Histograms { desc, vec })));
        if let Err(error) = registered {
            tracing::error!(metric = name, %error, "histogram cannot be registered, it is not exposed");
        }
    }

    /// All families by name, label sets sorted.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    fn limit(&self, name: &str, cap: usize) {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.insert(name.to_owned(), cap.max(1));
    }
}

/// Sorted by name, as the SDK wants them: otherwise it keeps each set twice.
pub(super) fn attributes<'a>(pairs: impl IntoIterator<Item = (&'static str, &'a str)>) -> Vec<KeyValue> {
    let mut attributes: Vec<_> =
        pairs.into_iter().map(|(label, value)| KeyValue::new(label, value.to_owned())).collect();
    attributes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    attributes
}

struct Histograms {
    desc: Desc,
    vec: HistogramVec,
}

impl Collector for Histograms {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut metrics = Vec::new();
        self.vec.sets().each(|labels, histogram| {
            let mut labels: Vec<_> = labels.into_iter().map(|(name, value)| pair(name, value)).collect();
            labels.sort_unstable_by(|a, b| a.name().cmp(b.name()));
            let mut metric = Metric::from_label(labels);
            metric.set_histogram(shown(histogram));
            metrics.push(metric);
        });
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics);
        vec![family]
    }
}

fn shown(histogram: &super::Histogram) -> Histogram {
    let seen = histogram.observed();
    let buckets = histogram.bounds().iter().zip(&seen.buckets).map(|(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(*count);
        bucket
    });
    let mut shown = Histogram::default();
    shown.set_bucket(buckets.collect());
    shown.set_sample_count(seen.count);
    shown.set_sample_sum(seen.sum);
    shown
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
