//! Runs that stand apart. They are named and kept: a figure is never made better by leaving out.

use super::{quantile, sorted};

/// Fewer runs than this can't say which of them stands apart.
const LEAST: usize = 4;

/// Distance from the middle half, in its own heights (Tukey's outer fence).
const FENCE: f64 = 3.0;

/// A run closer to the median than this part of it is nobody's concern.
const MATTERS: f64 = 0.1;

/// A run that stands apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// Number of the run.
    pub run: u32,
    /// Its value.
    pub value: f64,
    /// Its value to the median of all.
    pub ratio: f64,
}

/// The runs whose value lies far outside the middle half of all, and matters.
#[must_use]
pub fn outliers(values: &[(u32, f64)]) -> Vec<Outlier> {
    let all = sorted(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>());
    if all.len() < LEAST || all.iter().any(|value| !value.is_finite()) {
        return Vec::new();
    }
    let (low, middle, high) = (
        quantile(&all, 0.25),
        quantile(&all, 0.5),
        quantile(&all, 0.75),
    );
    let reach = ((high - low) * FENCE).max(middle.abs() * MATTERS);
    let apart = |value: f64| value < low - reach || value > high + reach;
    let found = values.iter().filter(|(_, value)| apart(*value));
    found
        .map(|(run, value)| Outlier {
            run: *run,
            value: *value,
            ratio: value / middle,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_three_times_is_named() {
        let values = [(1, 10.0), (2, 10.1), (3, 30.0), (4, 9.9), (5, 10.2)];
        let found = outliers(&values);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].run, 3);
        assert!((found[0].ratio - 30.0 / 10.1).abs() < 1e-12);
    }

    #[test]
    fn what_does_not_matter_is_not_shown() {
        // Far outside a very narrow middle half, but only by 0.1 %.
        let values = [
            (1, 1000.0),
            (2, 1000.0),
            (3, 1001.0),
            (4, 1000.0),
            (5, 1000.0),
        ];
        assert!(outliers(&values).is_empty());
        assert!(outliers(&[(1, 1.0), (2, 1.0), (3, 9.0)]).is_empty());
        // One of 5000 that is 0.1 % off.
        let many = (1..=5000_u32).map(|run| (run, if run == 77 { 1001.0 } else { 1000.0 }));
        assert!(outliers(&many.collect::<Vec<_>>()).is_empty());
    }
}
