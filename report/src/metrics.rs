//! The figures that reports and comparisons show: name, unit, and which way is better.
//!
//! What a mechanism costs stands beside what it saves: a list with gains only would be half a truth.

use crate::derived::{derived, is_derived, stored};
use crate::summary::Figures;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown as MiB.
    Bytes,
    /// Seconds.
    Seconds,
    /// Seconds, shown as microseconds.
    Micros,
    /// A part of 1, shown as percent.
    Part,
    /// A number of things.
    Count,
}

impl Unit {
    /// The unit that values are shown in.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "MiB",
            Self::Seconds => "s",
            Self::Micros => "µs",
            Self::Part => "%",
            Self::Count => "",
        }
    }

    /// The value in that unit.
    #[must_use]
    pub fn scaled(self, value: f64) -> f64 {
        match self {
            Self::Bytes => value / f64::from(1 << 20),
            Self::Micros => value * 1e6,
            Self::Part => value * 100.0,
            Self::Seconds | Self::Count => value,
        }
    }

    /// A value for people, without its unit.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Count if value.fract() == 0.0 => format!("{value:.0}"),
            _ => number(self.scaled(value)),
        }
    }
}

/// A number with about three digits that mean something.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    let text = if size == 0.0 || size >= 1000.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else if size >= 0.1 {
        format!("{value:.3}")
    } else if size >= 1e-4 {
        format!("{value:.4}")
    } else {
        format!("{value:.1e}")
    };
    match text.strip_prefix('-') {
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Less of it.
    Lower,
    /// More of it.
    Higher,
    /// It describes, nothing more.
    Neither,
}

/// One figure of a run.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Path in `summary.json`.
    pub path: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// How it is written.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
}

const fn metric(path: &'static str, name: &'static str, unit: Unit, better: Better) -> Metric {
    Metric {
        path,
        name,
        unit,
        better,
    }
}

/// What is shown of every cell, in this order.
pub const SHOWN: [Metric; 56] = {
    use Better::{Higher, Lower, Neither};
    use Unit::{Bytes, Count, Micros, Part, Seconds};
    [
        metric("memory.guest_physical", "guest-physical", Bytes, Neither),
        metric("memory.touched", "touched", Bytes, Neither),
        metric("memory.machine_used", "machine memory", Bytes, Lower),
        metric("memory.shared", "shared", Bytes, Neither),
        metric("memory.reclaimed", "reclaimed", Bytes, Higher),
        metric("by_mechanism.disk", "… by disk", Bytes, Neither),
        metric("by_mechanism.network", "… by network", Bytes, Neither),
        metric("by_mechanism.content", "… by content", Bytes, Neither),
        metric("by_mechanism.zero", "… by zero", Bytes, Neither),
        metric("by_mechanism.ksm", "… by KSM", Bytes, Neither),
        metric("ksm.net_saved", "… by KSM, less its cost", Bytes, Higher),
        metric(
            "derived.reclaimed_less_zero",
            "reclaimed, zero pages apart",
            Bytes,
            Higher,
        ),
        metric("sharing.oracle_share", "of what is possible", Part, Higher),
        metric(
            "sharing.reclaimed_share",
            "reclaimed, of touched",
            Part,
            Higher,
        ),
        metric("disk.mapped_share", "disk reads mapped", Part, Higher),
        metric(
            "derived.if_all_broke",
            "if all shares broke",
            Bytes,
            Neither,
        ),
        metric("by_category.text.touched", "guests' text", Bytes, Neither),
        metric(
            "by_category.text.machine",
            "… in the machine, text",
            Bytes,
            Lower,
        ),
        metric("by_category.data.touched", "guests' data", Bytes, Neither),
        metric(
            "by_category.data.machine",
            "… in the machine, data",
            Bytes,
            Lower,
        ),
        metric(
            "by_category.cache.touched",
            "guests' buffer caches",
            Bytes,
            Neither,
        ),
        metric(
            "by_category.cache.machine",
            "… in the machine, buffer caches",
            Bytes,
            Lower,
        ),
        metric("memory.ballooned", "in balloons", Bytes, Neither),
        metric("memory.swapped", "swapped", Bytes, Lower),
        metric("memory.overhead", "monitor's own", Bytes, Lower),
        metric(
            "sharing.broken_pages",
            "shared pages broken",
            Count,
            Neither,
        ),
        metric(
            "sharing.hold_p99_seconds",
            "writers held, p99",
            Micros,
            Lower,
        ),
        metric("sharing.vmas", "mappings in use", Count, Neither),
        metric("workload.seconds", "workload time", Seconds, Lower),
        metric("workload.operations", "operations", Count, Higher),
        metric(
            "workload.rate",
            "operations a second, once loaded",
            Count,
            Higher,
        ),
        metric(
            "workload.touch_p99_seconds",
            "… time of a touch, p99",
            Micros,
            Lower,
        ),
        metric(
            "workload.touch_p999_seconds",
            "… the same, p99.9",
            Micros,
            Lower,
        ),
        metric("policy.overshoot", "above the budget, at most", Part, Lower),
        metric("policy.held_seconds", "guests held, summed", Seconds, Lower),
        metric(
            "policy.share_passes",
            "passes before swapping",
            Count,
            Neither,
        ),
        metric(
            "policy.share_freed_pages",
            "… pages that they freed",
            Count,
            Higher,
        ),
        metric("policy.share_seconds", "… their time", Seconds, Lower),
        metric(
            "policy.swapped_out_pages",
            "pages written to swap",
            Count,
            Lower,
        ),
        metric("policy.swapped_in_pages", "pages read back", Count, Lower),
        metric("policy.packed_pages", "pages compressed", Count, Neither),
        metric(
            "policy.packed_ratio",
            "… how much smaller they got",
            Count,
            Higher,
        ),
        metric("policy.pool_bytes", "… in memory, at most", Bytes, Lower),
        metric(
            "policy.unpacked_pages",
            "… read back from there",
            Count,
            Higher,
        ),
        metric(
            "policy.active_error",
            "active memory, estimate off by",
            Part,
            Lower,
        ),
        metric("policy.cpu_seconds", "policy CPU", Seconds, Lower),
        metric("cpu_seconds.vcpu", "vCPU CPU", Seconds, Lower),
        metric("cpu_seconds.device", "device CPU", Seconds, Lower),
        metric("cpu_seconds.scanner", "scanner CPU", Seconds, Lower),
        metric("cpu_seconds.ksmd", "ksmd CPU", Seconds, Lower),
        metric("derived.scan_core", "scanner, of one core", Part, Lower),
        metric(
            "derived.scan_seconds_per_gib",
            "scanner CPU per GiB saved",
            Seconds,
            Lower,
        ),
        metric("start.seconds", "start of all guests", Seconds, Lower),
        metric("accounting.gap", "kernel's books differ", Part, Lower),
        metric("integrity.verified_pages", "pages verified", Count, Neither),
        metric("integrity.mismatches", "wrong pages", Count, Lower),
    ]
};

