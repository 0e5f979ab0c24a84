//! Judges expectations, from the figures of runs: while an experiment runs, and again from stored
//! results, without KVM.
//!
//! A verdict has three values. A figure of three runs or more has an interval; where that lies on
//! both sides of a bound, the runs do not tell, and the verdict says so instead of taking the
//! middle's side. Of fewer runs each must be on the same side.

use serde::Serialize;
use serde_json::Value;

use crate::metrics::value;
use crate::results::{Expectation, Results};
use crate::stats::{self, Interval};
use crate::summary::{Cell, Outcome, Severity, Verdict};

/// Figures that a cell does not have as a median of its runs: each bad run tells.
const WHOLE: [&str; 2] = ["integrity.", "accounting."];

/// What a figure was in a cell.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// In each run that counts, by its number.
    pub runs: Vec<(u32, f64)>,
    /// In the cell as a whole.
    pub cell: Option<f64>,
}

/// An expectation's outcome in a cell.
#[derive(Clone, Debug, Serialize)]
pub struct Judged<'a> {
    /// The cell.
    pub cell: &'a str,
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

/// Whether an expectation that names `wanted` is about the cell `id`: it is that cell, or one of that
/// mechanism set in a sweep.
#[must_use]
pub fn names(wanted: &str, id: &str) -> bool {
    let rest = id.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The cell that another one's figures are put in relation to: the cell named, or that of the named
/// mechanism set at the same point.
#[must_use]
pub fn counterpart<'a>(to: &str, of: &Cell, cells: &'a [Cell]) -> Option<&'a Cell> {
    let exact = cells.iter().find(|cell| cell.id == to);
    let at_point = |cell: &&Cell| names(to, &cell.id) && cell.point == of.point;
    exact.or_else(|| cells.iter().find(at_point))
}

/// How an expectation comes out of what was measured; `other` is the cell that a ratio is to. `None`
/// for a kind of bound that this version does not know.
#[must_use]
pub fn judge(
    expectation: &Expectation,
    measured: &Measured,
    other: Option<&Measured>,
) -> Option<Outcome> {
    let range = range(&expectation.bound)?;
    let equals = expectation.bound.get("equals").is_some();
    let ratio = expectation.ratio_to.is_some();
    let values = match (ratio, other) {
        (true, None) => Vec::new(),
        (true, Some(other)) => ratios(&other.runs, &measured.runs),
        _ => measured.runs.iter().map(|(_, value)| *value).collect(),
    };
    let whole = WHOLE
        .iter()
        .any(|group| expectation.metric.starts_with(group));
    let (value, interval) = if values.is_empty() || (whole && !ratio) {
        (measured.cell.filter(|_| !ratio), None)
    } else {
        statistic(&expectation.statistic, &values)
    };
    let verdict = match value {
        None => Verdict::Inconclusive,
        Some(value) if values.is_empty() || whole => word(range.covers(value)),
        Some(_) if equals => word(values.iter().all(|value| range.covers(*value))),
        Some(value) if ends(&expectation.statistic) => word(range.covers(value)),
        Some(_) => side(&range, &values, interval),
    };
    Some(Outcome {
        id: expectation.id.clone(),
        verdict,
        value,
        interval: interval.map(|interval| [interval.low, interval.high]),
        severity: severity(&expectation.severity),
        published: expectation.published,
    })
}

/// Judges all expectations of stored results again, or those that are given instead.
#[must_use]
pub fn judge_all<'a>(results: &'a Results, expect: &'a [Expectation]) -> Vec<Judged<'a>> {
    let cells = &results.summary.cells;
    let measured = |cell: &Cell, metric: &str| Measured {
        runs: results.values(cell, metric),
        cell: value(&cell.figures, metric),
    };
    let mut judged = Vec::new();
    for cell in cells {
        let wanted = |id: &String| names(id, &cell.id);
        let mine = expect.iter().filter(|e| e.cell.as_ref().is_none_or(wanted));
        for expectation in mine {
            let other = expectation.ratio_to.as_ref();
            let other = other.and_then(|to| counterpart(to, cell, cells));
            let other = other.map(|other| measured(other, &expectation.metric));
            let own = measured(cell, &expectation.metric);
            let outcome = judge(expectation, &own, other.as_ref());
            judged.extend(outcome.map(|outcome| Judged {
                cell: &cell.id,
                claim: expectation.claim.as_deref(),
                metric: &expectation.metric,
                bound: &expectation.bound,
                outcome,
            }));
        }
    }
    judged
}

