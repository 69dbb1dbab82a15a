//! What the control plane measures of itself.

use std::{sync::Arc, time::SystemTime};

use edgequota_ops::metrics::{Counter, Gauge, Metrics};

use crate::{fleet::Fleet, publish::Publisher};

/// Counters and gauges that the keeper sets.
pub(crate) struct Measured {
    /// `edgequota_policy_rejected_total`.
    pub(crate) rejected: Counter,
    /// `edgequota_config_reload_success`.
    pub(crate) reload_success: Gauge,
}

impl Measured {
    /// Registers everything that is about policies and the fleet.
    pub(crate) fn register(metrics: &Metrics, publisher: &Arc<Publisher>, fleet: &Fleet) -> Measured {
        let served = Arc::clone(publisher);
        metrics.gauge_fn(
            "edgequota_policy_version_info",
            "The policy that is served, as labels",
            &["version", "source"],
            Arc::new(move || {
                let current = served.current();
                // The node of an adopted policy would be a label without a bound.
                current.map(|p| (vec![p.version.to_string(), p.origin.kind().to_owned()], 1.0)).into_iter().collect()
            }),
        );
        let served = Arc::clone(publisher);
        metrics.gauge_fn(
            "edgequota_policy_age_seconds",
            "Seconds since the content of the policy was first served by this process",
            &[],
            Arc::new(move || {
                let age = |since: SystemTime| since.elapsed().unwrap_or_default().as_secs_f64();
                served.current().map(|p| (Vec::new(), age(p.since))).into_iter().collect()
            }),
        );
        let connected = fleet.clone();
        metrics.gauge_fn(
            "edgequota_dataplanes_connected",
            "Data planes that are connected",
            &[],
            Arc::new(move || vec![(Vec::new(), f64::from(connected.count().planes))]),
        );
        let (accepted, served) = (fleet.clone(), Arc::clone(publisher));
        metrics.gauge_fn(
            "edgequota_dataplanes_accepted",
            "Data planes that have the served policy in force",
            &[],
            Arc::new(move || {
                let accepted = served.current().map_or(0, |p| accepted.accepted(p.version.hash));
                vec![(Vec::new(), f64::from(u32::try_from(accepted).unwrap_or(u32::MAX)))]
            }),
        );
        Measured {
            rejected: metrics
                .counter("edgequota_policy_rejected", "Policies that were refused; the one before stayed in force"),
            reload_success: metrics
                .gauge("edgequota_config_reload_success", "1: the files are in force as they are; 0: they are refused"),
        }
    }
}
