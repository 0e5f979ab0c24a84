//! Whether runs depend on when they were made: a host that warms up, is disturbed from some moment
//! on, or has two states.
//!
//! Drift and step are told by permutation: were the order of no account, another order of the same
//! values would look as striking now and then. Two modes are told by the gap between them: draws
//! from one even spread, the widest that has one mode, have such a gap now and then. "Now and then"
//! is at most once in a hundred.

use super::random::SplitMix;
use super::{median, quantile, sorted};

/// Of fewer runs no order is rare enough.
const LEAST: usize = 6;
/// Of fewer runs no gap is.
const LEAST_FOR_MODES: usize = 8;
/// Each mode holds so many runs at least; fewer are outliers.
const LEAST_IN_MODE: usize = 3;

/// Orders, or draws, that the runs are held against.
const DRAWS: u32 = 2000;
/// So many of them may look as striking.
const RARE: u32 = DRAWS / 100;
const SEED: u64 = 0x6f72_6465_725f_6f66;

/// What changes by less than this part of the median is nobody's concern.
const MATTERS: f64 = 0.02;

/// How runs depend on when they were made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// Each run differs from the one before in the same direction.
    Drift {
        /// The whole way from the first run to the last, as a part of the median.
        part: f64,
    },
    /// From a run on, all are on another level.
    Step {
        /// Runs before it.
        before: usize,
        /// The later level to the earlier one.
        ratio: f64,
    },
    /// There are two groups with nothing between them.
    TwoModes {
        /// The middle of the lower one.
        low: f64,
        /// The middle of the upper one.
        high: f64,
    },
}

/// The pattern in values that are in the order in which they were made; `None` if there is none that
/// matters, or for too few to tell.
#[must_use]
pub fn pattern(values: &[f64]) -> Option<Pattern> {
    let whole = values.iter().all(|value| value.is_finite());
    if values.len() < LEAST || !whole {
        return None;
    }
    let scale = median(values).abs();
    let matters = |change: f64| change.abs() > MATTERS * scale;
    let drift = drift(values).filter(|(_, way)| matters(*way));
    let step = step(values).filter(|(_, _, low, high)| matters(high - low));
    // A slope looks like a step in its middle, a step like a slope: the one that says more.
    let drift_says = drift.map_or(0.0, |(says, _)| says);
    if let Some((says, before, early, late)) = step
        && says > drift_says
    {
        let ratio = late / early;
        return Some(Pattern::Step { before, ratio });
    }
    if let Some((_, way)) = drift {
        return Some(Pattern::Drift { part: way / scale });
    }
    two_modes(values)
        .filter(|(low, high)| matters(high - low))
        .map(|(low, high)| Pattern::TwoModes { low, high })
}

/// Whether the order of these values is as striking as at most one order in a hundred.
fn order_is_rare(values: &[f64], striking: impl Fn(&[f64]) -> f64) -> bool {
    // Sums in another order differ in their last digit.
    let seen = striking(values) * (1.0 - 1e-12);
    let (mut random, mut others) = (SplitMix(SEED), sorted(values));
    let mut as_striking = 0;
    for _ in 0..DRAWS {
        random.shuffle(&mut others);
        as_striking += u32::from(striking(&others) >= seen);
        if as_striking >= RARE {
            return false;
        }
    }
    true
}

/// A slope, if there is one: the part of the spread that it explains, and the way from the first run
/// to the last.
fn drift(values: &[f64]) -> Option<(f64, f64)> {
    order_is_rare(values, |values| concordance(values).abs()).then(|| {
        let line = line(values);
        let way = line(count(values.len()) - 1.0) - line(0.0);
        let fitted = |place: usize| line(count(place));
        (explained(values, fitted), way)
    })
}

/// Pairs in rising order less pairs in falling order (Kendall's S).
fn concordance(values: &[f64]) -> f64 {
    let pairs = values.iter().enumerate();
    pairs
        .flat_map(|(place, early)| {
            let later = values[place + 1..].iter();
            later.map(move |late| (late - early).partial_cmp(&0.0))
        })
        .map(|order| order.map_or(0.0, |order| f64::from(order as i8)))
        .sum()
}

/// The line of least squares through values at 0, 1, 2, ...
fn line(values: &[f64]) -> impl Fn(f64) -> f64 {
    let middle = (count(values.len()) - 1.0) / 2.0;
    let mean = average(values);
    let places = (0..values.len()).map(|place| count(place) - middle);
    let (mut rise, mut run) = (0.0, 0.0);
    for (place, value) in places.zip(values) {
        rise += place * (value - mean);
        run += place * place;
    }
    move |place| mean + (place - middle) * rise / run
}

/// A step, if there is one: the part of the spread that it explains, the runs before it, and the
/// levels before and after.
fn step(values: &[f64]) -> Option<(f64, usize, f64, f64)> {
    order_is_rare(values, |values| steepest(values).1).then(|| {
        let (before, _) = steepest(values);
        let (early, late) = values.split_at(before);
        let (early, late) = (average(early), average(late));
        let fitted = |place: usize| if place < before { early } else { late };
        (explained(values, fitted), before, early, late)
    })
}

