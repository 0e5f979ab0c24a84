//! Whether a comparison lets a change pass: for continuous integration.
//!
//! A figure is a regression only if the whole interval of its change lies beyond the threshold. If
//! the interval holds the threshold, more runs are needed, and nobody is stopped by noise.

use serde::Serialize;

use super::{Compared, Comparison};
use crate::metrics::{Better, by_path};
use crate::stats::{Change, Finding};

/// How a figure stands to the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// It is not worse by more than the threshold.
    Passed,
    /// It is worse by more than the threshold.
    Regression,
    /// It can't be said.
    Inconclusive,
}

/// A figure that did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stopped<'a> {
    /// The cell after the change.
    pub cell: &'a str,
    /// Path of the figure.
    pub metric: &'static str,
    /// Why.
    pub gate: Gate,
}

impl Comparison {
    /// The figures that are worse by more than so many percent, or may be.
    #[must_use]
    pub fn stopped(&self, percent: f64) -> Vec<Stopped<'_>> {
        let figures = self.cells.iter().flat_map(|cell| {
            let figures = cell.figures.iter();
            figures.map(|figure| (cell.after.as_str(), figure))
        });
        figures
            .map(|(cell, figure)| Stopped {
                cell,
                metric: figure.metric,
                gate: gate(figure, percent),
            })
            .filter(|stopped| stopped.gate != Gate::Passed)
            .collect()
    }
}

/// How a figure stands to a threshold in percent.
fn gate(figure: &Compared, percent: f64) -> Gate {
    let better = by_path(figure.metric).map_or(Better::Neither, |metric| metric.better);
    let change = &figure.change;
    if better == Better::Neither || change.finding == Finding::Same {
        return Gate::Passed;
    }
    let Some((least, most)) = worse_by(change, better) else {
        return Gate::Inconclusive;
    };
    let threshold = percent / 100.0;
    if most <= threshold {
        Gate::Passed
    } else if least > threshold && change.finding == Finding::Changed {
        Gate::Regression
    } else {
        Gate::Inconclusive
    }
}

/// By how much, as a part of the value before, a figure is worse at least and at most. What was 0
/// and is no longer is worse without limit. `None` for too few runs.
fn worse_by(change: &Change, better: Better) -> Option<(f64, f64)> {
    let way = if better == Better::Higher { -1.0 } else { 1.0 };
    let (low, high) = match (change.ratio_interval, change.difference_interval) {
        (Some(ratio), _) => (ratio.low - 1.0, ratio.high - 1.0),
        (None, Some(difference)) => (infinite(difference.low), infinite(difference.high)),
        (None, None) => return None,
    };
    let (a, b) = (way * low, way * high);
    Some((a.min(b), a.max(b)))
}

/// A change from nothing.
fn infinite(difference: f64) -> f64 {
    if difference == 0.0 {
        0.0
    } else {
        difference.signum() * f64::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::between;

    fn judged(metric: &'static str, before: &[f64], after: &[f64], percent: f64) -> Gate {
        let figure = Compared {
            metric,
            better: None,
            change: between(before, after).unwrap(),
        };
        gate(&figure, percent)
    }

    /// Six runs around 100 that differ by so much at most.
    fn around(middle: f64, reach: f64) -> Vec<f64> {
        let parts = [-1.0, -0.6, -0.2, 0.3, 0.5, 1.0];
        parts.map(|part| middle + part * reach).to_vec()
    }

    #[test]
    fn a_noisy_change_stops_nobody_and_a_clear_one_does() {
        let time = |after: &[f64]| judged("workload.seconds", &around(100.0, 1.0), after, 5.0);
        assert_eq!(time(&around(115.0, 1.0)), Gate::Regression);
        assert_eq!(time(&around(115.0, 30.0)), Gate::Inconclusive);
        assert_eq!(time(&around(100.5, 1.0)), Gate::Passed);
        assert_eq!(time(&around(60.0, 1.0)), Gate::Passed);
        // Worse beyond noise, but the interval holds the threshold.
        assert_eq!(time(&around(105.0, 2.5)), Gate::Inconclusive);
        // Worse beyond noise, but by less than the threshold.
        assert_eq!(time(&around(103.0, 0.2)), Gate::Passed);
    }

    #[test]
    fn few_runs_are_not_enough_to_stop() {
        let time = |before: &[f64], after: &[f64]| judged("workload.seconds", before, after, 5.0);
        assert_eq!(time(&[100.0], &[200.0]), Gate::Inconclusive);
        let (before, after) = ([99.0, 100.0, 101.0], [105.9, 107.0, 108.0]);
        assert_eq!(time(&before, &after), Gate::Inconclusive);
    }

    #[test]
    fn which_way_is_worse_depends_on_the_figure() {
        let (less, more) = (around(100.0, 1.0), around(150.0, 1.0));
        let saved = |before: &[f64], after: &[f64]| judged("memory.reclaimed", before, after, 5.0);
        assert_eq!(saved(&less, &more), Gate::Passed);
        assert_eq!(saved(&more, &less), Gate::Regression);
        let touched = judged("memory.touched", &less, &more, 5.0);
        assert_eq!(touched, Gate::Passed, "it only describes");
    }

    #[test]
    fn something_where_there_was_nothing_is_worse_without_limit() {
        let wrong = |after: &[f64]| judged("integrity.mismatches", &[0.0; 6], after, 1000.0);
        assert_eq!(wrong(&[3.0; 6]), Gate::Regression);
        assert_eq!(wrong(&[0.0; 6]), Gate::Passed);
    }
}
