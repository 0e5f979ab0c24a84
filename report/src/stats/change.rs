//! Whether a figure changed, said plainly.

use serde::Serialize;

use super::{Interval, LEAST_RUNS, Pair, estimate, interval_of_two, median, paired};

/// From so many runs on, the interval of a median can reach its level: the chance that all of n
/// values lie on one side of the true median is `2 / 2^n`, which is below 5 % from six on.
const ENOUGH_RUNS: usize = 6;

/// With fewer runs a change is one only if the groups lie so far apart, in their own widths.
const APART: f64 = 3.0;

/// What can be said of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Every run has the same value.
    Same,
    /// The interval of the difference holds 0.
    NoChange,
    /// It changed, beyond what runs differ by.
    Changed,
    /// The interval does not hold 0, but there are too few runs to be sure.
    Perhaps,
    /// There are too few runs to say anything.
    TooFew,
}

/// How a figure changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Median before.
    pub before: f64,
    /// Median after.
    pub after: f64,
    /// Runs before, and after; pairs where there are pairs.
    pub runs: (usize, usize),
    /// After less before.
    pub difference: f64,
    /// Its 95 % interval.
    pub difference_interval: Option<Interval>,
    /// After to before; `None` where before is 0.
    pub ratio: Option<f64>,
    /// Its 95 % interval.
    pub ratio_interval: Option<Interval>,
    /// What it means.
    pub finding: Finding,
}

/// The change between runs of one session, repeat by repeat.
#[must_use]
pub fn within(pairs: &[Pair]) -> Option<Change> {
    let before: Vec<f64> = pairs.iter().map(|pair| pair.base).collect();
    let after: Vec<f64> = pairs.iter().map(|pair| pair.value).collect();
    let paired = paired(pairs)?;
    Some(Change {
        before: median(&before),
        after: median(&after),
        runs: (pairs.len(), pairs.len()),
        difference: paired.difference,
        difference_interval: paired.difference_interval,
        ratio: paired.ratio,
        ratio_interval: paired.ratio_interval,
        finding: finding(&before, &after, paired.difference_interval),
    })
}

/// The change between runs of two sessions, which have no pairs.
#[must_use]
pub fn between(before: &[f64], after: &[f64]) -> Option<Change> {
    let (old, new) = (estimate(before)?, estimate(after)?);
    let interval = interval_of_two(before, after, |a, b| median(b) - median(a));
    let ratio = new.median / old.median;
    Some(Change {
        before: old.median,
        after: new.median,
        runs: (old.runs, new.runs),
        difference: new.median - old.median,
        difference_interval: interval,
        ratio: ratio.is_finite().then_some(ratio),
        ratio_interval: interval_of_two(before, after, |a, b| median(b) / median(a)),
        finding: finding(before, after, interval),
    })
}

fn finding(before: &[f64], after: &[f64], interval: Option<Interval>) -> Finding {
    let runs = before.len().min(after.len());
    let Some(interval) = interval.filter(|_| runs >= LEAST_RUNS) else {
        return Finding::TooFew;
    };
    let (Some(old), Some(new)) = (estimate(before), estimate(after)) else {
        return Finding::TooFew;
    };
    let width = (old.range.high - old.range.low) + (new.range.high - new.range.low);
    let gap = (new.range.low - old.range.high).max(old.range.low - new.range.high);
    if width == 0.0 && old.median.total_cmp(&new.median).is_eq() {
        Finding::Same
    } else if interval.covers(0.0) {
        Finding::NoChange
    } else if runs >= ENOUGH_RUNS || gap > APART * width {
        Finding::Changed
    } else {
        Finding::Perhaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(before: &[f64], after: &[f64]) -> Finding {
        between(before, after).unwrap().finding
    }

    #[test]
    fn noise_is_no_change_and_a_change_is_one() {
        let noisy = [10.0, 11.0, 9.0, 10.5, 9.5, 10.2, 9.8];
        let same = [10.1, 9.1, 10.9, 9.6, 10.4, 9.9, 10.0];
        let slower: Vec<f64> = noisy.iter().map(|value| value * 1.5).collect();
        assert_eq!(found(&noisy, &same), Finding::NoChange);
        assert_eq!(found(&noisy, &slower), Finding::Changed);
        assert_eq!(found(&[4.0; 3], &[4.0; 3]), Finding::Same);
    }

    #[test]
    fn few_runs_are_sure_only_of_what_is_far_apart() {
        assert_eq!(found(&[1.0, 2.0], &[8.0, 9.0]), Finding::TooFew);
        assert_eq!(found(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), Finding::Perhaps);
        assert_eq!(
            found(&[1.0, 2.0, 3.0], &[80.0, 81.0, 82.0]),
            Finding::Changed
        );
    }

    #[test]
    fn pairs_tell_what_groups_hide() {
        // A drift of the host is larger than the change.
        let pairs: Vec<Pair> = (1..=6_u32)
            .map(|run| Pair {
                run,
                base: f64::from(run) * 10.0,
                value: f64::from(run) * 10.5,
            })
            .collect();
        let change = within(&pairs).unwrap();
        assert_eq!(change.finding, Finding::Changed);
        assert!((change.ratio.unwrap() - 1.05).abs() < 1e-12);
        let split = |value: fn(&Pair) -> f64| pairs.iter().map(value).collect::<Vec<_>>();
        let apart = found(&split(|pair| pair.base), &split(|pair| pair.value));
        assert_eq!(apart, Finding::NoChange);
    }

    #[test]
    fn groups_of_one_value_each_change_by_their_difference() {
        let change = between(&[10.0; 4], &[12.0; 4]).unwrap();
        assert_eq!(
            change.difference_interval.unwrap(),
            Interval {
                low: 2.0,
                high: 2.0
            }
        );
        assert_eq!(change.finding, Finding::Changed);
    }
}
