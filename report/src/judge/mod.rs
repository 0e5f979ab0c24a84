//! Judges expectations, from the figures of runs: while an experiment runs, and again from stored
//! results, without KVM.
//!
//! A verdict has three values. A figure of three runs or more has an interval; where that lies on
//! both sides of a bound, the runs do not tell, and the verdict says so instead of taking the
//! middle's side. Of fewer runs each must be on the same side.

mod one;
mod shape;
pub mod words;

pub use one::judge;

use serde::Serialize;
use serde_json::Value;

use crate::metrics::value;
use crate::results::{Expectation, Results};
use crate::summary::{Cell, Outcome};
use crate::sweep::beside;
use shape::Shape;

/// What a figure was in a cell.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// In each run that counts, by its number.
    pub runs: Vec<(u32, f64)>,
    /// In the cell as a whole.
    pub cell: Option<f64>,
}

/// How an expectation came out, and of which cells.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The expectation.
    pub expectation: &'a Expectation,
    /// The cell; those of a curve in its order.
    pub cells: Vec<String>,
    /// How it came out.
    pub outcome: Outcome,
}

/// An expectation's outcome, for people and scripts.
#[derive(Clone, Debug, Serialize)]
pub struct Judged<'a> {
    /// The cell; those of a curve in its order, each after a comma.
    pub cell: String,
    /// The claim in one sentence.
    pub claim: Option<&'a str>,
    /// The figure.
    pub metric: &'a str,
    /// What it should be.
    pub bound: &'a Value,
    /// How it came out.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whether an expectation that names `wanted` is about a cell: it is that cell, or one of that
/// mechanism set in a sweep.
#[must_use]
pub fn names(wanted: &str, cell: &Cell) -> bool {
    is_named(wanted, &cell.id, &cell.set)
}

/// The same of a cell by its id and its mechanism set, which results of older versions do not tell.
#[must_use]
pub fn is_named(wanted: &str, id: &str, set: &str) -> bool {
    if wanted == id || wanted == set {
        return true;
    }
    let rest = id.strip_prefix(wanted).filter(|_| set.is_empty());
    rest.is_some_and(|rest| rest.starts_with('-'))
}

/// The cell that another one's figures are put in relation to: the cell named, or that of the named
/// mechanism set at the same point, or at a part of it.
#[must_use]
pub fn counterpart<'a>(to: &str, of: &Cell, cells: &'a [Cell]) -> Option<&'a Cell> {
    let exact = cells.iter().find(|cell| cell.id == to);
    exact.or_else(|| beside(cells.iter().filter(|cell| names(to, cell)), of))
}

/// The cells of each curve that a claim about a shape is about, in the order that is claimed; none for
/// other claims.
#[must_use]
pub fn curves<'c>(expectation: &Expectation, cells: &'c [Cell]) -> Vec<Vec<&'c Cell>> {
    let shape = Shape::of(expectation);
    shape.map_or_else(Vec::new, |shape| {
        shape.curves(expectation.cell.as_deref(), cells)
    })
}

/// Judges expectations by what was measured in these cells, each in every cell or curve it is about.
pub fn outcomes<'a>(
    expect: &'a [Expectation],
    cells: &[Cell],
    measured: impl Fn(&Cell, &str) -> Measured,
) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    for expectation in expect {
        let named = expectation.cell.as_deref();
        if let Some(shape) = Shape::of(expectation) {
            let curves = shape.curves(named, cells).into_iter();
            found.extend(curves.map(|curve| {
                let outcome = shape::judge(&shape, expectation, &curve, &measured);
                Found {
                    expectation,
                    cells: outcome.cells.clone(),
                    outcome,
                }
            }));
            continue;
        }
        for cell in cells {
            if named.is_some_and(|named| !names(named, cell)) {
                continue;
            }
            let other = expectation.ratio_to.as_ref();
            let other = other.and_then(|to| counterpart(to, cell, cells));
            let other = other.map(|other| measured(other, &expectation.metric));
            let own = measured(cell, &expectation.metric);
            let outcome = judge(expectation, &own, other.as_ref());
            found.extend(outcome.map(|outcome| Found {
                expectation,
                cells: vec![cell.id.clone()],
                outcome,
            }));
        }
    }
    found
}

/// Judges all expectations of stored results again, or those that are given instead.
#[must_use]
pub fn judge_all<'a>(results: &Results, expect: &'a [Expectation]) -> Vec<Judged<'a>> {
    let found = outcomes(expect, &results.summary.cells, |cell, metric| Measured {
        runs: results.values(cell, metric),
        cell: value(&cell.figures, metric),
    });
    let judged = found.into_iter().map(|found| Judged {
        cell: found.cells.join(", "),
        claim: found.expectation.claim.as_deref(),
        metric: &found.expectation.metric,
        bound: &found.expectation.bound,
        outcome: found.outcome,
    });
    judged.collect()
}

#[cfg(test)]
mod tests;
