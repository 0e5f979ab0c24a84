//! From the entry point to waiting for commands, with as few pages touched as that takes.
//!
//! Nothing a workload may need is set up here: devices, file system and heap come up when first
//! used, because most of a thousand idle guests never use them.

use crate::balloon;
use crate::memory;
use crate::port;
use crate::sched::{self, JoinHandle};
use crate::shared::{self, usize_of};
use crate::workload;
use mirrorball_abi::{MAGIC, MAX_VCPUS, Phase};

/// What every vCPU runs from its entry point on; `vcpu` is its number.
///
/// # Panics
/// When the monitor's control page is not what this guest was built for.
pub fn start(vcpu: u64) -> ! {
    let index = usize_of(vcpu).min(MAX_VCPUS - 1);
    if index != 0 {
        sched::run(index, || u64::MAX);
    }
    shared::set_phase(Phase::Booting);
    assert_eq!(
        shared::magic(),
        MAGIC,
        "the control page is of another interface"
    );
    memory::init(shared::free_start(), shared::memory());
    // Before a command may come: what the balloon takes must not depend on which is first.
    balloon::poll();
    shared::set_phase(Phase::Ready);
    port::phase_changed();
    let mut last = 0;
    let mut running: Option<JoinHandle> = None;
    sched::run(0, move || {
        poll(&mut last, &mut running);
        balloon::poll()
    });
}

/// Starts a command's thread when there is a new one and the last has ended.
fn poll(last: &mut u64, running: &mut Option<JoinHandle>) {
    if let Some(handle) = running.take_if(|handle| handle.is_done()) {
        handle.join();
    }
    let command = shared::command();
    if running.is_none() && command != *last {
        *last = command;
        *running = sched::spawn(0, move || workload::execute(command));
        assert!(running.is_some(), "no memory for a workload's stack");
    }
}
