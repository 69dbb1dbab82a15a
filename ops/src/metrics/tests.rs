#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::{Arc, Mutex};

use super::*;

const SECONDS: &[f64] = &[0.001, 0.5, 1.0];

fn example() -> Metrics {
    let metrics = Metrics::bare(2);
    metrics.counter("edgequota_requests_allowed", "Requests that were let through.").add(3);
    metrics.counter_fn("edgequota_access_log_dropped", "Lines dropped.", Arc::new(|| 4));
    let tenants = metrics.counter_vec("edgequota_tenant_requests_allowed", "By tenant.", &["tenant"], 2);
    tenants.with(&["acme"]).add(2);
    tenants.with(&["quo\"te\\d\n"]).inc();
    tenants.with(&["one too many"]).inc();
    let decisions = metrics.counter_vec("edgequota_limit_decisions", "By limit.", &["limit", "decision"], 10);
    decisions.with(&["default", "allowed"]).add(5);
    metrics.gauge("edgequota_redis_healthy", "1 while Redis answers.").set(1.0);
    metrics.gauge_fn(
        "edgequota_policy_version_info",
        "The policy in force.",
        &["version"],
        Arc::new(|| vec![(vec!["17-abc".to_owned()], 1.0)]),
    );
    let durations = metrics.histogram_vec(
        "edgequota_request_duration_seconds",
        "Time from the first byte to the last.",
        SECONDS,
        &["method", "status_code"],
        10,
    );
    let get = durations.with(&["GET", "200"]);
    for seconds in [0.001, 0.25, 0.5, 2.0] {
        get.observe(seconds);
    }
    metrics
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let golden = include_str!("testdata/example.prom");
    assert_eq!(example().render(false), golden);
}

#[test]
fn the_openmetrics_text_names_counter_families_without_total_and_ends_with_eof() {
    let golden = include_str!("testdata/example.openmetrics");
    assert_eq!(example().render(true), golden);
}

#[test]
fn a_second_scrape_shows_the_same() {
    let metrics = example();
    assert_eq!(metrics.render(false), metrics.render(false));
}

#[test]
fn names_are_those_of_the_text() {
    let metrics = example();
    let text = metrics.render(false);
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut names = metrics.names();
    names.sort();
    assert_eq!(names, types);
}

#[test]
fn process_metrics_are_there() {
    let text = Metrics::new(1).render(false);
    for name in
        ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"]
    {
        assert!(text.contains(&format!("\n{name} ")), "{name} is missing in {text}");
    }
}

#[test]
fn sums_over_workers_are_exact() {
    const THREADS: usize = 6;
    const ROUNDS: u64 = 20_000;
    // fewer workers than threads: two threads fall back to shard 0 and share it
    let metrics = Metrics::bare(THREADS - 2);
    let counter = metrics.counter("edgequota_requests_allowed", "Requests.");
    let histogram = metrics.histogram_vec("edgequota_seconds", "Seconds.", SECONDS, &[], 1).with(&[]);
    std::thread::scope(|scope| {
        for worker in 1..=THREADS {
            let (counter, histogram) = (counter.clone(), histogram.clone());
            scope.spawn(move || {
                enter_worker(worker);
                for _ in 0..ROUNDS {
                    counter.inc();
                    histogram.observe(0.5);
                    histogram.observe(8.0);
                }
            });
        }
    });
    let total = ROUNDS * THREADS as u64;
    assert_eq!(counter.value(), total);
    let seen = histogram.observed();
    assert_eq!(seen.buckets, [0, total, total]);
    assert_eq!(seen.count, 2 * total);
    assert!((seen.sum - 8.5 * total as f64).abs() < 1e-6);
}

#[test]
fn beyond_the_cap_everything_is_overflow_and_a_raised_cap_takes_new_sets() {
    let metrics = Metrics::bare(1);
    let tenants = metrics.counter_vec("edgequota_tenants", "By tenant.", &["tenant"], 2);
    for tenant in ["a", "b", "c", "d"] {
        tenants.with(&[tenant]).inc();
    }
    assert_eq!(tenants.overflowed(), 2);
    tenants.set_cap(3);
    tenants.with(&["c"]).inc();
    tenants.with(&["d"]).inc();
    tenants.with(&["a"]).inc();
    let text = metrics.render(false);
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        samples,
        [
            "edgequota_tenants_total{tenant=\"__overflow__\"} 3",
            "edgequota_tenants_total{tenant=\"a\"} 2",
            "edgequota_tenants_total{tenant=\"b\"} 1",
            "edgequota_tenants_total{tenant=\"c\"} 1",
        ]
    );
}

#[test]
fn more_label_sets_than_the_sdk_holds_by_default_are_all_shown() {
    let metrics = Metrics::bare(1);
    let tenants = metrics.counter_vec("edgequota_tenants", "By tenant.", &["tenant"], 3000);
    for tenant in 0..3000 {
        tenants.with(&[&tenant.to_string()]).inc();
    }
    for _ in 0..2 {
        let text = metrics.render(false);
        assert_eq!(text.lines().filter(|line| line.starts_with("edgequota_tenants_total{tenant=")).count(), 3000);
        assert!(!text.contains("otel"), "the SDK's own overflow set must never show");
    }
}

#[test]
fn a_gauge_row_that_is_gone_is_no_longer_shown() {
    let version = Arc::new(Mutex::new("1-aa".to_owned()));
    let shown = version.clone();
    let metrics = Metrics::bare(1);
    metrics.gauge_fn(
        "edgequota_policy_version_info",
        "The policy in force.",
        &["version"],
        Arc::new(move || vec![(vec![shown.lock().unwrap().clone()], 1.0)]),
    );
    assert!(metrics.render(false).contains("version=\"1-aa\""));
    *version.lock().unwrap() = "2-bb".to_owned();
    let text = metrics.render(false);
    assert!(text.contains("version=\"2-bb\"") && !text.contains("1-aa"), "{text}");
}

#[test]
fn the_same_name_gives_the_same_cells_and_the_later_function_is_read() {
    let metrics = Metrics::bare(1);
    metrics.counter("edgequota_a", "A.").inc();
    metrics.counter("edgequota_a", "A.").inc();
    metrics.counter_fn("edgequota_b", "B.", Arc::new(|| 1));
    metrics.counter_fn("edgequota_b", "B.", Arc::new(|| 2));
    // a mistake of the program: counted apart, the exposed one is untouched
    metrics.gauge("edgequota_a", "A.").set(9.0);
    let text = metrics.render(false);
    assert!(text.contains("\nedgequota_a_total 2\n") && text.contains("\nedgequota_b_total 2\n"), "{text}");
}

#[test]
fn long_label_values_are_cut_at_a_character() {
    let metrics = Metrics::bare(1);
    let tenants = metrics.counter_vec("edgequota_tenants", "By tenant.", &["tenant"], 10);
    tenants.with(&[&"ä".repeat(300)]).inc();
    tenants.with(&[&"ä".repeat(400)]).inc();
    assert!(metrics.render(false).contains(&format!("{{tenant=\"{}\"}} 2\n", "ä".repeat(128))));
}

#[test]
fn what_is_not_finite_does_not_spoil_a_histogram() {
    let metrics = Metrics::bare(1);
    let histogram = metrics.histogram_vec("edgequota_seconds", "Seconds.", SECONDS, &[], 1).with(&[]);
    histogram.observe(f64::NAN);
    histogram.observe(f64::INFINITY);
    histogram.observe(0.25);
    assert_eq!(histogram.observed().count, 1);
    assert!((histogram.observed().sum - 0.25).abs() < 1e-12);
}
