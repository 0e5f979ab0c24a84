//! Sharing before swapping.
//!
//! Pages that guests have just written may equal others, and a page that is shared costs nothing to
//! get back. So before anything is swapped, the scanner goes over all that was written, and guests that
//! are above their targets wait for it: otherwise they would write pages faster than it looks at them,
//! and what could have been shared would go to a disk (ESX Server tries to share a page before it
//! swaps it: OSDI'02, section 4.3).
//!
//! Guests whose pages differ would wait for nothing, so a pass that brought little is followed by some
//! decisions without one, twice as many each time.
//!
//! Guests that write what others have written, too, take memory all the time that sharing gives back.
//! They need not wait for it if the pass is made while there still is memory ([`ShareAhead`]).

use crate::state::{State, Thresholds};
use std::time::Duration;

/// A pass brought little when it freed less than this part of what was to be had.
const LITTLE: f64 = 0.1;
/// Decisions without a pass at most.
const MOST_SKIPPED: u32 = 32;
/// Passes are made ahead below so many times the memory that reclaiming keeps free.
const AHEAD: f64 = 2.0;
/// A pass ahead was worth it if it freed this part of memory.
const WORTH: f64 = 0.0025;
/// Times between two passes ahead: those that are worth it take half of the time at most.
const RESTS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// What is to be done about memory that guests have beyond their targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: nobody is to give any.
    None,
    /// A pass of the scanner is to begin.
    Ask,
    /// It is under way: nothing is swapped, and guests above their targets wait.
    Wait,
    /// It was made, or is not worth it: the orders of [`crate::reclaim`] are carried out.
    Take,
}

/// Whose turn it is, the scanner's or swap's.
#[derive(Clone, Debug, Default)]
pub struct ShareFirst {
    /// What was to be had when the pass began that is under way.
    wanted: Option<u64>,
    /// Decisions that go without a pass yet, and how many will after the next that brings little.
    skip: u32,
    penalty: u32,
    /// A pass was made since the state was last high.
    made: bool,
}

impl ShareFirst {
    /// Guests have `excess` pages beyond their targets. `freed` is what the pass has brought that was
    /// asked for before, once it has ended.
    pub fn decide(&mut self, state: State, excess: u64, freed: Option<u64>) -> Turn {
        if let Some(wanted) = self.wanted {
            let Some(freed) = freed else {
                return Turn::Wait;
            };
            self.wanted = None;
            self.learn(wanted, freed);
        }
        if state == State::High || excess == 0 {
            self.made = false;
            return Turn::None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return Turn::Take;
        }
        // What is above the targets after a pass is swapped once before the next.
        self.made = !self.made;
        if self.made {
            self.wanted = Some(excess);
            Turn::Ask
        } else {
            Turn::Take
        }
    }

    /// There is nobody who could make the pass that was just asked for.
    pub fn refused(&mut self) {
        self.wanted = None;
        self.made = false;
    }

    #[allow(clippy::cast_precision_loss, reason = "numbers of pages")]
    fn learn(&mut self, wanted: u64, freed: u64) {
        if (freed as f64) < wanted as f64 * LITTLE {
            self.penalty = (self.penalty * 2).clamp(1, MOST_SKIPPED);
            self.skip = self.penalty;
        } else {
            self.penalty = 0;
        }
    }
}

/// Whether a pass is to be made before memory is short and anybody has to wait for it.
#[derive(Clone, Debug, Default)]
pub struct ShareAhead {
    /// How long to rest after the last.
    rest: Duration,
}

impl ShareAhead {
    /// Whether one is to begin now that a part of memory is `free`, so long after the last has ended.
    #[must_use]
    pub fn begins(&self, thresholds: &Thresholds, free: f64, since: Duration) -> bool {
        !Self::has_plenty(thresholds, free) && since >= self.rest
    }

    /// Whether so much memory is free that nothing is to be done ahead of need.
    #[must_use]
    pub fn has_plenty(thresholds: &Thresholds, free: f64) -> bool {
        free >= (thresholds.high + thresholds.margin) * AHEAD
    }

    /// A pass has taken so long and has freed that part of memory.
    pub fn ended(&mut self, took: Duration, freed: f64) {
        let [shortest, longest] = RESTS;
        let rest = if freed >= WORTH {
            took
        } else {
            self.rest.max(took) * 2
        };
        self.rest = rest.clamp(shortest, longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_ahead_begin_before_memory_is_short_and_end_where_they_bring_nothing() {
        let (thresholds, pass) = (Thresholds::default(), Duration::from_millis(200));
        let mut ahead = ShareAhead::default();
        assert!(!ahead.begins(&thresholds, 0.3, pass), "there is enough");
        assert!(ShareAhead::has_plenty(&thresholds, 0.3));
        assert!(ahead.begins(&thresholds, 0.1, pass));
        for _ in 0..10 {
            ahead.ended(pass, 0.05);
            assert!(
                !ahead.begins(&thresholds, 0.1, pass / 2),
                "others need cores"
            );
            assert!(ahead.begins(&thresholds, 0.1, pass));
        }
        for _ in 0..10 {
            ahead.ended(pass, 0.0);
        }
        assert!(!ahead.begins(&thresholds, 0.1, Duration::from_secs(4)));
        assert!(ahead.begins(&thresholds, 0.1, Duration::from_secs(5)));
        ahead.ended(pass, 0.01);
        assert!(ahead.begins(&thresholds, 0.1, pass));
    }

    #[test]
    fn nothing_is_taken_before_a_pass_has_ended() {
        let mut first = ShareFirst::default();
        assert_eq!(first.decide(State::High, 500, None), Turn::None);
        assert_eq!(first.decide(State::Hard, 500, None), Turn::Ask);
        assert_eq!(first.decide(State::Low, 900, None), Turn::Wait);
        assert_eq!(first.decide(State::Hard, 400, Some(500)), Turn::Take);
        assert_eq!(first.decide(State::Hard, 400, None), Turn::Ask);
        assert_eq!(first.decide(State::High, 0, Some(300)), Turn::None);
        assert_eq!(first.decide(State::Soft, 10, None), Turn::Ask);
    }

    #[test]
    fn a_pass_that_was_enough_swaps_nothing() {
        let mut first = ShareFirst::default();
        for _ in 0..10 {
            assert_eq!(first.decide(State::Hard, 500, None), Turn::Ask);
            assert_eq!(first.decide(State::Hard, 500, None), Turn::Wait);
            assert_eq!(first.decide(State::High, 0, Some(500)), Turn::None);
        }
    }

    #[test]
    fn where_nothing_shares_nobody_waits() {
        let mut first = ShareFirst::default();
        for _ in 0..10 {
            assert_eq!(first.decide(State::Low, 500, None), Turn::Ask);
            first.refused();
        }
    }

    #[test]
    fn guests_that_share_nothing_do_not_wait_for_ever() {
        let mut first = ShareFirst::default();
        let (mut asked, mut taken) = (0, 0);
        for _ in 0..1000 {
            match first.decide(State::Hard, 500, (first.wanted.is_some()).then_some(0)) {
                Turn::Ask => asked += 1,
                Turn::Take => taken += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(asked > 20 && asked < 40, "{asked} passes");
        assert!(taken > 900, "{taken}");
        // What is worth it again is done each time again.
        while first.decide(State::Hard, 500, None) != Turn::Ask {}
        assert_eq!(first.decide(State::Hard, 500, Some(400)), Turn::Take);
        assert_eq!(first.decide(State::Hard, 500, None), Turn::Ask);
    }
}
