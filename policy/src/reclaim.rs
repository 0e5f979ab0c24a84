//! By what means each VM gets to its target.
//!
//! Cheapest first: pages that equal others are shared ([`crate::sharing`]); a balloon lets the guest
//! choose what it can spare; swap takes pages at random and costs a read when one was needed after all;
//! a held VM costs everything it would have done (OSDI'02, sections 3 and 6.3).
//!
//! On a machine without swap balloons are all there is, in all states. A VM that is above its target
//! while memory is nearly gone, and whose balloon can give no more, is held until others have made
//! room: that may be for ever, but what is not there is not used.

use crate::sharing::Turn;
use crate::state::State;

/// A VM's memory, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// What it has now.
    pub allocated: u64,
    /// What it is entitled to.
    pub target: u64,
    /// What its balloon holds.
    pub ballooned: u64,
    /// What its balloon can hold at most; 0 without a balloon.
    pub balloon_most: u64,
}

/// What is to be done with a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The balloon's new size, in pages.
    pub balloon: u64,
    /// Pages to be swapped out.
    pub swap: u64,
    /// Its vCPUs wait until it is at its target.
    pub hold: bool,
}

/// What is to be done with each VM in this state, when it is that `turn`, on a machine with swap or
/// without.
#[must_use]
pub fn orders(state: State, turn: Turn, swap: bool, vms: &[Holding]) -> Vec<Order> {
    let order = |vm| match (turn, swap) {
        (Turn::Ask | Turn::Wait, _) => while_sharing(state, vm),
        (_, true) => order(state, vm),
        (_, false) => by_balloon_alone(state, vm),
    };
    vms.iter().map(order).collect()
}

/// Equal pages are being looked for: guests shall not write others faster than that. And while they run
/// it takes longer, for each page that is given another mapping waits for their faults.
fn while_sharing(state: State, vm: &Holding) -> Order {
    Order {
        swap: 0,
        hold: vm.allocated > vm.target,
        ..order(state, vm)
    }
}

fn by_balloon_alone(state: State, vm: &Holding) -> Order {
    let order = order(state.min(State::Soft), vm);
    let above = vm.allocated > vm.target;
    Order {
        swap: 0,
        // A VM that stands still can't fill its balloon.
        hold: above && state == State::Low && order.balloon <= vm.ballooned,
        ..order
    }
}

fn order(state: State, vm: &Holding) -> Order {
    let excess = vm.allocated.saturating_sub(vm.target);
    if excess == 0 {
        // Room to grow: the balloon gives it back, whatever the others must do.
        let room = vm.target.saturating_sub(vm.allocated);
        return Order {
            balloon: vm.ballooned.saturating_sub(room),
            ..Order::default()
        };
    }
    let by_balloon = excess.min(vm.balloon_most.saturating_sub(vm.ballooned));
    let (inflate, swap) = match state {
        State::High => (0, 0),
        State::Soft => (by_balloon, excess - by_balloon),
        State::Hard | State::Low => (0, excess),
    };
    Order {
        balloon: vm.ballooned + inflate,
        swap,
        hold: state == State::Low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: Holding = Holding {
        allocated: 100,
        target: 70,
        ballooned: 5,
        balloon_most: 25,
    };

    #[test]
    fn the_cheapest_means_that_the_state_allows() {
        let order = |state| orders(state, Turn::Take, true, &[VM])[0];
        let is = |balloon, swap, hold| Order {
            balloon,
            swap,
            hold,
        };
        assert_eq!(order(State::High), is(5, 0, false));
        assert_eq!(
            order(State::Soft),
            is(25, 10, false),
            "what the balloon can't"
        );
        assert_eq!(order(State::Hard), is(5, 30, false));
        assert_eq!(order(State::Low), is(5, 30, true));
    }

    #[test]
    fn who_is_below_its_target_is_never_held_and_gets_its_balloon_back() {
        let below = Holding {
            allocated: 60,
            ..VM
        };
        for state in [State::High, State::Soft, State::Hard, State::Low] {
            assert_eq!(
                orders(state, Turn::Take, true, &[below])[0],
                Order::default()
            );
        }
        let little = Holding {
            allocated: 68,
            ..VM
        };
        assert_eq!(
            orders(State::High, Turn::None, true, &[little])[0].balloon,
            3
        );
    }

    #[test]
    fn without_a_balloon_soft_swaps() {
        let none = Holding {
            ballooned: 0,
            balloon_most: 0,
            ..VM
        };
        assert_eq!(orders(State::Soft, Turn::Take, true, &[none])[0].swap, 30);
    }

    #[test]
    fn while_equal_pages_are_looked_for_nothing_is_swapped_and_nobody_outruns_it() {
        let order = |state| orders(state, Turn::Wait, true, &[VM])[0];
        for state in [State::High, State::Soft, State::Hard, State::Low] {
            assert_eq!(order(state).swap, 0);
            assert!(order(state).hold, "to the end of the pass");
        }
        let below = Holding {
            allocated: 60,
            ..VM
        };
        assert!(!orders(State::Low, Turn::Wait, true, &[below])[0].hold);
    }

    #[test]
    fn without_swap_balloons_fill_in_all_states_and_who_can_give_no_more_is_held() {
        let order = |state, vm| orders(state, Turn::Take, false, &[vm])[0];
        for state in [State::Soft, State::Hard, State::Low] {
            assert_eq!(order(state, VM).balloon, 25);
            assert!(!order(state, VM).hold, "its balloon fills");
        }
        let empty_handed = Holding {
            ballooned: 25,
            ..VM
        };
        assert!(order(State::Low, empty_handed).hold);
        assert!(!order(State::Hard, empty_handed).hold);
    }
}
