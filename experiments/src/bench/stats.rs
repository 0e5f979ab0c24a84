//! Median and spread of repeated measurements.

use serde::Serialize;

/// Median and spread.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Median of the distances from the median.
    pub mad: f64,
    /// Start of the middle half: the value below which a quarter lies.
    pub low: f64,
    /// End of the middle half: the value above which a quarter lies.
    pub high: f64,
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
        let distances = values
            .iter()
            .map(|value| (value - middle).abs())
            .collect::<Vec<_>>();
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quarter = sorted.len() / 4;
        Some(Self {
            median: middle,
            mad: median(&distances)?,
            low: *sorted.get(quarter)?,
            high: *sorted.get(sorted.len() - 1 - quarter)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
            values: values.to_vec(),
        })
    }
}

/// The middle of the values; `None` without any.
pub fn median(values: &[f64]) -> Option<f64> {
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
        assert_eq!(
            (odd.median, odd.mad, odd.min, odd.max),
            (3.0, 2.0, 1.0, 5.0)
        );
        assert_eq!(odd.values, [5.0, 1.0, 3.0]);
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_middle_half_leaves_a_quarter_on_each_side() {
        let spread = Spread::of(&[9.0, 1.0, 5.0, 3.0, 7.0]).unwrap();
        assert_eq!((spread.low, spread.high), (3.0, 7.0));
        let one = Spread::of(&[2.0]).unwrap();
        assert_eq!((one.low, one.high), (2.0, 2.0));
    }
}