/// Where the levels before and after differ most, by the spread that the two explain; two runs are
/// on each side at least.
fn steepest(values: &[f64]) -> (usize, f64) {
    let all = average(values);
    let says = |before: usize| {
        let (early, late) = values.split_at(before);
        let part = |side: &[f64]| count(side.len()) * (average(side) - all).powi(2);
        (before, part(early) + part(late))
    };
    let places = (2..values.len().saturating_sub(1)).map(says);
    places.fold(
        (2, 0.0),
        |best, next| {
            if next.1 > best.1 { next } else { best }
        },
    )
}

/// The part of the spread that a curve explains.
fn explained(values: &[f64], curve: impl Fn(usize) -> f64) -> f64 {
    let mean = average(values);
    let all: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let left = values.iter().enumerate();
    let left: f64 = left
        .map(|(place, value)| (value - curve(place)).powi(2))
        .sum();
    1.0 - left / all
}

/// The middles of two groups, if there are two.
fn two_modes(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < LEAST_FOR_MODES {
        return None;
    }
    let values = sorted(values);
    let (below, gap) = widest(&values)?;
    let mut random = SplitMix(SEED);
    let mut as_wide = 0;
    for _ in 0..DRAWS {
        let drawn: Vec<f64> = values.iter().map(|_| random.unit()).collect();
        as_wide += u32::from(widest(&sorted(&drawn)).is_some_and(|(_, other)| other >= gap));
        if as_wide >= RARE {
            return None;
        }
    }
    let (low, high) = values.split_at(below);
    Some((quantile(low, 0.5), quantile(high, 0.5)))
}

/// The widest gap that leaves enough values on each side: the values below it, and its part of the
/// whole range.
fn widest(sorted: &[f64]) -> Option<(usize, f64)> {
    let range = sorted.last()? - sorted.first()?;
    let places = LEAST_IN_MODE..=sorted.len().checked_sub(LEAST_IN_MODE)?;
    let gaps = places.map(|below| (below, (sorted[below] - sorted[below - 1]) / range));
    gaps.filter(|(_, gap)| gap.is_finite())
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values.len())
}

#[allow(clippy::cast_precision_loss, reason = "a number of runs")]
fn count(runs: usize) -> f64 {
    runs as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise as a bell, a tenth of 1 wide.
    fn noise(random: &mut SplitMix) -> f64 {
        let sum: f64 = (0..12).map(|_| random.unit()).sum();
        (sum - 6.0) * 0.1
    }

    fn found(make: impl Fn(usize, f64) -> f64) -> Option<Pattern> {
        let mut random = SplitMix(7);
        let values: Vec<f64> = (0..12)
            .map(|place| make(place, noise(&mut random)))
            .collect();
        pattern(&values)
    }

    #[test]
    fn noise_is_flagged_as_rarely_as_promised() {
        for runs in [8, 12] {
            let flagged = (0..1000).filter(|seed| {
                let mut random = SplitMix(*seed);
                let values: Vec<f64> = (0..runs)
                    .map(|_| 10.0 + 10.0 * noise(&mut random))
                    .collect();
                pattern(&values).is_some()
            });
            let flagged = flagged.count();
            assert!(flagged <= 50, "{flagged} of 1000 with {runs} runs");
        }
    }

    #[test]
    fn a_trend_is_a_drift() {
        let seen = found(|place, noise| 10.0 + 0.2 * count(place) + noise);
        let Some(Pattern::Drift { part }) = seen else {
            panic!("{seen:?}");
        };
        assert!((part - 0.2).abs() < 0.04, "{part}");
    }

    #[test]
    fn a_change_of_level_is_a_step() {
        let seen = found(|place, noise| if place < 5 { 10.0 } else { 12.0 } + noise);
        let Some(Pattern::Step { before: 5, ratio }) = seen else {
            panic!("{seen:?}");
        };
        assert!((ratio - 1.2).abs() < 0.02, "{ratio}");
    }

    #[test]
    fn two_levels_in_turns_are_two_modes() {
        let seen = found(|place, noise| if place % 3 == 1 { 12.0 } else { 10.0 } + noise);
        let Some(Pattern::TwoModes { low, high }) = seen else {
            panic!("{seen:?}");
        };
        assert!((low - 10.0).abs() < 0.2 && (high - 12.0).abs() < 0.2);
    }

    #[test]
    fn what_does_not_matter_is_not_flagged() {
        let seen = found(|place, noise| 1000.0 + 0.2 * count(place) + noise);
        assert_eq!(seen, None);
        assert_eq!(pattern(&[1.0, 2.0, 3.0, 4.0, 5.0]), None, "too few runs");
        assert_eq!(pattern(&[5.0; 12]), None);
        assert_eq!(pattern(&[5.0, f64::NAN, 1.0, 2.0, 3.0, 4.0]), None);
    }
}
