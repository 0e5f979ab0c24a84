//! Two results side by side: what changed beyond noise, and what did not.

mod conditions;
mod gate;
mod many;
mod text;

pub use conditions::{Difference, conditions};
pub use gate::{Gate, Stopped};
pub use many::render_many;
pub use text::{render, unlike_text};

use std::path::PathBuf;

use serde::Serialize;

use crate::metrics::{Better, Metric, SHOWN};
use crate::results::{Results, ResultsError};
use crate::stats::{Change, Finding, between, within};
use crate::summary::Cell;

/// What may differ between two sessions.
const MEANT: [&str; 6] = [
    "provenance.binary_digest",
    "provenance.environment.features",
    "provenance.environment.lock_digest",
    "provenance.environment.rustc",
    "experiment.repeat.retries",
    "experiment.repeat.runs",
];

/// What to compare: a results folder, and one of its cells or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The folder.
    pub folder: PathBuf,
    /// The cell.
    pub cell: Option<String>,
}

impl Side {
    /// Reads `folder` or `folder:cell`. A folder whose name holds a colon is taken as it is.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.rsplit_once(':') {
            Some((folder, cell)) if !PathBuf::from(text).exists() => Self {
                folder: folder.into(),
                cell: Some(cell.to_owned()),
            },
            _ => Self {
                folder: text.into(),
                cell: None,
            },
        }
    }
}

/// The comparison of two results.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Version of this format.
    pub schema_version: u32,
    /// Whether runs were paired by their repeat: both cells are of one session.
    pub paired: bool,
    /// What differs between the two sessions, besides their results.
    pub conditions: Vec<Difference>,
    /// The cells.
    pub cells: Vec<CellComparison>,
    /// Cells that are on one side only.
    pub unmatched: Vec<String>,
}

/// Two cells.
#[derive(Clone, Debug, Serialize)]
pub struct CellComparison {
    /// The cell before.
    pub before: String,
    /// The cell after.
    pub after: String,
    /// Every figure that both have.
    pub figures: Vec<Compared>,
}

/// One figure of two cells.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Path of the figure.
    pub metric: &'static str,
    /// How it changed, in base units.
    pub change: Change,
    /// Whether it changed for the better; `None` if it did not, or if it only describes.
    pub better: Option<bool>,
}

/// Compares two sides.
///
/// # Errors
/// A side names a cell that is not there, or is of a smoke run.
pub fn compare(
    (before, before_cell): (&Results, Option<&str>),
    (after, after_cell): (&Results, Option<&str>),
) -> Result<Comparison, ResultsError> {
    if let Some(smoke) = [before, after].into_iter().find(|side| side.summary.smoke) {
        return Err(ResultsError::Smoke {
            path: smoke.path.clone(),
        });
    }
    let (pairs, unmatched) = match (before_cell, after_cell) {
        (None, None) => matched(before, after),
        (one, other) => {
            // A cell that is named on one side only is the same on the other.
            let (one, other) = (one.or(other), other.or(one));
            let cell = |results, id: Option<&str>| Results::cell(results, id.unwrap_or_default());
            (vec![(cell(before, one)?, cell(after, other)?)], Vec::new())
        }
    };
    let paired = same_session(before, after);
    let cells = pairs.iter().map(|(old, new)| CellComparison {
        before: old.id.clone(),
        after: new.id.clone(),
        figures: figures((before, old), (after, new), paired),
    });
    Ok(Comparison {
        schema_version: 1,
        paired,
        conditions: if paired {
            Vec::new()
        } else {
            conditions(before, after)
        },
        cells: cells.collect(),
        unmatched,
    })
}

impl Comparison {
    /// Conditions that differ without being meant to, but for those that are allowed: `allowed` names
    /// conditions, or what they are parts of. Another binary is compared for its difference, and
    /// more runs only make a result surer.
    #[must_use]
    pub fn unlike(&self, allowed: &[String]) -> Vec<&Difference> {
        let within = |what: &str, name: &str| {
            let rest = what.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let allowed = |what: &str| {
            let names = allowed.iter().map(String::as_str);
            MEANT
                .into_iter()
                .chain(names)
                .any(|name| within(what, name))
        };
        let conditions = self.conditions.iter();
        conditions.filter(|found| !allowed(&found.what)).collect()
    }
}

/// Whether two results are one and the same session.
fn same_session(one: &Results, other: &Results) -> bool {
    let place = |results: &Results| results.path.canonicalize().ok();
    place(one).is_some() && place(one) == place(other)
}

/// Cells with the same id, and the ids that have no counterpart.
fn matched<'a>(
    before: &'a Results,
    after: &'a Results,
) -> (Vec<(&'a Cell, &'a Cell)>, Vec<String>) {
    let (mut pairs, mut alone) = (Vec::new(), Vec::new());
    for cell in &before.summary.cells {
        match after.cell(&cell.id) {
            Ok(other) => pairs.push((cell, other)),
            Err(_) => alone.push(cell.id.clone()),
        }
    }
    for cell in &after.summary.cells {
        if before.cell(&cell.id).is_err() {
            alone.push(cell.id.clone());
        }
    }
    (pairs, alone)
}

fn figures(before: (&Results, &Cell), after: (&Results, &Cell), paired: bool) -> Vec<Compared> {
    let compared = |metric: &Metric| {
        let change = if paired {
            within(&before.0.pairs(before.1, after.1, metric.path))
        } else {
            let values = |(results, cell): (&Results, &Cell)| -> Vec<f64> {
                let values = results.values(cell, metric.path);
                values.into_iter().map(|(_, value)| value).collect()
            };
            between(&values(before), &values(after))
        }?;
        Some(Compared {
            metric: metric.path,
            better: better(metric, &change),
            change,
        })
    };
    SHOWN.iter().filter_map(compared).collect()
}

fn better(metric: &Metric, change: &Change) -> Option<bool> {
    let changed = matches!(change.finding, Finding::Changed | Finding::Perhaps);
    match metric.better {
        _ if !changed => None,
        Better::Lower => Some(change.difference < 0.0),
        Better::Higher => Some(change.difference > 0.0),
        Better::Neither => None,
    }
}

#[cfg(test)]
mod tests;
