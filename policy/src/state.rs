//! How hard memory has to be taken back.
//!
//! Four states by the part of the machine's memory that is free (OSDI'02, section 6.3). Going down is
//! immediate, going up needs a margin, so that a machine on a threshold does not flicker.

use thiserror::Error;

/// A reclamation state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Enough is free: nothing is taken.
    High,
    /// Balloons take; swap only from those who have no balloon.
    Soft,
    /// Swap takes.
    Hard,
    /// Swap takes, and VMs above their targets are held.
    Low,
}

impl State {
    /// Its name, as in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Soft => "soft",
            Self::Hard => "hard",
            Self::Low => "low",
        }
    }
}

/// Parts of the machine's memory, each below the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// What reclaiming aims at, and what has to be free before it stops.
    pub high: f64,
    /// Below this, balloons.
    pub soft: f64,
    /// Below this, swap.
    pub hard: f64,
    /// Below this, VMs are held.
    pub low: f64,
    /// What has to be free beyond a threshold before the state gets better. The paper asks for a
    /// margin and does not say which.
    pub margin: f64,
}

/// Thresholds that are not in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("thresholds must fall from high over soft and hard to low, between 1 and 0")]
pub struct ThresholdsError;

impl Default for Thresholds {
    /// The paper's 6, 4, 2 and 1 %; the margin is ours.
    fn default() -> Self {
        Self {
            high: 0.06,
            soft: 0.04,
            hard: 0.02,
            low: 0.01,
            margin: 0.005,
        }
    }
}

impl Thresholds {
    /// The same, if they are in order.
    ///
    /// # Errors
    /// When they are not.
    pub fn checked(self) -> Result<Self, ThresholdsError> {
        let falling = [1.0, self.high, self.soft, self.hard, self.low, 0.0];
        let ordered = falling.windows(2).all(|pair| pair[0] > pair[1]);
        if ordered && self.margin >= 0.0 && self.high + self.margin < 1.0 {
            Ok(self)
        } else {
            Err(ThresholdsError)
        }
    }

    /// The state after `now`, when `free` of the machine's memory (0 to 1) is free.
    #[must_use]
    pub fn next(&self, now: State, free: f64) -> State {
        let falls_to = if free < self.low {
            State::Low
        } else if free < self.hard {
            State::Hard
        } else if free < self.soft {
            State::Soft
        } else {
            State::High
        };
        if falls_to > now {
            return falls_to;
        }
        // One leaves a state for the better when what the better one needs is there, and more.
        let free = free - self.margin;
        let rises_to = if free >= self.high {
            State::High
        } else if free >= self.soft {
            State::Soft
        } else if free >= self.hard {
            State::Hard
        } else {
            State::Low
        };
        rises_to.min(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn down_at_once_and_up_with_a_margin() {
        let thresholds = Thresholds::default();
        let mut state = State::High;
        let mut go = |free| {
            state = thresholds.next(state, free);
            state
        };
        assert_eq!(go(0.041), State::High);
        assert_eq!(go(0.039), State::Soft);
        assert_eq!(go(0.059), State::Soft, "reclaiming aims at high");
        assert_eq!(go(0.062), State::Soft, "not yet by a margin");
        assert_eq!(go(0.066), State::High);
        assert_eq!(go(0.005), State::Low, "states may be skipped");
        assert_eq!(go(0.022), State::Low);
        assert_eq!(go(0.026), State::Hard);
        assert_eq!(go(0.046), State::Soft);
        assert_eq!(go(0.9), State::High);
    }

    proptest! {
        #[test]
        fn constant_memory_gives_a_constant_state(free in 0.0..1.0f64, start in 0usize..4) {
            let thresholds = Thresholds::default();
            let start = [State::High, State::Soft, State::Hard, State::Low][start];
            let first = thresholds.next(start, free);
            prop_assert_eq!(thresholds.next(first, free), first);
        }

        #[test]
        fn less_memory_never_gives_a_better_state(
            free in 0.0..1.0f64, less in 0.0..1.0f64, now in 0usize..4
        ) {
            let thresholds = Thresholds::default();
            let now = [State::High, State::Soft, State::Hard, State::Low][now];
            prop_assert!(thresholds.next(now, free * less) >= thresholds.next(now, free));
        }
    }

    #[test]
    fn thresholds_out_of_order_are_refused() {
        let fine = Thresholds::default();
        assert!(fine.checked().is_ok());
        assert!(Thresholds { soft: 0.07, ..fine }.checked().is_err());
        assert!(Thresholds { low: 0.0, ..fine }.checked().is_err());
        assert!(
            Thresholds {
                high: f64::NAN,
                ..fine
            }
            .checked()
            .is_err()
        );
    }
}