/// A figure of [`SHOWN`] by its path.
#[must_use]
pub fn by_path(path: &str) -> Option<&'static Metric> {
    SHOWN.iter().find(|metric| metric.path == path)
}

/// The value of a figure by its path; `None` if it was not measured.
#[must_use]
pub fn value(figures: &Figures, path: &str) -> Option<f64> {
    let tree = serde_json::to_value(figures).ok()?;
    value_in(&tree, path)
}

/// The same, of figures that are a tree already.
#[must_use]
pub fn value_in(tree: &serde_json::Value, path: &str) -> Option<f64> {
    value_of_run(tree, path, None)
}

/// The same, of a run that took so many seconds.
#[must_use]
pub fn value_of_run(tree: &serde_json::Value, path: &str, seconds: Option<f64>) -> Option<f64> {
    if is_derived(path) {
        derived(tree, path, seconds)
    } else {
        stored(tree, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::METRICS;

    #[test]
    fn what_is_shown_is_measured_and_costs_are_shown() {
        for metric in &SHOWN {
            // KSM's own figure is not one that an expectation can name.
            let stored = METRICS.contains(&metric.path) || metric.path == "ksm.net_saved";
            assert!(stored || is_derived(metric.path), "{}", metric.path);
        }
        // A part of 1 that is not in the list would be shown as a bare number.
        let parts = METRICS.iter().filter(|path| path.ends_with("_share"));
        for part in parts {
            assert!(by_path(part).is_some(), "{part}");
        }
        let cost = |path: &str| by_path(path).is_some_and(|m| m.better == Better::Lower);
        assert!(cost("cpu_seconds.scanner") && cost("workload.seconds"));
        assert!(cost("sharing.hold_p99_seconds"));
        assert!(cost("derived.scan_seconds_per_gib") && cost("derived.scan_core"));
    }

    #[test]
    fn what_ksm_costs_more_than_it_saves_is_negative() {
        let figures = Figures {
            ksm: Some(crate::summary::Ksm {
                net_saved: Some(-(3 << 20)),
                ..Default::default()
            }),
            ..Figures::default()
        };
        let net = value(&figures, "ksm.net_saved").unwrap();
        assert_eq!(by_path("ksm.net_saved").unwrap().unit.text(net), "−3.00");
        assert_eq!(value(&Figures::default(), "ksm.net_saved"), None);
    }

    #[test]
    fn numbers_keep_what_matters() {
        let texts = [0.0, 12345.6, 276.14, 5.678, 0.0123, -3.0, 0.000_004].map(number);
        assert_eq!(
            texts,
            ["0", "12346", "276.1", "5.68", "0.0123", "−3.00", "4.0e-6"]
        );
        assert_eq!(Unit::Bytes.text(3.0 * 1_048_576.0), "3.00");
        assert_eq!(Unit::Part.text(0.5), "50.0");
        assert_eq!(Unit::Count.text(8.0), "8");
    }
}
