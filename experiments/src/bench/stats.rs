//! Median and spread of repeated measurements.

use serde::Serialize;

/// Median and spread.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Median of the distances from the median.
    pub mad: f64,
    /// Least.
    pub min: f64,
    /// Greatest.
    pub max: f64,
    /// All values, in the order in which they were measured.
    pub values: Vec<f64>,
}

impl Spread {
    /// Of these values; `None` without any.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let middle = median(values)?;
        let distances = values.iter().map(|value| (value - middle).abs()).collect::<Vec<_>>();
        Some(Self {
            median: middle,
            mad: median(&distances)?,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            values: values.to_vec(),
        })
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_odd_and_even_counts() {
        let odd = Spread::of(&[5.0, 1.0, 3.0]).unwrap();
        assert_eq!((odd.median, odd.mad, odd.min, odd.max), (3.0, 2.0, 1.0, 5.0));
        assert_eq!(odd.values, [5.0, 1.0, 3.0]);
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(&[]), None);
    }
}
