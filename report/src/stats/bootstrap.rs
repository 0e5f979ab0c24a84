//! Percentile bootstrap of a median, or of any other statistic.

use super::random::SplitMix;
use super::{Interval, LEAST_RUNS, LEVEL, quantile, sorted};

/// Resamples; the ends of a 95 % interval then move by less than its width shows.
const RESAMPLES: usize = 2000;

/// The same for every figure: equal values make equal intervals.
const SEED: u64 = 0x6d69_7272_6f72_6261;

/// The 95 % bootstrap interval of a statistic of these values; `None` for fewer than
/// [`LEAST_RUNS`] of them, or for values that are no numbers.
///
/// It always holds the statistic of the values themselves and never leaves their range.
#[must_use]
pub fn interval(values: &[f64], statistic: impl Fn(&[f64]) -> f64) -> Option<Interval> {
    if values.len() < LEAST_RUNS || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    // Sorted: the order in which runs were read must not matter.
    let values = sorted(values);
    let mut random = SplitMix(SEED);
    let mut sample = values.clone();
    let mut found = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for place in &mut sample {
            *place = values[random.below(values.len())];
        }
        found.push(statistic(&sample));
    }
    let found = sorted(&found);
    let tail = (1.0 - LEVEL) / 2.0;
    let middle = statistic(&values);
    Some(Interval {
        low: quantile(&found, tail).min(middle),
        high: quantile(&found, 1.0 - tail).max(middle),
    })
}

/// The 95 % bootstrap interval of a statistic of two groups that are resampled apart: for runs that
/// have no pairs.
#[must_use]
pub fn interval_of_two(
    first: &[f64],
    second: &[f64],
    statistic: impl Fn(&[f64], &[f64]) -> f64,
) -> Option<Interval> {
    let few = first.len().min(second.len()) < LEAST_RUNS;
    if few || first.iter().chain(second).any(|value| !value.is_finite()) {
        return None;
    }
    let (first, second) = (sorted(first), sorted(second));
    let mut random = SplitMix(SEED);
    let mut draw = |values: &[f64]| -> Vec<f64> {
        let drawn = values.iter().map(|_| values[random.below(values.len())]);
        drawn.collect()
    };
    let found: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let one = draw(&first);
            statistic(&one, &draw(&second))
        })
        .collect();
    if found.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let (found, middle) = (sorted(&found), statistic(&first, &second));
    let tail = (1.0 - LEVEL) / 2.0;
    Some(Interval {
        low: quantile(&found, tail).min(middle),
        high: quantile(&found, 1.0 - tail).max(middle),
    })
}

#[cfg(test)]
mod tests {
    use super::super::median;
    use super::*;

    #[test]
    fn a_known_interval() {
        // The exact bootstrap of the median of five: P(median <= smallest) = P(at least three of
        // five draws are the smallest) = 5.8 % > 2.5 %, so the interval is the whole range.
        let found = interval(&[1.0, 2.0, 3.0, 4.0, 5.0], median).unwrap();
        assert_eq!(
            found,
            Interval {
                low: 1.0,
                high: 5.0
            }
        );
        // Of nine, P(median <= smallest) = 0.1 % and P(median <= second) = 3.0 %.
        let nine: Vec<f64> = (1..=9).map(f64::from).collect();
        let found = interval(&nine, median).unwrap();
        assert_eq!(
            found,
            Interval {
                low: 2.0,
                high: 8.0
            }
        );
    }

    #[test]
    fn intervals_are_those_of_another_program() {
        // The same resampling written again in Python (2000 resamples, SplitMix64, quantiles of
        // type 7), which shares no code with this.
        let known: [(&[f64], f64, f64); 2] = [
            (&[12.1, 11.8, 12.6, 11.9, 13.0], 11.8, 13.0),
            (
                &[
                    276.14, 275.98, 276.31, 276.02, 276.77, 275.89, 276.20, 279.95, 276.11, 276.05,
                ],
                276.015,
                276.485,
            ),
        ];
        for (values, low, high) in known {
            let found = interval(values, median).unwrap();
            assert!((found.low - low).abs() < 1e-9, "{found:?}");
            assert!((found.high - high).abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn equal_values_have_no_width() {
        let found = interval(&[4.0; 5], median).unwrap();
        assert_eq!(
            found,
            Interval {
                low: 4.0,
                high: 4.0
            }
        );
    }

    #[test]
    fn the_interval_covers_the_truth_about_as_often_as_it_says() {
        // Medians of 9 uniform values around 0.5; the percentile bootstrap is close to its level.
        let mut random = SplitMix(99);
        let mut covered = 0;
        for _ in 0..200 {
            let values: Vec<f64> = (0..9).map(|_| random.unit()).collect();
            covered += u32::from(interval(&values, median).unwrap().covers(0.5));
        }
        assert!((180..=200).contains(&covered), "{covered} of 200");
    }
}
