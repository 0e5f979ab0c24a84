//! The thread that swaps. Writing may take long, and free memory has to be looked at meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mirrorball_monitor::Vm;
use mirrorball_pmap::{SwapError, Undisturbed};
use parking_lot::{Condvar, Mutex};

use super::Shared;

/// Pages that are swapped before orders are looked at again.
const PORTION: u64 = 64;
/// How long the thread sleeps at most before it looks whether it shall end.
const LOOK: Duration = Duration::from_millis(100);

/// Who is to lose how many pages.
#[derive(Debug, Default)]
pub struct Swapping {
    orders: Mutex<Vec<(Arc<Vm>, u64)>>,
    changed: Condvar,
}

impl Swapping {
    /// New orders in place of what is left of the last.
    pub fn replace(&self, orders: Vec<(Arc<Vm>, u64)>) {
        *self.orders.lock() = orders;
        self.changed.notify_one();
    }

    /// A portion of the VM that has most to give; `None` after a while without any.
    fn next(&self) -> Option<(Arc<Vm>, u64)> {
        let mut orders = self.orders.lock();
        if orders.is_empty() {
            self.changed.wait_for(&mut orders, LOOK);
        }
        let most = (0..orders.len()).max_by_key(|&index| orders[index].1)?;
        let (vm, left) = &mut orders[most];
        let portion = (*left).min(PORTION);
        *left -= portion;
        let vm = Arc::clone(vm);
        if *left == 0 {
            orders.swap_remove(most);
        }
        Some((vm, portion))
    }

    /// A VM has no more to give.
    fn forget(&self, vm: &Vm) {
        self.orders
            .lock()
            .retain(|(other, _)| other.id() != vm.id());
    }
}

/// Swaps until the end of the run.
pub fn run(shared: &Shared, mut seed: u64) {
    // Guests are held until this has made room.
    let _first = Undisturbed::begin();
    while !shared.end.load(Ordering::Relaxed) {
        let Some((vm, pages)) = shared.swapping.next() else {
            continue;
        };
        seed = seed.wrapping_add(1);
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        match vm.space().swap_out(pages, seed) {
            Ok(outcome) if outcome.freed() > 0 => {}
            Ok(_) => shared.swapping.forget(&vm),
            Err(error) => failed(shared, &vm, &error),
        }
    }
}

fn failed(shared: &Shared, vm: &Vm, error: &SwapError) {
    shared.swapping.forget(vm);
    shared.tally.lock().warn(format!("{}: {error}", vm.name()));
}
