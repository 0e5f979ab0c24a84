//! The tables: every figure of every cell, sweeps as grids, and cells against their baseline.

use super::text::Value;
use crate::metrics::{Better, Metric, SHOWN, by_path};
use crate::results::Results;
use crate::stats::{Estimate, Outlier, estimate, outliers, paired};
use crate::summary::Cell;

/// What a sweep is shown of.
const GRIDS: [&str; 5] = [
    "memory.machine_used",
    "memory.reclaimed",
    "sharing.oracle_share",
    "workload.seconds",
    "cpu_seconds.scanner",
];

/// What is compared with the baseline: what is gained, and what it costs.
const AGAINST: [&str; 4] = [
    "memory.machine_used",
    "workload.seconds",
    "cpu_seconds.vcpu",
    "cpu_seconds.device",
];

/// One row of a table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) values: Vec<Value>,
}

/// A sweep of one figure: guests down, mechanism sets across.
#[derive(Debug)]
pub(super) struct Grid {
    pub(super) title: String,
    pub(super) sets: Vec<String>,
    pub(super) rows: Vec<Row>,
}

/// What is known of a figure of a cell.
pub(super) fn known(results: &Results, cell: &Cell, path: &str) -> Option<Estimate> {
    let values = results.values(cell, path);
    estimate(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>())
}

/// Every figure that some cell has, and the names of those that none has.
pub(super) fn every(results: &Results) -> (Vec<Row>, Vec<&'static str>) {
    let (mut rows, mut unmeasured) = (Vec::new(), Vec::new());
    for metric in &SHOWN {
        let cells = results.summary.cells.iter();
        let known: Vec<_> = cells
            .map(|cell| known(results, cell, metric.path))
            .collect();
        if known.iter().all(Option::is_none) {
            unmeasured.push(metric.name);
            continue;
        }
        rows.push(Row {
            name: metric.name.to_owned(),
            unit: metric.unit.name(),
            values: known
                .iter()
                .map(|known| Value::new(known.as_ref(), metric.unit))
                .collect(),
        });
    }
    (rows, unmeasured)
}

/// The grids of a sweep; none where all cells have the same number of guests.
pub(super) fn grids(results: &Results) -> Vec<Grid> {
    let sets = results.sets();
    let mut guests: Vec<u64> = results
        .summary
        .cells
        .iter()
        .map(|cell| cell.guests)
        .collect();
    guests.sort_unstable();
    guests.dedup();
    if guests.len() < 2 {
        return Vec::new();
    }
    let metrics = GRIDS.iter().filter_map(|path| by_path(path));
    let grid = |metric: &Metric| {
        let row = |guests: &u64| {
            let cells = sets
                .iter()
                .map(|set| set.cells.iter().find(|cell| cell.guests == *guests));
            let value = |cell: Option<&&Cell>| {
                let known = cell.and_then(|cell| known(results, cell, metric.path));
                Value::new(known.as_ref(), metric.unit)
            };
            Row {
                name: guests.to_string(),
                unit: "",
                values: cells.map(value).collect(),
            }
        };
        let better = match metric.better {
            Better::Lower => "; lower is better",
            Better::Higher => "; higher is better",
            Better::Neither => "",
        };
        Grid {
            title: format!("{} ({}){better}", metric.name, metric.unit.name()),
            sets: sets.iter().map(|set| set.name.clone()).collect(),
            rows: guests.iter().map(row).collect(),
        }
    };
    metrics
        .map(grid)
        .filter(|grid| {
            let mut values = grid.rows.iter().flat_map(|row| &row.values);
            values.any(|value| *value != Value::none())
        })
        .collect()
}

/// Cells against their baseline, and the names of what is compared.
pub(super) fn against_baseline(results: &Results) -> (Vec<Row>, Vec<String>) {
    let metrics: Vec<&Metric> = AGAINST.iter().filter_map(|path| by_path(path)).collect();
    let rows = results.summary.cells.iter().filter_map(|cell| {
        let base = results.baseline(cell)?;
        let ratio = |metric: &&Metric| {
            let paired = paired(&results.pairs(base, cell, metric.path));
            Value::ratio(paired.as_ref())
        };
        Some(Row {
            name: format!("{} to {}", cell.id, base.id),
            unit: "",
            values: metrics.iter().map(ratio).collect(),
        })
    });
    let names = metrics.iter().map(|metric| metric.name.to_owned());
    (rows.collect(), names.collect())
}

/// Runs whose workload time or memory stands apart, in words.
pub(super) fn apart(results: &Results) -> Vec<String> {
    let mut lines = Vec::new();
    for cell in &results.summary.cells {
        for path in ["workload.seconds", "memory.machine_used"] {
            let Some(metric) = by_path(path) else {
                continue;
            };
            for Outlier { run, value, ratio } in outliers(&results.values(cell, path)) {
                lines.push(format!(
                    "{} run {run}: {} of {} {}, {ratio:.2} times the median",
                    cell.id,
                    metric.name,
                    metric.unit.text(value),
                    metric.unit.name(),
                ));
            }
        }
    }
    lines
}
