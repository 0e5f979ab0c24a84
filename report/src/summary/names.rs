//! Which figures an expectation can name, by their paths inside a cell.

/// Every metric that an expectation can name: paths inside a cell.
pub const METRICS: &[&str] = &[
    "memory.guest_physical",
    "memory.touched",
    "memory.private",
    "memory.shared",
    "memory.reclaimed",
    "memory.zero",
    "memory.frames",
    "memory.ballooned",
    "memory.swapped",
    "memory.oracle_reclaimable",
    "memory.machine_used",
    "memory.overhead",
    "by_mechanism.disk",
    "by_mechanism.network",
    "by_mechanism.content",
    "by_mechanism.zero",
    "by_mechanism.ksm",
    "by_category.text.touched",
    "by_category.text.machine",
    "by_category.data.touched",
    "by_category.data.machine",
    "by_category.cache.touched",
    "by_category.cache.machine",
    "by_category.kept",
    "accounting.pmap",
    "accounting.kernel",
    "accounting.gap",
    "cpu_seconds.vcpu",
    "cpu_seconds.device",
    "cpu_seconds.scanner",
    "cpu_seconds.ksmd",
    "integrity.verified_pages",
    "integrity.mismatches",
    "workload.seconds",
    "workload.operations",
    "workload.bytes",
    "workload.rate",
    "workload.touch_p99_seconds",
    "workload.touch_p999_seconds",
    "disk.mapped_pages",
    "disk.copied_pages",
    "disk.mapped_share",
    "disk.image_reads",
    "sharing.oracle_share",
    "sharing.reclaimed_share",
    "sharing.vmas",
    "sharing.broken_pages",
    "sharing.hold_p99_seconds",
    "sharing.scans",
    "policy.overshoot",
    "policy.least_free",
    "policy.reserve",
    "policy.soft_seconds",
    "policy.hard_seconds",
    "policy.low_seconds",
    "policy.held_seconds",
    "policy.share_passes",
    "policy.share_freed_pages",
    "policy.share_seconds",
    "policy.swapped_out_pages",
    "policy.swapped_in_pages",
    "policy.packed_pages",
    "policy.unpacked_pages",
    "policy.packed_ratio",
    "policy.pool_bytes",
    "policy.swap_in_p99_seconds",
    "policy.active_error",
    "policy.active_lag_periods",
    "policy.cpu_seconds",
    "start.seconds",
    "start.host_memory_per_guest",
    "stop.seconds",
];

/// Figures of each group of guests, as `groups.<id>.<figure>`, in experiments with a memory policy.
pub const GROUP_METRICS: &[&str] = &[
    "allocated",
    "target",
    "active",
    "ballooned",
    "swapped",
    "operations",
];

/// The group and the figure that a path of [`GROUP_METRICS`] names.
#[must_use]
pub fn group_metric(path: &str) -> Option<(&str, &str)> {
    let (id, figure) = path.strip_prefix("groups.")?.split_once('.')?;
    GROUP_METRICS.contains(&figure).then_some((id, figure))
}

/// The group and the name of a number that Linux guests print: `groups.<id>.printed.<name>`.
#[must_use]
pub fn printed_metric(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("groups.")?.split_once(".printed.")
}

#[cfg(test)]
mod tests {
    use super::super::Figures;
    use super::*;

    #[test]
    fn every_metric_of_the_list_is_in_the_figures() {
        let tree = serde_json::to_value(Figures::default()).unwrap();
        for path in METRICS {
            let found = path.split('.').try_fold(&tree, |tree, name| tree.get(name));
            assert!(found.is_some(), "{path}");
        }
    }
}
