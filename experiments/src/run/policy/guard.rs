//! The thread that keeps guests from taking memory that is not there.
//!
//! Whatever else goes on (books that are settled, pages that are written to a disk that others use
//! too), this looks at free memory every millisecond or less, and in the low state holds all guests at
//! once; who may go on is decided a little later by who knows their targets. While next to nothing is
//! free nobody goes on: guests below their targets would take what others are still to give.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mirrorball_monitor::{Machine, Vm};
use mirrorball_pmap::{Undisturbed, VmId};
use parking_lot::Mutex;

use super::Shared;
use super::guest::float;

/// Pause between two looks: when memory is short, and when it is not.
const SHORT: Duration = Duration::from_micros(500);
const LONG: Duration = Duration::from_millis(1);
/// Above this part of free memory it is not short.
const ENOUGH: f64 = 0.2;

/// Below this part of the low state's threshold nobody goes on.
const FULL: f64 = 0.5;

/// Guests that are held.
#[derive(Debug, Default)]
pub struct Held(Mutex<BTreeMap<VmId, Arc<Vm>>>);

impl Held {
    /// Holds a guest, or lets it go on if it was held by this.
    pub fn set(&self, vm: &Arc<Vm>, hold: bool) {
        let mut held = self.0.lock();
        if !hold {
            if held.remove(&vm.id()).is_some() {
                vm.resume();
            }
        } else if !held.contains_key(&vm.id()) && vm.pause_soon() {
            // Who is told to hold still takes no more memory; nobody needs it to be quite still.
            held.insert(vm.id(), Arc::clone(vm));
        }
    }

    fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Lets everybody go on.
    pub fn release(&self) {
        for vm in std::mem::take(&mut *self.0.lock()).into_values() {
            vm.resume();
        }
    }
}

/// Watches over a machine of `budget` pages until the end of the run; below `low` of free memory it
/// holds all guests, and tells `urgent`.
pub fn run(shared: &Shared, machine: &Weak<Machine>, budget: u64, low: f64) {
    // Memory that guests take while this waits for a core is taken beyond the budget.
    let _first = Undisturbed::begin();
    let mut last = Instant::now();
    let mut was_low = false;
    while !shared.end.load(Ordering::Relaxed) {
        let Some(machine) = machine.upgrade() else {
            return;
        };
        let Some(free) = free(shared, &machine, budget) else {
            return;
        };
        let is_low = free < low;
        // Guests below their targets may go on in the low state, but not into memory that is not there.
        // Without swap only running guests can give any.
        let is_full = free < low * FULL && shared.pager.is_some();
        let was_full = shared.full.swap(is_full, Ordering::Relaxed);
        if is_full || is_low && !was_low {
            for vm in machine.vms() {
                shared.held.set(&vm, true);
            }
        }
        if is_low != was_low || was_full && !is_full {
            shared.urgent.store(true, Ordering::Relaxed);
        }
        was_low = is_low;
        let (state, held) = (*shared.state.lock(), shared.held.count());
        let now = Instant::now();
        let mut tally = shared.tally.lock();
        tally.free(free);
        tally.spent(state, held, now - last);
        drop(tally);
        last = now;
        drop(machine);
        std::thread::sleep(if free < ENOUGH { SHORT } else { LONG });
    }
}

/// The part of the budget that is free; below 0 when more is used. `None` if it can't be told.
pub fn free(shared: &Shared, machine: &Machine, budget: u64) -> Option<f64> {
    let used = shared.meter.private().ok()? + machine.pmap().frames().counts().frames;
    Some(1.0 - float(used) / float(budget.max(1)))
}
