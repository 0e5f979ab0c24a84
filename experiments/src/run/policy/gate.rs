//! Who may go on while next to nothing is free.
//!
//! A guest fills its balloon only while it runs. So one that has something to give goes on, alone,
//! into what is kept because guests can't be stopped at once: one takes no more of it than all do. If
//! it takes memory and gives none, it is the next one's turn, until too little is left for any.

use mirrorball_pmap::VmId;

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
    /// One may that gives memory.
    ForOne,
    /// Nobody may.
    None,
}

impl Room {
    /// By the parts of memory that are free with and without the reserve, and the part below which the
    /// state is low.
    pub fn new(all: f64, usable: f64, low: f64) -> Self {
        if usable >= low * FULL {
            Self::Enough
        } else if all > (all - usable) * ALONE {
            Self::ForOne
        } else {
            Self::None
        }
    }

    /// How much of memory is left, as a part, until there is less room than this.
    pub fn left(self, all: f64, usable: f64, low: f64) -> f64 {
        let left = match self {
            Self::Enough => usable - low * FULL,
            Self::ForOne => all - (all - usable) * ALONE,
            Self::None => 0.0,
        };
        left.max(0.0)
    }
}

/// Who may go on as far as memory is concerned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    /// What is left.
    pub room: Room,
    /// Whose turn it is to go on alone.
    giver: Option<VmId>,
}

impl Gate {
    /// Whether it may go on.
    pub fn admits(&self, vm: VmId) -> bool {
        match self.room {
            Room::Enough => true,
            Room::ForOne => self.giver == Some(vm),
            Room::None => false,
        }
    }

    /// Of these, in ascending order, the next after the last one has its turn.
    pub fn pass_on(&mut self, givers: &[VmId]) {
        let next = givers.iter().find(|&&vm| Some(vm) > self.giver);
        self.giver = next.or(givers.first()).copied();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_memory_goes_on_into_half_of_the_reserve_and_nobody_further() {
        let gate = |all| {
            let mut gate = Gate {
                room: Room::new(all, all - 0.04, 0.01),
                giver: None,
            };
            gate.pass_on(&[VmId(2)]);
            [1, 2].map(|vm| gate.admits(VmId(vm)))
        };
        assert_eq!(gate(0.05), [true, true]);
        assert_eq!(gate(0.044), [false, true]);
        assert_eq!(gate(0.021), [false, true]);
        assert_eq!(gate(0.019), [false, false]);
        assert_eq!(gate(-0.01), [false, false]);
    }

    #[test]
    fn a_guest_that_only_takes_does_not_keep_others_from_giving() {
        let mut gate = Gate::default();
        let vms = [1, 4, 7].map(VmId);
        let mut turns = || {
            gate.pass_on(&vms);
            gate.giver
        };
        let turns: Vec<_> = (0..4).map(|_| turns()).collect();
        assert_eq!(turns, [1, 4, 7, 1].map(|vm| Some(VmId(vm))));
        gate.pass_on(&[]);
        assert_eq!(gate.giver, None);
    }

    #[test]
    fn what_is_left_ends_where_there_is_less_room() {
        for (all, room) in [
            (0.06, Room::Enough),
            (0.03, Room::ForOne),
            (0.01, Room::None),
        ] {
            let usable = all - 0.04;
            assert_eq!(Room::new(all, usable, 0.01), room);
            let left = room.left(all, usable, 0.01);
            if room == Room::None {
                assert!(left <= 0.0);
                continue;
            }
            assert_eq!(
                Room::new(all - left * 0.99, usable - left * 0.99, 0.01),
                room
            );
            assert_ne!(
                Room::new(all - left * 1.01, usable - left * 1.01, 0.01),
                room
            );
        }
    }
}
