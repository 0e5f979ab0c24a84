//! Statistics over runs.
//!
//! The run is the unit: samples inside one run depend on each other and are never pooled. The
//! middle is the median, the spread the middle half, the interval a bootstrap of the median with a
//! fixed seed, so that the same results give the same report. Fewer than [`LEAST_RUNS`] runs give
//! no interval; one run gives a value and nothing else.

mod bootstrap;
mod change;
mod order;
mod outliers;
mod random;
mod ratios;
mod student;

pub use bootstrap::{interval, interval_of_two};
pub use change::{Change, Finding, between, within};
pub use order::{Pattern, pattern};
pub use outliers::{Outlier, outliers};
pub use ratios::Ratios;

use serde::Serialize;

/// Fewer values than this give no interval: a bootstrap of two values only ever shows those two.
pub const LEAST_RUNS: usize = 3;

/// Level of all intervals.
pub const LEVEL: f64 = 0.95;

/// A range of values, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether a value lies in it.
    #[must_use]
    pub fn covers(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// What is known of one figure from its runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Number of runs.
    pub runs: usize,
    /// Their median.
    pub median: f64,
    /// The middle half of the values; `None` for fewer than [`LEAST_RUNS`].
    pub middle_half: Option<Interval>,
    /// 95 % bootstrap interval of the median; `None` for fewer than [`LEAST_RUNS`].
    pub interval: Option<Interval>,
    /// Smallest and largest value.
    pub range: Interval,
    /// Their mean; `None` for fewer than [`LEAST_RUNS`].
    pub mean: Option<f64>,
    /// 95 % interval of the mean by Student's t, which supposes values spread as a bell.
    pub mean_interval: Option<Interval>,
    /// Median of the distances from the median; `None` for fewer than [`LEAST_RUNS`].
    pub deviation: Option<f64>,
}

/// Summarises the values of several runs; `None` for no values, or for values that are no numbers.
#[must_use]
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let sorted = sorted(values);
    let enough = sorted.len() >= LEAST_RUNS;
    let middle = quantile(&sorted, 0.5);
    let distances: Vec<f64> = sorted.iter().map(|value| (value - middle).abs()).collect();
    let mean = mean_interval(&sorted);
    Some(Estimate {
        runs: sorted.len(),
        median: middle,
        middle_half: enough.then(|| Interval {
            low: quantile(&sorted, 0.25),
            high: quantile(&sorted, 0.75),
        }),
        interval: interval(values, median),
        range: Interval {
            low: sorted[0],
            high: sorted[sorted.len() - 1],
        },
        mean: mean.map(|(mean, _)| mean),
        mean_interval: mean.map(|(_, interval)| interval),
        deviation: enough.then(|| median(&distances)),
    })
}

/// The mean and its 95 % interval by Student's t; `None` for fewer than [`LEAST_RUNS`] values, or for
/// values that are no numbers.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "a number of runs")]
pub fn mean_interval(values: &[f64]) -> Option<(f64, Interval)> {
    let finite = values.iter().all(|value| value.is_finite());
    if values.len() < LEAST_RUNS || !finite {
        return None;
    }
    let degrees = u32::try_from(values.len() - 1).ok()?;
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (squares / f64::from(degrees) / count).sqrt();
    let reach = student::within(LEVEL, degrees) * error;
    let interval = Interval {
        low: mean - reach,
        high: mean + reach,
    };
    Some((mean, interval))
}

/// The median; NaN for no values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// A quantile of sorted values, between two of them by straight line (Hyndman and Fan's type 7, as
/// R and NumPy do); NaN for no values.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a position among a few values"
)]
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = part.clamp(0.0, 1.0) * last as f64;
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let (low, high) = (sorted[below], sorted[above]);
    low + (high - low) * (position - below as f64)
}

/// A value of a run with that of the baseline in the same repeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Number of the repeat.
    pub run: u32,
    /// The baseline's value.
    pub base: f64,
    /// The value.
    pub value: f64,
}

/// The values of the repeats that both have; each value comes with the number of its run.
#[must_use]
pub fn pairs_of(base: &[(u32, f64)], values: &[(u32, f64)]) -> Vec<Pair> {
    let pair = |(run, value): &(u32, f64)| {
        let (_, base) = base.iter().find(|(other, _)| other == run)?;
        Some(Pair {
            run: *run,
            base: *base,
            value: *value,
        })
    };
    values.iter().filter_map(pair).collect()
}

/// How values stand to those of the baseline in the same repeats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// Pairs.
    pub runs: usize,
    /// Median of the differences, value less baseline.
    pub difference: f64,
    /// Its 95 % interval; `None` for fewer than [`LEAST_RUNS`] pairs.
    pub difference_interval: Option<Interval>,
    /// Median of the ratios, value to baseline; `None` where a baseline is 0.
    pub ratio: Option<f64>,
    /// Its 95 % interval.
    pub ratio_interval: Option<Interval>,
}

