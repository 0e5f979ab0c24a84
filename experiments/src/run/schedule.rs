//! The order of runs.
//!
//! Runs of different cells are interleaved (A B, then B A): drift of the host then falls on all
//! cells alike, instead of on whichever came last.

use crate::spec::{Experiment, RunOrder};

/// One run to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Position of its cell in the matrix.
    pub cell: usize,
    /// Run of that cell, from 1.
    pub run: u32,
}

/// All runs of an experiment at most, in order.
#[must_use]
pub fn of(experiment: &Experiment) -> Vec<Planned> {
    let repeat = &experiment.repeat;
    let cells = experiment.matrix.len();
    schedule(cells, repeat.most(), repeat.order, experiment.seed)
}

/// All runs, in order. The same seed gives the same order.
#[must_use]
fn schedule(cells: usize, runs: u32, order: RunOrder, seed: u64) -> Vec<Planned> {
    let mut planned = Vec::new();
    match order {
        RunOrder::Blocked => {
            for cell in 0..cells {
                planned.extend((1..=runs).map(|run| Planned { cell, run }));
            }
        }
        RunOrder::Shuffled => {
            let mut state = seed;
            for run in 1..=runs {
                let mut round = (0..cells).collect::<Vec<_>>();
                shuffle(&mut round, &mut state);
                planned.extend(round.into_iter().map(|cell| Planned { cell, run }));
            }
        }
        RunOrder::Interleaved => {
            for run in 1..=runs {
                let mut round = (0..cells)
                    .map(|cell| Planned { cell, run })
                    .collect::<Vec<_>>();
                if run % 2 == 0 {
                    round.reverse();
                }
                planned.extend(round);
            }
        }
    }
    planned
}

/// The seed of a repeat: the experiment's for the first, and made from it for each other, so that
/// repeats differ in what a seed decides and cells of one repeat do not.
#[must_use]
pub fn seed_of(seed: u64, run: u32) -> u64 {
    match run {
        0 | 1 => seed,
        _ => next(&mut (seed ^ u64::from(run).rotate_left(32))),
    }
}

/// Fisher and Yates's shuffle.
fn shuffle(items: &mut [usize], state: &mut u64) {
    for last in (1..items.len()).rev() {
        let other = next(state) % (last as u64 + 1);
        items.swap(last, usize::try_from(other).unwrap_or(last));
    }
}

/// The next number of the generator SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffled_repeat_has_each_cell_once_in_an_order_that_the_seed_gives() {
        let order = |seed| {
            let planned = schedule(6, 3, RunOrder::Shuffled, seed);
            planned.iter().map(|p| p.cell).collect::<Vec<_>>()
        };
        for round in order(42).chunks(6) {
            let mut sorted = round.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
        }
        assert_ne!(order(42), order(43));
        // Results say the seed: the order that it gives must never change.
        assert_eq!(order(42)[..6], [4, 3, 0, 2, 5, 1]);
    }

    #[test]
    fn every_order_of_three_comes_up_about_equally_often() {
        let mut counts = std::collections::BTreeMap::new();
        for planned in schedule(3, 6000, RunOrder::Shuffled, 7).chunks(3) {
            let order = planned.iter().map(|p| p.cell).collect::<Vec<_>>();
            *counts.entry(order).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|n| (850..1150).contains(n)),
            "{counts:?}"
        );
    }

    #[test]
    fn repeats_have_seeds_of_their_own_that_never_change() {
        assert_eq!(seed_of(42, 1), 42);
        let seeds = (1..=1000).map(|run| seed_of(42, run));
        assert_eq!(seeds.collect::<std::collections::BTreeSet<_>>().len(), 1000);
        assert_ne!(seed_of(42, 2), seed_of(43, 2));
        // Results of earlier versions must be made again by later ones.
        assert_eq!(seed_of(42, 2), 2_558_336_226_908_922_216);
    }

    fn cells(order: RunOrder) -> Vec<(usize, u32)> {
        schedule(3, 2, order, 1)
            .iter()
            .map(|planned| (planned.cell, planned.run))
            .collect()
    }

    #[test]
    fn interleaved_runs_turn_round_each_time() {
        assert_eq!(
            cells(RunOrder::Interleaved),
            [(0, 1), (1, 1), (2, 1), (2, 2), (1, 2), (0, 2)]
        );
    }

    #[test]
    fn blocked_runs_stay_together() {
        assert_eq!(
            cells(RunOrder::Blocked),
            [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]
        );
    }
}