/// The ratios of the runs of the same repeats; empty where a value of the other is 0.
fn ratios(base: &[(u32, f64)], values: &[(u32, f64)]) -> Vec<f64> {
    let pairs = stats::pairs_of(base, values);
    let ratios = pairs.iter().map(|pair| pair.value / pair.base);
    let ratios: Vec<f64> = ratios.collect();
    if ratios.iter().all(|ratio| ratio.is_finite()) {
        ratios
    } else {
        Vec::new()
    }
}

fn statistic(name: &str, values: &[f64]) -> (Option<f64>, Option<Interval>) {
    let of: fn(&[f64]) -> f64 = match name {
        "mean" => mean,
        "least" => |values| values.iter().copied().fold(f64::INFINITY, f64::min),
        "most" => |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        _ => stats::median,
    };
    let interval = if ends(name) {
        None
    } else {
        stats::interval(values, of)
    };
    (Some(of(values)), interval)
}

/// Whether it is an end of the runs, which has no interval: a bootstrap knows nothing of what lies
/// beyond.
fn ends(statistic: &str) -> bool {
    matches!(statistic, "least" | "most")
}

#[allow(clippy::cast_precision_loss, reason = "a few runs")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// On which side of the bounds the figure is, as far as its runs tell.
fn side(range: &Interval, values: &[f64], interval: Option<Interval>) -> Verdict {
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

const fn word(met: bool) -> Verdict {
    if met { Verdict::Met } else { Verdict::NotMet }
}

fn severity(word: &str) -> Severity {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn measured(values: &[f64]) -> Measured {
        Measured {
            runs: (1..).zip(values.iter().copied()).collect(),
            cell: values.first().map(|_| stats::median(values)),
        }
    }

    fn expect(bound: Value) -> Expectation {
        Expectation {
            metric: "memory.reclaimed".into(),
            bound,
            ..Expectation::default()
        }
    }

    fn verdict(bound: Value, values: &[f64]) -> Option<Verdict> {
        let outcome = judge(&expect(bound), &measured(values), None)?;
        Some(outcome.verdict)
    }

    #[test]
    fn one_run_is_on_one_side() {
        let of = |bound| verdict(bound, &[100.0]);
        assert_eq!(of(json!({ "at-least": 100.0 })), Some(Verdict::Met));
        assert_eq!(of(json!({ "at-most": 99.0 })), Some(Verdict::NotMet));
        assert_eq!(of(json!({ "equals": 100 })), Some(Verdict::Met));
        assert_eq!(
            of(json!({ "between": { "low": 90, "high": 100 } })),
            Some(Verdict::Met)
        );
        let within = |of_: f64| of(json!({ "within": { "part": 0.1, "of": of_ } }));
        assert_eq!(
            (within(109.0), within(120.0)),
            (Some(Verdict::Met), Some(Verdict::NotMet))
        );
        let around = |by: f64| of(json!({ "around": { "by": by, "of": 90.0 } }));
        assert_eq!(
            (around(10.0), around(9.0)),
            (Some(Verdict::Met), Some(Verdict::NotMet))
        );
        assert_eq!(of(json!({ "near": 1.0 })), None);
        assert_eq!(
            verdict(json!({ "at-least": 0.0 }), &[]),
            Some(Verdict::Inconclusive)
        );
    }

    #[test]
    fn an_interval_on_both_sides_is_inconclusive() {
        let noisy = [95.0, 99.0, 101.0, 103.0, 110.0];
        let of = |bound| verdict(bound, &noisy).unwrap();
        assert_eq!(of(json!({ "at-least": 100.0 })), Verdict::Inconclusive);
        assert_eq!(of(json!({ "at-least": 90.0 })), Verdict::Met);
        assert_eq!(of(json!({ "at-least": 120.0 })), Verdict::NotMet);
        assert_eq!(
            of(json!({ "between": { "low": 90.0, "high": 100.0 } })),
            Verdict::Inconclusive
        );
        // Two runs have no interval, but they can disagree.
        assert_eq!(
            verdict(json!({ "at-most": 5.0 }), &[4.0, 6.0]),
            Some(Verdict::Inconclusive)
        );
        assert_eq!(
            verdict(json!({ "at-most": 5.0 }), &[6.0, 7.0]),
            Some(Verdict::NotMet)
        );
    }

    #[test]
    fn exact_counts_are_so_in_every_run_and_wrong_bytes_are_added_up() {
        assert_eq!(
            verdict(json!({ "equals": 3 }), &[3.0, 3.0, 4.0]),
            Some(Verdict::NotMet)
        );
        assert_eq!(
            verdict(json!({ "equals": 3 }), &[3.0; 4]),
            Some(Verdict::Met)
        );
        let mut wrong = expect(json!({ "equals": 0 }));
        wrong.metric = "integrity.mismatches".into();
        let measured = Measured {
            runs: vec![(1, 0.0), (2, 0.0)],
            cell: Some(1.0),
        };
        assert_eq!(
            judge(&wrong, &measured, None).unwrap().verdict,
            Verdict::NotMet
        );
    }

    #[test]
    fn ratios_are_of_the_same_repeats() {
        let mut expectation = expect(json!({ "at-most": 0.5 }));
        expectation.ratio_to = Some("none".into());
        // The host drifts from repeat to repeat, and the ratio does not.
        let base = measured(&[10.0, 20.0, 30.0, 40.0]);
        let half = measured(&[4.0, 8.0, 12.0, 16.0]);
        let outcome = judge(&expectation, &half, Some(&base)).unwrap();
        assert_eq!(outcome.verdict, Verdict::Met);
        assert!((outcome.value.unwrap() - 0.4).abs() < 1e-12);
        let none = judge(&expectation, &half, None).unwrap();
        assert_eq!((none.verdict, none.value), (Verdict::Inconclusive, None));
        let nothing = measured(&[0.0; 4]);
        let outcome = judge(&expectation, &half, Some(&nothing)).unwrap();
        assert_eq!(outcome.verdict, Verdict::Inconclusive);
    }

    #[test]
    fn the_ends_have_no_interval() {
        let mut expectation = expect(json!({ "at-most": 5.0 }));
        expectation.statistic = "most".into();
        let outcome = judge(&expectation, &measured(&[1.0, 2.0, 9.0]), None).unwrap();
        assert_eq!((outcome.value, outcome.interval), (Some(9.0), None));
        assert_eq!(outcome.verdict, Verdict::NotMet);
        expectation.statistic = "mean".into();
        let outcome = judge(&expectation, &measured(&[1.0, 2.0, 9.0]), None).unwrap();
        assert_eq!(
            (outcome.value, outcome.verdict),
            (Some(4.0), Verdict::Inconclusive)
        );
    }

    #[test]
    fn a_mechanism_set_names_all_its_points() {
        assert!(names("all", "all") && names("all", "all-4") && names("all-4", "all-4"));
        assert!(!names("all", "allx") && !names("all-4", "all"));
        let cell = |id: &str, count: u32| Cell {
            id: id.into(),
            point: [("guests.a.count".to_owned(), json!(count))].into(),
            ..Cell::default()
        };
        let cells = [cell("none-1", 1), cell("none-2", 2), cell("all-2", 2)];
        let found = counterpart("none", &cells[2], &cells).unwrap();
        assert_eq!(found.id, "none-2");
        assert_eq!(
            counterpart("none-1", &cells[2], &cells).unwrap().id,
            "none-1"
        );
    }
}
