//! Ratios of the runs of the same repeats.
//!
//! They have a median and ends. They have no mean: a mean of ratios depends on which side is called
//! the baseline ("A is 25 % faster" and "B is 25 % faster" can both be made of the same runs), so
//! there is none to be had here, and nothing else may divide a run by its baseline
//! (`report/tests/honesty.rs`).

use super::{Interval, Pair, interval, median};

/// The ratios of pairs, value to baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratios(Vec<f64>);

impl Ratios {
    /// `None` for no pairs, and where a baseline is 0.
    #[must_use]
    pub fn of(pairs: &[Pair]) -> Option<Self> {
        let ratios = pairs.iter().map(|pair| pair.value / pair.base);
        let ratios: Vec<f64> = ratios.collect();
        let sound = !ratios.is_empty() && ratios.iter().all(|ratio| ratio.is_finite());
        sound.then_some(Self(ratios))
    }

    /// Their median.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(&self.0)
    }

    /// The 95 % bootstrap interval of the median; `None` for fewer than three.
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        interval(&self.0, median)
    }

    /// Each of them, in the order of the repeats, for what is asked of every single one.
    #[must_use]
    pub fn each(&self) -> &[f64] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(f64, f64)]) -> Vec<Pair> {
        let pair = |(run, &(base, value))| Pair { run, base, value };
        (1..).zip(of).map(pair).collect()
    }

    #[test]
    fn the_middle_is_the_same_whichever_side_is_the_baseline() {
        let there = Ratios::of(&pairs(&[(1.0, 2.0), (4.0, 2.0), (1.0, 1.0)])).unwrap();
        let back = Ratios::of(&pairs(&[(2.0, 1.0), (2.0, 4.0), (1.0, 1.0)])).unwrap();
        assert!((there.median() * back.median() - 1.0).abs() < 1e-12);
        assert!(
            there
                .interval()
                .is_some_and(|interval| interval.covers(1.0))
        );
    }

    #[test]
    fn nothing_is_no_baseline() {
        assert_eq!(Ratios::of(&[]), None);
        assert_eq!(Ratios::of(&pairs(&[(1.0, 2.0), (0.0, 2.0)])), None);
        assert_eq!(Ratios::of(&pairs(&[(1.0, 2.0)])).unwrap().interval(), None);
    }
}
