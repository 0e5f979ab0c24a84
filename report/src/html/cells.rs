//! The tables: every figure of every cell, and sweeps as grids.

use std::collections::BTreeSet;

use super::text::Value;
use crate::metrics::{Better, Metric, SHOWN, Unit, by_path, number};
use crate::results::Results;
use crate::stats::{Estimate, Outlier, Pattern, estimate, outliers, pattern};
use crate::summary::Cell;
use crate::sweep::{self, beside, is_part};

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

/// A sweep of one figure: points down, mechanism sets across.
#[derive(Debug)]
pub(super) struct Grid {
    pub(super) title: String,
    /// What the points are of.
    pub(super) head: String,
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

/// The grids of a sweep; none where there is no sweep.
pub(super) fn grids(results: &Results) -> Vec<Grid> {
    let cells = &results.summary.cells;
    let (head, points) = points(cells);
    if points.len() < 2 {
        return Vec::new();
    }
    let mut sets: Vec<&str> = Vec::new();
    for cell in cells {
        if !sets.contains(&cell.set_name()) {
            sets.push(cell.set_name());
        }
    }
    let grid = |metric: &Metric| {
        let row = |(name, key): &(String, Key<'_>)| {
            let value = |set: &&str| {
                let own = cells.iter().filter(|cell| cell.set_name() == *set);
                let cell = match key {
                    Key::Point(at) => beside(own, at),
                    Key::Guests(_) => own.into_iter().find(|cell| Key::of(cell) == *key),
                };
                let known = cell.and_then(|cell| known(results, cell, metric.path));
                Value::new(known.as_ref(), metric.unit)
            };
            Row {
                name: name.clone(),
                unit: "",
                values: sets.iter().map(value).collect(),
            }
        };
        let better = match metric.better {
            Better::Lower => "; lower is better",
            Better::Higher => "; higher is better",
            Better::Neither => "",
        };
        Grid {
            title: format!("{} ({}){better}", metric.name, metric.unit.name()),
            head: head.clone(),
            sets: sets.iter().map(|&set| set.to_owned()).collect(),
            rows: points.iter().map(row).collect(),
        }
    };
    let metrics = GRIDS.iter().filter_map(|path| by_path(path));
    metrics
        .map(grid)
        .filter(|grid| {
            let mut values = grid.rows.iter().flat_map(|row| &row.values);
            values.any(|value| *value != Value::none())
        })
        .collect()
}

/// What tells a point of a sweep from others. Older results do not tell what was swept; it was the
/// number of guests.
#[derive(Clone, Copy, Debug)]
enum Key<'a> {
    /// That of this cell.
    Point(&'a Cell),
    Guests(u64),
}

impl<'a> Key<'a> {
    fn of(cell: &'a Cell) -> Self {
        match cell.point.is_empty() && cell.set.is_empty() {
            true => Self::Guests(cell.guests),
            false => Self::Point(cell),
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Point(one), Self::Point(other)) => one.point == other.point,
            (Self::Guests(one), Self::Guests(other)) => one == other,
            _ => false,
        }
    }
}

/// The points of a sweep, each with its name, and what they are of. A part of another point has no row
/// of its own.
fn points(cells: &[Cell]) -> (String, Vec<(String, Key<'_>)>) {
    let fields: BTreeSet<&str> = cells
        .iter()
        .flat_map(|cell| cell.point.keys().map(String::as_str))
        .collect();
    let mut points: Vec<(String, Key<'_>)> = Vec::new();
    for cell in cells {
        let key = Key::of(cell);
        let more = |other: &Cell| other.point.len() > cell.point.len() && is_part(cell, other);
        let covered = matches!(key, Key::Point(_)) && cells.iter().any(more);
        if covered || points.iter().any(|(_, known)| *known == key) {
            continue;
        }
        let name = match key {
            Key::Guests(guests) => guests.to_string(),
            Key::Point(at) if at.point.is_empty() => "not swept".to_owned(),
            Key::Point(at) => match at.point.values().next() {
                Some(value) if fields.len() == 1 => sweep::value_text(value),
                _ => sweep::text(cell, |_| true),
            },
        };
        points.push((name, key));
    }
    if matches!(points.first(), Some((_, Key::Guests(_)))) {
        points.sort_by_key(|(_, key)| match key {
            Key::Guests(guests) => *guests,
            Key::Point(_) => 0,
        });
    }
    let head = match fields.first() {
        None => "guests",
        Some(field) if fields.len() == 1 => sweep::short(field),
        Some(_) => "point",
    };
    (head.to_owned(), points)
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
