//! Claims about the shape of a curve: that a figure rises or falls with a swept field, or that cells
//! stand in an order.
//!
//! A shape is made of steps from one cell to the next. Each step is the differences of the runs of the
//! same repeat, and is beyond noise or is not; a shape is as good as its worst step.

use serde_json::Value;

use super::one::{severity, side, statistic, statistic_is_end, word};
use super::{Measured, counterpart, names};
use crate::results::Expectation;
use crate::stats::{Interval, pairs_of};
use crate::summary::{Cell, Outcome, Verdict};
use crate::sweep;

/// What a step must be: more than nothing.
const MORE: Interval = Interval {
    low: f64::MIN_POSITIVE,
    high: f64::INFINITY,
};

/// A shape.
#[derive(Debug)]
pub(super) enum Shape<'a> {
    /// The figure changes with a swept field.
    Along { path: &'a str, rises: bool },
    /// The figures of these cells are in this order, the least first.
    Order(Vec<&'a str>),
}

impl<'a> Shape<'a> {
    /// The shape that a claim is about; `None` for other claims.
    pub(super) fn of(expectation: &'a Expectation) -> Option<Self> {
        let (kind, value) = expectation.bound.as_object()?.iter().next()?;
        match (kind.as_str(), value) {
            ("increases-with", Value::String(path)) => Some(Self::Along { path, rises: true }),
            ("decreases-with", Value::String(path)) => Some(Self::Along { path, rises: false }),
            ("order", Value::Array(cells)) => Some(Self::Order(
                cells.iter().filter_map(Value::as_str).collect(),
            )),
            _ => None,
        }
    }

    const fn rises(&self) -> bool {
        !matches!(self, Self::Along { rises: false, .. })
    }

    /// The cells of each curve that the claim is about, in its order.
    pub(super) fn curves<'c>(&self, cell: Option<&str>, cells: &'c [Cell]) -> Vec<Vec<&'c Cell>> {
        match self {
            Self::Along { path, .. } => {
                let wanted = cells
                    .iter()
                    .filter(|other| cell.is_none_or(|wanted| names(wanted, other)));
                let lines = sweep::lines(wanted, |cell| sweep::along(cell, path));
                let cells = |line: sweep::Line<'c>| line.cells.into_iter().map(|(_, cell)| cell);
                lines
                    .into_iter()
                    .map(|line| cells(line).collect())
                    .collect()
            }
            Self::Order(wanted) => orders(wanted, cells),
        }
    }
}

/// The cells of these names at each point at which there is one of each.
fn orders<'c>(wanted: &[&str], cells: &'c [Cell]) -> Vec<Vec<&'c Cell>> {
    let named = cells
        .iter()
        .filter(|cell| wanted.iter().any(|name| names(name, cell)));
    let mut curves: Vec<Vec<&Cell>> = Vec::new();
    for cell in named {
        let curve = wanted.iter().map(|name| counterpart(name, cell, cells));
        let Some(curve) = curve.collect::<Option<Vec<_>>>() else {
            continue;
        };
        let same = |other: &Vec<&Cell>| ids(other) == ids(&curve);
        if !curves.iter().any(same) {
            curves.push(curve);
        }
    }
    curves
}

fn ids(cells: &[&Cell]) -> Vec<String> {
    cells.iter().map(|cell| cell.id.clone()).collect()
}

/// One step of a curve.
#[derive(Debug)]
struct Step {
    verdict: Verdict,
    value: Option<f64>,
    interval: Option<Interval>,
}

/// How a claim about a shape comes out of one curve; the value is its worst step, in the direction
/// that is claimed.
pub(super) fn judge(
    shape: &Shape<'_>,
    expectation: &Expectation,
    curve: &[&Cell],
    measured: impl Fn(&Cell, &str) -> Measured,
) -> Outcome {
    let steps = curve.windows(2).map(|pair| {
        let of = |cell: &Cell| measured(cell, &expectation.metric).runs;
        step(
            &of(pair[0]),
            &of(pair[1]),
            shape.rises(),
            &expectation.statistic,
        )
    });
    let rank = |verdict: Verdict| match verdict {
        Verdict::NotMet => 0,
        Verdict::Met => 2,
        _ => 1,
    };
    let worst = steps.min_by(|a, b| {
        let values = |step: &Step| step.value.unwrap_or(f64::NEG_INFINITY);
        let by_verdict = rank(a.verdict).cmp(&rank(b.verdict));
        by_verdict.then(values(a).total_cmp(&values(b)))
    });
    let worst = worst.unwrap_or(Step {
        verdict: Verdict::Inconclusive,
        value: None,
        interval: None,
    });
    Outcome {
        id: expectation.id.clone(),
        verdict: worst.verdict,
        value: worst.value,
        interval: worst.interval.map(|interval| [interval.low, interval.high]),
        severity: severity(&expectation.severity),
        published: None,
        cells: ids(curve),
    }
}

fn step(from: &[(u32, f64)], to: &[(u32, f64)], rises: bool, of: &str) -> Step {
    let pairs = pairs_of(from, to);
    let difference = |pair: &crate::stats::Pair| match rises {
        true => pair.value - pair.base,
        false => pair.base - pair.value,
    };
    let values: Vec<f64> = pairs.iter().map(difference).collect();
    if values.is_empty() {
        return Step {
            verdict: Verdict::Inconclusive,
            value: None,
            interval: None,
        };
    }
    let (value, interval) = statistic(of, &values);
    let verdict = match value {
        Some(value) if statistic_is_end(of) => word(MORE.covers(value)),
        _ => side(&MORE, &values, interval),
    };
    Step {
        verdict,
        value,
        interval,
    }
}
