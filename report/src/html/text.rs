//! Values as the page shows them.

use crate::metrics::Unit;
use crate::stats::{Estimate, Paired};
use crate::summary::Verdict;

/// What was not measured.
pub(super) const NOT_MEASURED: &str = "n/a";

/// A value with what is known of its spread, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// The median.
    pub middle: String,
    /// Its interval; what there is instead, for few runs; empty where nothing can be said.
    pub range: String,
}

impl Value {
    /// An estimate in a unit. Fewer than three runs are said, never dressed up as an interval.
    #[must_use]
    pub fn new(estimate: Option<&Estimate>, unit: Unit) -> Self {
        let Some(estimate) = estimate else {
            return Self::none();
        };
        let (low, high) = match (estimate.interval, estimate.range) {
            (Some(interval), _) => (unit.text(interval.low), unit.text(interval.high)),
            (None, range) => (unit.text(range.low), unit.text(range.high)),
        };
        let range = match (estimate.interval, estimate.runs) {
            (Some(_), _) if low == high => "alike".to_owned(),
            (Some(_), _) => format!("[{low}, {high}]"),
            (None, 1) => "n/a (1 run)".to_owned(),
            (None, runs) => format!("n/a ({runs} runs: {low} to {high})"),
        };
        Self {
            middle: unit.text(estimate.median),
            range,
        }
    }

    /// A paired difference in a unit, with its sign.
    #[must_use]
    pub fn difference(paired: Option<&Paired>, unit: Unit) -> Self {
        let Some(paired) = paired else {
            return Self::none();
        };
        let signed = |value: f64| {
            let sign = if value > 0.0 { "+" } else { "" };
            format!("{sign}{}", unit.text(value))
        };
        Self {
            middle: signed(paired.difference),
            range: match paired.difference_interval {
                Some(interval) => {
                    format!("[{}, {}]", signed(interval.low), signed(interval.high))
                }
                None => repeats(paired.runs),
            },
        }
    }

    /// A paired ratio.
    #[must_use]
    pub fn ratio(paired: Option<&Paired>) -> Self {
        let Some((paired, ratio)) = paired.and_then(|paired| Some((paired, paired.ratio?))) else {
            return Self::none();
        };
        Self {
            middle: format!("{ratio:.3}"),
            range: match paired.ratio_interval {
                Some(interval) => format!("[{:.3}, {:.3}]", interval.low, interval.high),
                None => repeats(paired.runs),
            },
        }
    }

    /// Nothing was measured.
    #[must_use]
    pub fn none() -> Self {
        Self {
            middle: NOT_MEASURED.to_owned(),
            range: String::new(),
        }
    }
}

/// Too few repeats for an interval.
fn repeats(count: usize) -> String {
    match count {
        1 => "n/a (1 repeat)".to_owned(),
        count => format!("n/a ({count} repeats)"),
    }
}

/// A verdict: its word and the class of its style.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) word: &'static str,
    pub(super) class: &'static str,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        let class = match verdict {
            Verdict::Met => "met",
            Verdict::NotMet => "not-met",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Failed => "failed",
            Verdict::NotSupported => "not-supported",
        };
        Self {
            word: verdict.word(),
            class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::estimate;

    #[test]
    fn few_runs_are_said() {
        let value = |values: &[f64]| Value::new(estimate(values).as_ref(), Unit::Seconds).range;
        assert_eq!(value(&[1.0]), "n/a (1 run)");
        assert_eq!(value(&[1.0, 2.0]), "n/a (2 runs: 1.00 to 2.00)");
        assert_eq!(value(&[1.0, 2.0, 3.0]), "[1.00, 3.00]");
        assert_eq!(value(&[2.0; 4]), "alike");
        assert_eq!(Value::new(None, Unit::Seconds).middle, "n/a");
    }
}
