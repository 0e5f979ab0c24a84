//! A claim about one cell, or about the ratio of two.

use serde_json::Value;

use super::Measured;
use crate::results::Expectation;
use crate::stats::{self, Interval};
use crate::summary::{Outcome, Severity, Verdict};

/// Figures that a cell does not have as a median of its runs: each bad run tells.
const WHOLE: [&str; 2] = ["integrity.", "accounting."];

/// How an expectation about one cell comes out of what was measured; `other` is the cell that a ratio is
/// to. `None` for a kind of bound that this version does not know, and for shapes.
#[must_use]
pub fn judge(
    expectation: &Expectation,
    measured: &Measured,
    other: Option<&Measured>,
) -> Option<Outcome> {
    let range = range(&expectation.bound)?;
    let equals = expectation.bound.get("equals").is_some();
    let ratio = expectation.ratio_to.is_some();
    let values: Vec<f64> = match (ratio, other) {
        (true, None) => Vec::new(),
        (true, Some(other)) => ratios(&other.runs, &measured.runs),
        _ => measured.runs.iter().map(|(_, value)| *value).collect(),
    };
    // Of ratios there is no mean; files that ask for one are refused, older results were not.
    let asked = match expectation.statistic.as_str() {
        "mean" if ratio => "median",
        asked => asked,
    };
    let whole = WHOLE
        .iter()
        .any(|group| expectation.metric.starts_with(group));
    let (value, interval) = if values.is_empty() || (whole && !ratio) {
        (measured.cell.filter(|_| !ratio), None)
    } else {
        statistic(asked, &values)
    };
    let verdict = match value {
        None => Verdict::Inconclusive,
        Some(value) if values.is_empty() || whole => word(range.covers(value)),
        Some(_) if equals => word(values.iter().all(|value| range.covers(*value))),
        Some(value) if statistic_is_end(asked) => word(range.covers(value)),
        Some(_) => side(&range, &values, interval),
    };
    Some(Outcome {
        id: expectation.id.clone(),
        verdict,
        value,
        interval: interval.map(|interval| [interval.low, interval.high]),
        severity: severity(&expectation.severity),
        published: expectation.published,
        cells: Vec::new(),
    })
}

/// The ratios of the runs of the same repeats; empty where a value of the other is 0.
fn ratios(base: &[(u32, f64)], values: &[(u32, f64)]) -> Vec<f64> {
    let ratios = stats::Ratios::of(&stats::pairs_of(base, values));
    ratios.map_or_else(Vec::new, |ratios| ratios.each().to_vec())
}

pub(super) fn statistic(name: &str, values: &[f64]) -> (Option<f64>, Option<Interval>) {
    let of: fn(&[f64]) -> f64 = match name {
        "mean" => mean,
        "least" => |values| values.iter().copied().fold(f64::INFINITY, f64::min),
        "most" => |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        _ => stats::median,
    };
    let interval = if statistic_is_end(name) {
        None
    } else {
        stats::interval(values, of)
    };
    (Some(of(values)), interval)
}

/// Whether it is an end of the runs, which has no interval: a bootstrap knows nothing of what lies
/// beyond.
pub(super) fn statistic_is_end(statistic: &str) -> bool {
    matches!(statistic, "least" | "most")
}

#[allow(clippy::cast_precision_loss, reason = "a few runs")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// On which side of the bounds the figure is, as far as its runs tell.
pub(super) fn side(range: &Interval, values: &[f64], interval: Option<Interval>) -> Verdict {
    let (inside, outside) = match interval {
        Some(found) => (
            range.covers(found.low) && range.covers(found.high),
            found.high < range.low || found.low > range.high,
        ),
        None => (
            values.iter().all(|value| range.covers(*value)),
            values.iter().all(|value| !range.covers(*value)),
        ),
    };
    match (inside, outside) {
        (true, _) => Verdict::Met,
        (_, true) => Verdict::NotMet,
        _ => Verdict::Inconclusive,
    }
}

pub(super) const fn word(met: bool) -> Verdict {
    if met { Verdict::Met } else { Verdict::NotMet }
}

pub(super) fn severity(word: &str) -> Severity {
    match word {
        "warn" => Severity::Warn,
        "info" => Severity::Info,
        _ => Severity::Fail,
    }
}

/// The values that a bound allows.
fn range(bound: &Value) -> Option<Interval> {
    let (kind, bound) = bound.as_object()?.iter().next()?;
    let around = |of: f64, by: f64| (of - by, of + by);
    let (low, high) = match kind.as_str() {
        "at-least" => (bound.as_f64()?, f64::INFINITY),
        "at-most" => (f64::NEG_INFINITY, bound.as_f64()?),
        "between" => (bound["low"].as_f64()?, bound["high"].as_f64()?),
        "equals" => {
            let of = bound.as_f64()?;
            around(of, f64::EPSILON * of.abs().max(1.0))
        }
        "within" => {
            let of = bound["of"].as_f64()?;
            around(of, bound["part"].as_f64()? * of.abs())
        }
        "around" => around(bound["of"].as_f64()?, bound["by"].as_f64()?),
        _ => return None,
    };
    Some(Interval { low, high })
}
