//! Cells against their baseline: what is gained and what it costs, in one table.
//!
//! A ratio never stands alone: the difference in the figure's own unit is beside it. A gain never
//! stands alone either: the columns of costs are there whether the numbers please or not.

use super::cells::known;
use super::text::Value;
use crate::metrics::{Metric, by_path};
use crate::results::Results;
use crate::stats::paired;
use crate::summary::Cell;

/// What is gained.
const GAIN: [&str; 1] = ["memory.machine_used"];

/// What it costs, as far as the baseline has it too.
const COST: [&str; 3] = ["workload.seconds", "cpu_seconds.vcpu", "cpu_seconds.device"];

/// What only a cell with mechanisms has.
const OWN: [&str; 4] = [
    "cpu_seconds.scanner",
    "cpu_seconds.ksmd",
    "sharing.hold_p99_seconds",
    "sharing.broken_pages",
];

/// Cells against their baseline.
#[derive(Debug, Default)]
pub(super) struct Costs {
    /// Names of what is compared; each has a difference and a ratio.
    pub(super) compared: Vec<String>,
    /// Names of what the cell has alone.
    pub(super) own: Vec<String>,
    pub(super) rows: Vec<CostRow>,
}

#[derive(Debug)]
pub(super) struct CostRow {
    pub(super) cell: String,
    pub(super) base: String,
    pub(super) changes: Vec<ValueChange>,
    pub(super) own: Vec<Value>,
}

/// A difference and a ratio to the baseline of the same repeats.
#[derive(Debug)]
pub(super) struct ValueChange {
    pub(super) difference: Value,
    pub(super) ratio: Value,
}

/// The table; without rows where no cell has a baseline.
pub(super) fn costs(results: &Results) -> Costs {
    let metrics = |paths: &[&str]| -> Vec<&'static Metric> {
        paths.iter().filter_map(|path| by_path(path)).collect()
    };
    let (compared, own) = (metrics(&[&GAIN[..], &COST].concat()), metrics(&OWN));
    let row = |cell: &Cell| {
        let base = results.baseline(cell)?;
        let changes = compared.iter();
        Some(CostRow {
            cell: cell.id.clone(),
            base: base.id.clone(),
            changes: changes
                .map(|metric| change(results, base, cell, metric))
                .collect(),
            own: own
                .iter()
                .map(|metric| Value::new(known(results, cell, metric.path).as_ref(), metric.unit))
                .collect(),
        })
    };
    Costs {
        rows: results.summary.cells.iter().filter_map(row).collect(),
        compared: compared.iter().map(|metric| headed(metric)).collect(),
        own: own.iter().map(|metric| headed(metric)).collect(),
    }
}

fn change(results: &Results, base: &Cell, cell: &Cell, metric: &Metric) -> ValueChange {
    let paired = paired(&results.pairs(base, cell, metric.path));
    ValueChange {
        difference: Value::difference(paired.as_ref(), metric.unit),
        ratio: Value::ratio(paired.as_ref()),
    }
}

fn headed(metric: &Metric) -> String {
    match metric.unit.name() {
        "" => metric.name.to_owned(),
        unit => format!("{} ({unit})", metric.name),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn no_gain_is_shown_without_its_cost_and_no_ratio_without_its_size() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1");
        let costs = costs(&Results::load(&path).unwrap());
        let heads = [&costs.compared[..], &costs.own].concat().join("; ");
        for column in [
            "machine memory",
            "workload time",
            "vCPU CPU",
            "scanner CPU",
            "ksmd CPU",
            "writers held, p99",
            "shared pages broken",
        ] {
            assert!(heads.contains(column), "{column} is missing: {heads}");
        }
        let ksm = costs.rows.iter().find(|row| row.cell == "ksm").unwrap();
        assert_eq!(ksm.base, "none");
        // 33.4 of 276.1 MiB.
        let memory = &ksm.changes[0];
        assert!(memory.difference.middle.starts_with("−242."), "{memory:?}");
        assert!(memory.ratio.middle.starts_with("0.12"), "{memory:?}");
        for change in costs.rows.iter().flat_map(|row| &row.changes) {
            let (size, ratio) = (&change.difference, &change.ratio);
            assert!(*ratio == Value::none() || *size != Value::none());
        }
    }
}
