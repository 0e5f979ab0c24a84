//! Whether a figure is known well enough for repeats to end.

use mirrorball_report::metrics;

use crate::output::summary::{Figures, Stopped};
use crate::spec::Precision;

/// Level of the interval.
const LEVEL: f64 = 0.95;

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
#[allow(clippy::cast_precision_loss, reason = "a few runs")]
fn relative_half_width(values: &[f64]) -> Option<f64> {
    if values.len() < 3 {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2));
    let deviation = (squares.sum::<f64>() / (count - 1.0)).sqrt();
    if deviation == 0.0 {
        return Some(0.0);
    }
    let freedom = u32::try_from(values.len() - 1).ok()?;
    let half = student(LEVEL, freedom) * deviation / count.sqrt();
    (mean != 0.0).then(|| half / mean.abs())
}

/// The value that Student's t stays below in size with that probability, by bisection.
fn student(level: f64, freedom: u32) -> f64 {
    let (mut low, mut high) = (0.0, 1e3);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if inside(middle, freedom) < level {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The probability that Student's t is no larger in size than this: the finite sums of Abramowitz
/// and Stegun, 26.7.3 and 26.7.4.
fn inside(t: f64, freedom: u32) -> f64 {
    let angle = (t / f64::from(freedom).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let mut term = if odd { cosine } else { 1.0 };
    let (mut sum, mut next) = (0.0, if odd { 3 } else { 2 });
    while next <= freedom {
        sum += term;
        term *= cosine * cosine * f64::from(next - 1) / f64::from(next);
        next += 2;
    }
    match (odd, freedom) {
        (true, 1) => angle * std::f64::consts::FRAC_2_PI,
        (true, _) => (angle + sine * sum) * std::f64::consts::FRAC_2_PI,
        (false, _) => sine * sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_t_is_that_of_the_tables() {
        // 97.5 % points, as every table of statistics has them.
        for (freedom, point) in [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (9, 2.262),
            (29, 2.045),
        ] {
            let found = student(0.95, freedom);
            assert!((found - point).abs() < 5e-4, "{freedom}: {found}");
        }
    }

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
