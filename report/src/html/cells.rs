//! The tables: every figure of every cell, and sweeps as grids.

use super::text::Value;
use crate::metrics::{Better, Metric, SHOWN, Unit, by_path, number};
use crate::results::Results;
use crate::stats::{Estimate, Outlier, Pattern, estimate, outliers, pattern};
use crate::summary::Cell;

/// What a sweep is shown of.
const GRIDS: [&str; 5] = [
    "memory.machine_used",
    "memory.reclaimed",
    "sharing.oracle_share",
    "workload.seconds",
    "cpu_seconds.scanner",
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

/// What is looked at for runs that stand apart.
const WATCHED: [&str; 2] = ["workload.seconds", "memory.machine_used"];

/// Runs that stand apart, and figures that depend on when a run was made, in words.
pub(super) fn apart(results: &Results) -> Vec<String> {
    let mut lines = Vec::new();
    for cell in &results.summary.cells {
        for metric in WATCHED.iter().filter_map(|path| by_path(path)) {
            let made = results.values_as_made(cell, metric.path);
            let all = made.len();
            for Outlier { run, value, ratio } in outliers(&made) {
                lines.push(format!(
                    "{} run {run}: {} of {} {}, {ratio:.2} times the median; 1 of {all} runs",
                    cell.id,
                    metric.name,
                    metric.unit.text(value),
                    metric.unit.name(),
                ));
            }
            let values: Vec<f64> = made.iter().map(|(_, value)| *value).collect();
            if let Some(pattern) = pattern(&values) {
                let told = told(pattern, metric.unit);
                lines.push(format!("{}: {} {told}", cell.id, metric.name));
            }
        }
    }
    lines
}

fn told(pattern: Pattern, unit: Unit) -> String {
    match pattern {
        Pattern::Drift { part } => format!(
            "drifts: {}{} % from the first run to the last",
            if part > 0.0 { "+" } else { "" },
            number(part * 100.0)
        ),
        Pattern::Step { before, ratio } => format!(
            "steps: {} times as much after the first {before} runs",
            number(ratio)
        ),
        Pattern::TwoModes { low, high } => format!(
            "has two modes: runs lie near {} or near {} {}, none between",
            unit.text(low),
            unit.text(high),
            unit.name()
        ),
    }
}
