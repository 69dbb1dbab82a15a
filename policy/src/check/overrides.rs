//! `overrides`.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use super::{Report, limits::NOT_ZERO, shown};
use crate::{
    GoDuration, PolicySpec,
    limit::{SubjectForm, override_numbers},
    spec::{DEFAULT, LimitMode, LimitValues, OverrideSpec, further_name},
};

/// A limit that overrides may name.
struct Known {
    /// Where it is written.
    place: String,
    values: LimitValues,
    form: SubjectForm,
    /// Subjects that have numbers already, with their place.
    taken: HashMap<String, (usize, usize)>,
}

impl Known {
    fn new(place: String, values: LimitValues) -> Self {
        Known { place, form: SubjectForm::of(&values.key), values, taken: HashMap::new() }
    }
}

pub(super) fn check(spec: &PolicySpec, report: &mut Report) {
    if spec.overrides.is_empty() {
        return;
    }
    let mut known = known_limits(spec);
    let routes: HashSet<&str> = spec.routes.iter().map(|route| route.name.as_str()).collect();
    for (i, over) in spec.overrides.iter().enumerate() {
        let path = format!("overrides[{i}]");
        if over.keys.is_empty() {
            report.at(format!("{path}.keys"), "is required");
        }
        let Some(limit) = known.get_mut(&over.limit) else {
            let near = if routes.contains(over.limit.as_str()) {
                ": this route has no rate_limit of its own, so the default limit applies to it".to_owned()
            } else {
                report.nearest(&over.limit, known.keys().map(String::as_str))
            };
            let message = format!("{path}.limit: unknown limit {}{near}", shown(&over.limit));
            report.add(format!("{path}.limit"), message);
            continue;
        };
        check_keys(&path, i, over, limit, report);
        if limit.values.mode != LimitMode::Disabled || limit.values.average > 0 {
            check_numbers(&path, over, limit, report);
        }
    }
}

fn known_limits(spec: &PolicySpec) -> HashMap<String, Known> {
    let base = &spec.rate_limit;
    let mut known =
        HashMap::from([(DEFAULT.to_owned(), Known::new("rate_limit".to_owned(), LimitValues::of_default(base)))]);
    for (i, route) in spec.routes.iter().enumerate() {
        if let Some(limit) = &route.rate_limit {
            let place = format!("routes[{i}].rate_limit");
            known.insert(route.name.clone(), Known::new(place, LimitValues::of(limit, base)));
        }
        for (j, limit) in route.limits.iter().enumerate() {
            let values = LimitValues::of(&limit.plain(), base);
            known
                .insert(further_name(&route.name, &limit.name), Known::new(format!("routes[{i}].limits[{j}]"), values));
        }
    }
    known
}

fn check_keys(path: &str, index: usize, over: &OverrideSpec, limit: &mut Known, report: &mut Report) {
    limit.taken.reserve(over.keys.len());
    for (j, key) in over.keys.iter().enumerate() {
        let place = || format!("{path}.keys[{j}]");
        if key.is_empty() {
            report.at(place(), "must not be empty");
            continue;
        }
        match limit.taken.entry(limit.form.subject_of(key)) {
            Entry::Vacant(free) => {
                free.insert((index, j));
            }
            Entry::Occupied(taken) => {
                let (i, j) = taken.get();
                let what =
                    format_args!("has an override for limit {:?} already, at overrides[{i}].keys[{j}]", over.limit);
                report.at(place(), what);
            }
        }
    }
}

fn check_numbers(path: &str, over: &OverrideSpec, limit: &Known, report: &mut Report) {
    if over.limit == DEFAULT && limit.values.mode != LimitMode::Disabled && limit.values.average == 0 {
        let what = "names the default limit, which is off (rate_limit.average is 0): set rate_limit.average, or mode: disabled";
        report.at(format!("{path}.limit"), what);
        return;
    }
    let (average, burst, period) = (over.average, over.burst, over.period);
    if over.block {
        if average.is_some() || burst.is_some() || period.is_some() {
            report.add(path, format!("{path}: block: true and numbers exclude each other"));
        }
    } else if average.is_some_and(|n| n < 1) {
        report.at(format!("{path}.average"), NOT_ZERO);
    } else if burst.is_some_and(|n| n < 1) {
        report.at(format!("{path}.burst"), "must be at least 1; to refuse these subjects set block: true");
    } else if period == Some(GoDuration::ZERO) {
        report.at(format!("{path}.period"), "must be more than 0");
    } else if average.is_none() && burst.is_none() && period.is_none() {
        report.add(path, format!("{path}: at least one of average, burst, period and block is required"));
    } else if let Err(error) = override_numbers(over, &limit.values) {
        // Numbers of the limit that are wrong by themselves are reported there.
        if limit.values.average > 0 && limit.values.burst > 0 {
            report.add(path, format!("{path}: {error}"));
        }
    } else {
        check_cost(path, over, limit, report);
    }
}

/// An override inherits the cost: with less room than that it would block by accident. One that names no burst has
/// the limit's, and what is wrong with that is said there.
fn check_cost(path: &str, over: &OverrideSpec, limit: &Known, report: &mut Report) {
    let (cost, place) = (limit.values.cost, &limit.place);
    if let Some(burst) = over.burst.filter(|burst| *burst < cost) {
        let what = format_args!(
            "is {burst}, less than {place}.cost ({cost}), which overrides of limit {:?} inherit: no request of these \
             subjects could ever pass; raise burst or lower cost, or set block: true to refuse them",
            over.limit
        );
        report.at(format!("{path}.burst"), what);
    }
}
