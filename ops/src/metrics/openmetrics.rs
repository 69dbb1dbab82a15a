//! The OpenMetrics 1.0 text form, which the prometheus crate does not write.

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// Appends `families` and the end mark.
pub(super) fn encode(families: &[MetricFamily], out: &mut String) {
    for family in families {
        let kind = family.get_field_type();
        // a counter's family has the bare name, its samples have `_total`
        let name = match kind {
            MetricType::COUNTER => family.name().strip_suffix("_total").unwrap_or(family.name()),
            _ => family.name(),
        };
        let kind_name = match kind {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            // nothing here makes these
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        // writing to a String cannot fail
        let _ = writeln!(out, "# TYPE {name} {kind_name}");
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(family.help(), out);
        out.push('\n');
        for metric in family.get_metric() {
            let labels = metric.get_label();
            match kind {
                MetricType::COUNTER => sample(out, name, "_total", labels, None, metric.get_counter().get_value()),
                MetricType::HISTOGRAM => histogram(out, name, metric),
                _ => sample(out, name, "", labels, None, metric.get_gauge().get_value()),
            }
        }
    }
    out.push_str("# EOF\n");
}

fn histogram(out: &mut String, name: &str, metric: &Metric) {
    let labels = metric.get_label();
    let histogram = metric.get_histogram();
    for bucket in histogram.get_bucket() {
        // canonical numbers: always with a point or an exponent
        let bound = format!("{:?}", bucket.upper_bound());
        whole_sample(out, name, "_bucket", labels, Some(&bound), bucket.cumulative_count());
    }
    whole_sample(out, name, "_bucket", labels, Some("+Inf"), histogram.get_sample_count());
    whole_sample(out, name, "_count", labels, None, histogram.get_sample_count());
    sample(out, name, "_sum", labels, None, histogram.get_sample_sum());
}

fn sample(out: &mut String, name: &str, suffix: &str, labels: &[LabelPair], le: Option<&str>, value: f64) {
    head(out, name, suffix, labels, le);
    let _ = writeln!(out, " {value}");
}

fn whole_sample(out: &mut String, name: &str, suffix: &str, labels: &[LabelPair], le: Option<&str>, value: u64) {
    head(out, name, suffix, labels, le);
    let _ = writeln!(out, " {value}");
}

fn head(out: &mut String, name: &str, suffix: &str, labels: &[LabelPair], le: Option<&str>) {
    out.push_str(name);
    out.push_str(suffix);
    let pairs = labels.iter().map(|pair| (pair.name(), pair.value())).chain(le.map(|bound| ("le", bound)));
    let mut before = '{';
    for (label, value) in pairs {
        out.push(before);
        out.push_str(label);
        out.push_str("=\"");
        escape(value, out);
        out.push('"');
        before = ',';
    }
    if before == ',' {
        out.push('}');
    }
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
