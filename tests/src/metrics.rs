//! Reads Prometheus text.

use std::collections::{BTreeMap, BTreeSet};

/// The samples of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

impl Metrics {
    /// Parses the text.
    ///
    /// # Panics
    /// On a line that is none of comment, blank and sample.
    pub fn parse(text: &str) -> Metrics {
        let mut metrics = Metrics::default();
        for line in text.lines().filter(|l| !l.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                metrics.types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("bad metrics line {line:?}"));
                let value = value.parse().unwrap_or_else(|_| panic!("bad metrics line {line:?}"));
                metrics.samples.insert(key.to_owned(), value);
            }
        }
        metrics
    }

    /// Value of a sample written exactly like `name` or `name{label="x"}`; None: not there.
    pub fn get(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }

    /// Sum over all label sets of `name` whose text contains every one of `labels` (`tenant="a"`); 0 when none.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.samples
            .iter()
            .filter(|(key, _)| key.split('{').next() == Some(name) && labels.iter().all(|l| key.contains(l)))
            .map(|(_, value)| value)
            .sum()
    }

    /// `name{label,label} type`, sorted: the shape of the exposition, without values.
    pub fn shape(&self) -> Vec<String> {
        let mut lines: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for key in self.samples.keys() {
            let (sample, rest) = key.split_once('{').unwrap_or((key, ""));
            let family = self.family(sample);
            let labels = lines.entry(family).or_default();
            labels.extend(label_names(rest).into_iter().filter(|l| l != "le" && l != "quantile"));
        }
        lines
            .into_iter()
            .map(|(family, labels)| {
                let kind = self.types.get(&family).map_or("untyped", String::as_str);
                let labels: Vec<_> = labels.into_iter().collect();
                format!("{family}{{{}}} {kind}", labels.join(","))
            })
            .collect()
    }

    /// Names of the families.
    pub fn families(&self) -> BTreeSet<String> {
        self.samples
            .keys()
            .map(|k| self.family(k.split('{').next().unwrap()))
            .chain(self.types.keys().cloned())
            .collect()
    }

    /// Upper bounds of a histogram, ascending, without `+Inf`.
    pub fn buckets(&self, family: &str) -> Vec<f64> {
        let prefix = format!("{family}_bucket{{");
        let mut bounds: Vec<f64> = self
            .samples
            .keys()
            .filter(|k| k.starts_with(&prefix))
            .filter_map(|k| k.split("le=\"").nth(1)?.split('"').next()?.parse().ok())
            .filter(|b: &f64| b.is_finite())
            .collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        bounds
    }

    fn family(&self, sample: &str) -> String {
        for suffix in ["_bucket", "_sum", "_count"] {
            if let Some(base) = sample.strip_suffix(suffix)
                && self.types.get(base).is_some_and(|t| t == "histogram" || t == "summary")
            {
                return base.to_owned();
            }
        }
        sample.to_owned()
    }
}

fn label_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text.trim_end_matches('}');
    while let Some((name, after)) = rest.split_once("=\"") {
        names.push(name.trim_start_matches(',').to_owned());
        let mut end = 0;
        let bytes = after.as_bytes();
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        rest = after.get(end + 1..).unwrap_or("");
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_total x\n# TYPE a_total counter\na_total{t=\"x,\\\"y\",u=\"2\"} 3\na_total{t=\"z\",u=\"2\"} 4\n\
        # TYPE h histogram\nh_bucket{m=\"GET\",le=\"0.5\"} 1\nh_bucket{m=\"GET\",le=\"+Inf\"} 2\nh_sum{m=\"GET\"} 1.5\nh_count{m=\"GET\"} 2\n";

    #[test]
    fn sums_over_label_sets() {
        let m = Metrics::parse(TEXT);
        assert_eq!((m.sum("a_total", &[]), m.sum("a_total", &["t=\"z\""]), m.sum("b", &[])), (7.0, 4.0, 0.0));
    }

    #[test]
    fn shape_names_families_and_labels() {
        assert_eq!(Metrics::parse(TEXT).shape(), ["a_total{t,u} counter", "h{m} histogram"]);
        assert_eq!(Metrics::parse(TEXT).buckets("h"), [0.5]);
    }
}
