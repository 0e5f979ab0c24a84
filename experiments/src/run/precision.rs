//! Whether a figure is known well enough for repeats to end.

use mirrorball_report::metrics;
use mirrorball_report::stats::mean_interval;

use crate::output::summary::{Figures, Stopped};
use crate::spec::Precision;

/// What is known of a cell's figure from its runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// Half the width of the interval of the mean, as a part of the mean; `None` for fewer than
    /// three runs, or a mean of 0 that was not always 0.
    pub half_width: Option<f64>,
    /// Why no more runs are needed, if none are.
    pub stopped: Option<Reason>,
}

/// Why repeats ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The figure is known well enough.
    Precise,
    /// There were as many runs as there may be.
    MostRuns,
}

/// Looks at the runs of a cell that count; `made` of them were made, with those that failed.
pub fn known(precision: &Precision, figures: &[&Figures], made: u32) -> Known {
    let values = figures
        .iter()
        .filter_map(|figures| metrics::value(figures, &precision.metric));
    let half_width = relative_half_width(&values.collect::<Vec<_>>());
    let precise = half_width.is_some_and(|width| width <= precision.relative_half_width);
    let stopped = if precise && made >= precision.min {
        Some(Reason::Precise)
    } else if made >= precision.max {
        Some(Reason::MostRuns)
    } else {
        None
    };
    Known {
        half_width,
        stopped,
    }
}

impl Known {
    /// For the summary.
    pub fn told(&self, precision: &Precision) -> Option<Stopped> {
        let because = match self.stopped? {
            Reason::Precise => "precise",
            Reason::MostRuns => "max-runs",
        };
        Some(Stopped {
            because: because.to_owned(),
            metric: precision.metric.clone(),
            relative_half_width: self.half_width,
        })
    }
}

/// Half the width of the t interval of the mean, as a part of the mean.
fn relative_half_width(values: &[f64]) -> Option<f64> {
    let (mean, interval) = mean_interval(values)?;
    let half = interval.high - mean;
    if half == 0.0 {
        return Some(0.0);
    }
    (mean != 0.0).then(|| half / mean.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(seconds: f64) -> Figures {
        let mut figures = Figures::default();
        figures.workload.seconds = Some(seconds);
        figures
    }

    /// Runs of a source that gives 9, 11, 9, 11, ... until they end.
    fn ended(width: f64, max: u32) -> (u32, Reason) {
        let precision = Precision {
            min: 3,
            max,
            metric: "workload.seconds".to_owned(),
            relative_half_width: width,
        };
        let source = (1..).map(|run| figures(if run % 2 == 1 { 9.0 } else { 11.0 }));
        let mut runs = Vec::new();
        for run in source {
            runs.push(run);
            let made = u32::try_from(runs.len()).unwrap();
            let found = known(&precision, &runs.iter().collect::<Vec<_>>(), made);
            if let Some(reason) = found.stopped {
                return (made, reason);
            }
        }
        unreachable!("the source never ends")
    }

    #[test]
    fn a_source_of_known_spread_ends_at_the_predicted_run() {
        // The deviation of 2n such values is sqrt(2n / (2n - 1)): with 20 runs the half width is
        // 2.093 * 1.026 / sqrt(20) = 0.480, of a mean of 10; with 18 it is 0.512.
        assert_eq!(ended(0.049, 100), (20, Reason::Precise));
        assert_eq!(ended(0.001, 12), (12, Reason::MostRuns));
        assert_eq!(ended(0.5, 12), (3, Reason::Precise), "not before three");
    }

    #[test]
    fn equal_values_are_known_and_none_are_not() {
        let precision = Precision {
            min: 3,
            max: 9,
            metric: "workload.seconds".to_owned(),
            relative_half_width: 0.01,
        };
        let zero = figures(0.0);
        let found = known(&precision, &[&zero, &zero, &zero], 3);
        assert_eq!(
            (found.half_width, found.stopped),
            (Some(0.0), Some(Reason::Precise))
        );
        let none = Figures::default();
        let found = known(&precision, &[&none, &none, &none], 3);
        assert_eq!((found.half_width, found.stopped), (None, None));
    }
}
