//! The order of runs.
//!
//! Runs of different cells are interleaved (A B, then B A): drift of the host then falls on all
//! cells alike, instead of on whichever came last.

use crate::spec::RunOrder;

/// One run to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Position of its cell in the matrix.
    pub cell: usize,
    /// Run of that cell, from 1.
    pub run: u32,
}

/// All runs, in order.
#[must_use]
pub fn schedule(cells: usize, runs: u32, order: RunOrder) -> Vec<Planned> {
    let mut planned = Vec::new();
    match order {
        RunOrder::Blocked => {
            for cell in 0..cells {
                planned.extend((1..=runs).map(|run| Planned { cell, run }));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(order: RunOrder) -> Vec<(usize, u32)> {
        schedule(3, 2, order)
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
