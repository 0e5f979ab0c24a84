//! Who may go on while little or next to nothing is free.
//!
//! A guest fills its balloon only while it runs, and what it gives at first may be pages that it never
//! touched: others take memory faster than it comes back. So guests that give go on before the others,
//! and they without the others once memory is hard to get: whoever takes it waits for it. While next to
//! nothing is free one goes on alone, into what is kept because guests can't be stopped at once: one takes
//! no more of it than all do. If it takes memory and gives none, it is the next one's turn, until too
//! little is left for any.

use std::collections::BTreeSet;
use std::ops::Bound;

use mirrorball_pmap::VmId;
use mirrorball_policy::state::Thresholds;

/// Below this part of usable memory nobody goes on, but for who gives; a part of the low state's
/// threshold.
const FULL: f64 = 0.5;
/// That one goes on while this part of the reserve is left.
const ALONE: f64 = 0.5;

/// What is left for guests to go on with, most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// All those may go on whom nothing else holds.
    #[default]
    Enough,
    /// Those may that give memory.
    ForGivers,
    /// One of them may.
    ForOne,
    /// Nobody may.
    None,
}

/// Where rooms end, in parts of usable memory.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// Of room for all.
    enough: f64,
    /// Of room for all who give.
    givers: f64,
}

/// Who may go on as far as memory is concerned.
#[derive(Debug, Default)]
pub struct Gate {
    /// What is left.
    pub room: Room,
    /// Who is to give memory by its balloon.
    givers: BTreeSet<VmId>,
    /// Whether one of them has done so lately: nobody waits for others.
    is_given: bool,
    /// Whose turn it is to go on alone.
    turn: Option<VmId>,
}

impl Gate {
    /// Whether it may go on.
    pub fn admits(&self, vm: VmId) -> bool {
        match self.room {
            Room::Enough => true,
            Room::ForGivers => self.givers.contains(&vm),
            Room::ForOne => self.turn == Some(vm),
            Room::None => false,
        }
    }

    /// These are to give memory now, and it is the turn of the next after the last one.
    pub fn pass_on(&mut self, givers: BTreeSet<VmId>, is_given: bool) {
        let later = (self.turn).map_or(Bound::Unbounded, Bound::Excluded);
        let next = givers.range((later, Bound::Unbounded)).next();
        self.turn = next.or(givers.first()).copied();
        self.givers = givers;
        self.is_given = is_given;
    }

    fn ends(&self, thresholds: &Thresholds) -> Ends {
        let givers = thresholds.low * FULL;
        let enough = if self.is_given {
            thresholds.hard
        } else {
            givers
        };
        Ends { enough, givers }
    }

    /// The room there is, by the parts of memory that are free with and without the reserve.
    pub fn room(&self, thresholds: &Thresholds, all: f64, usable: f64) -> Room {
        let ends = self.ends(thresholds);
        if usable >= ends.enough {
            Room::Enough
        } else if usable >= ends.givers {
            Room::ForGivers
        } else if all > (all - usable) * ALONE {
            Room::ForOne
        } else {
            Room::None
        }
    }

    /// How much of memory is left, as a part, until there is less room than now.
    pub fn left(&self, thresholds: &Thresholds, all: f64, usable: f64) -> f64 {
        let ends = self.ends(thresholds);
        let left = match self.room {
            Room::Enough => usable - ends.enough,
            Room::ForGivers => usable - ends.givers,
            Room::ForOne => all - (all - usable) * ALONE,
            Room::None => 0.0,
        };
        left.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        high: 0.06,
        soft: 0.04,
        hard: 0.02,
        low: 0.01,
        margin: 0.005,
    };
    /// A part of memory.
    const RESERVE: f64 = 0.04;

    fn gate(all: f64, givers: &[u32], is_given: bool) -> Gate {
        let mut gate = Gate::default();
        gate.pass_on(givers.iter().copied().map(VmId).collect(), is_given);
        gate.room = gate.room(&THRESHOLDS, all, all - RESERVE);
        gate
    }

    /// Which of three guests go on.
    fn admits(all: f64, givers: &[u32], is_given: bool) -> [bool; 3] {
        let gate = gate(all, givers, is_given);
        [1, 2, 3].map(|vm| gate.admits(VmId(vm)))
    }

    #[test]
    fn who_takes_memory_waits_for_who_gives_it() {
        assert_eq!(admits(0.061, &[2, 3], true), [true, true, true]);
        assert_eq!(admits(0.059, &[2, 3], true), [false, true, true]);
        assert_eq!(admits(0.046, &[2, 3], true), [false, true, true]);
        let in_vain = admits(0.046, &[2, 3], false);
        assert_eq!(in_vain, [true, true, true], "nobody has given anything");
    }

    #[test]
    fn one_that_gives_goes_on_into_half_of_the_reserve_and_nobody_further() {
        for is_given in [true, false] {
            assert_eq!(admits(0.044, &[2, 3], is_given), [false, true, false]);
            assert_eq!(admits(0.021, &[2, 3], is_given), [false, true, false]);
            assert_eq!(admits(0.019, &[2, 3], is_given), [false; 3]);
            assert_eq!(admits(-0.01, &[2, 3], is_given), [false; 3]);
        }
        assert_eq!(admits(0.044, &[], false), [false; 3]);
    }

    #[test]
    fn a_guest_that_only_takes_does_not_keep_others_from_giving() {
        let mut gate = Gate::default();
        let vms = [1, 4, 7].map(VmId);
        let mut turns = || {
            gate.pass_on(vms.into(), true);
            gate.turn
        };
        let turns: Vec<_> = (0..4).map(|_| turns()).collect();
        assert_eq!(turns, [1, 4, 7, 1].map(|vm| Some(VmId(vm))));
        gate.pass_on(BTreeSet::new(), false);
        assert_eq!(gate.turn, None);
    }

    #[test]
    fn what_is_left_ends_where_there_is_less_room() {
        for (all, is_given, room) in [
            (0.07, true, Room::Enough),
            (0.05, true, Room::ForGivers),
            (0.05, false, Room::Enough),
            (0.03, true, Room::ForOne),
            (0.01, true, Room::None),
        ] {
            let gate = gate(all, &[1], is_given);
            assert_eq!(gate.room, room);
            let left = gate.left(&THRESHOLDS, all, all - RESERVE);
            if room == Room::None {
                assert!(left <= 0.0);
                continue;
            }
            let after = |taken: f64| {
                let all = all - taken;
                gate.room(&THRESHOLDS, all, all - RESERVE)
            };
            assert_eq!(after(left * 0.99), room);
            assert_ne!(after(left * 1.01), room);
        }
    }
}