/// Compares pairs: whatever disturbed a repeat disturbed both of its values.
#[must_use]
pub fn paired(pairs: &[Pair]) -> Option<Paired> {
    let differences: Vec<f64> = pairs.iter().map(|pair| pair.value - pair.base).collect();
    let difference = estimate(&differences)?;
    let ratios = Ratios::of(pairs);
    Some(Paired {
        runs: pairs.len(),
        difference: difference.median,
        difference_interval: difference.interval,
        ratio: ratios.as_ref().map(Ratios::median),
        ratio_interval: ratios.as_ref().and_then(Ratios::interval),
    })
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        // R: quantile(c(1, 2, 4, 8, 16)) is 1 2 4 8 16; of c(1, 2, 3, 10) it is 1 1.75 2.5 4.75 10.
        let five = estimate(&[16.0, 1.0, 4.0, 8.0, 2.0]).unwrap();
        assert_eq!((five.median, five.runs), (4.0, 5));
        assert_eq!(
            five.middle_half.unwrap(),
            Interval {
                low: 2.0,
                high: 8.0
            }
        );
        let four = estimate(&[3.0, 10.0, 1.0, 2.0]).unwrap();
        assert_eq!(four.median, 2.5);
        assert_eq!(
            four.middle_half.unwrap(),
            Interval {
                low: 1.75,
                high: 4.75
            }
        );
    }

    #[test]
    fn means_and_their_intervals_are_those_of_another_program() {
        // Python's `statistics` (exact fractions) with the quantile of a t that was integrated there.
        let known: [(&[f64], [f64; 4]); 2] = [
            (
                &[12.1, 11.8, 12.6, 11.9, 13.0],
                [12.28, 11.650_536_357_285_12, 12.909_463_642_714_88, 0.3],
            ),
            (
                &[
                    276.14, 275.98, 276.31, 276.02, 276.77, 275.89, 276.20, 279.95, 276.11, 276.05,
                ],
                [276.542, 275.667_788_201_017_2, 277.416_211_798_982_8, 0.125],
            ),
        ];
        for (values, known) in known {
            let found = estimate(values).unwrap();
            let interval = found.mean_interval.unwrap();
            let found = [
                found.mean.unwrap(),
                interval.low,
                interval.high,
                found.deviation.unwrap(),
            ];
            for (found, known) in found.iter().zip(known) {
                assert!((found - known).abs() < 1e-9, "{found} is not {known}");
            }
        }
    }

    #[test]
    fn one_or_two_runs_have_no_interval() {
        for values in [&[7.0][..], &[7.0, 9.0]] {
            let few = estimate(values).unwrap();
            assert_eq!((few.interval, few.middle_half), (None, None));
            assert_eq!((few.mean, few.mean_interval), (None, None));
            assert_eq!(few.deviation, None);
            assert_eq!(few.range.low, 7.0);
        }
        assert_eq!(estimate(&[]), None);
        assert_eq!(estimate(&[1.0, f64::NAN, 2.0]), None);
    }

    #[test]
    fn pairs_see_what_a_drift_hides() {
        // The host becomes slower from repeat to repeat; the value is always a tenth above its pair.
        let pairs: Vec<Pair> = (1..=5_u32)
            .map(|run| Pair {
                run,
                base: f64::from(run) * 10.0,
                value: f64::from(run) * 11.0,
            })
            .collect();
        let paired = paired(&pairs).unwrap();
        let ratio = paired.ratio_interval.unwrap();
        assert!((ratio.low - 1.1).abs() < 1e-12 && (ratio.high - 1.1).abs() < 1e-12);
        assert!((paired.difference - 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_ratio_to_nothing_is_none() {
        let pairs = [1, 2, 3].map(|run| Pair {
            run,
            base: 0.0,
            value: 1.0,
        });
        let paired = paired(&pairs).unwrap();
        assert_eq!((paired.ratio, paired.ratio_interval), (None, None));
        assert_eq!(paired.difference, 1.0);
    }

    proptest! {
        #[test]
        fn the_parts_of_an_estimate_are_in_order(values in prop::collection::vec(-1e9..1e9_f64, 3..12)) {
            let found = estimate(&values).unwrap();
            let (half, interval) = (found.middle_half.unwrap(), found.interval.unwrap());
            prop_assert!(found.range.low <= half.low && half.low <= found.median);
            prop_assert!(found.median <= half.high && half.high <= found.range.high);
            prop_assert!(found.range.low <= interval.low && interval.high <= found.range.high);
            prop_assert!(interval.covers(found.median));
        }

        #[test]
        fn order_does_not_matter(mut values in prop::collection::vec(-1e9..1e9_f64, 1..12)) {
            let before = estimate(&values);
            values.reverse();
            prop_assert_eq!(before, estimate(&values));
        }
    }
}
