//! The part of a VM that its vCPU threads and device workers may hold: state and gates.
//!
//! It knows no KVM and no memory, so whoever keeps it keeps no VM alive.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::state::{StopCause, VmState, WaitError};
use crate::vcpu::gate::{Gate, Order};

#[derive(Debug)]
struct State {
    vm: VmState,
    /// Counts the guest's reports of progress, so that no waiter misses one.
    progress: u64,
}

/// State of one VM and the gates of its vCPUs.
#[derive(Debug)]
pub(crate) struct RunControl {
    gates: Vec<Gate>,
    state: Mutex<State>,
    /// Signalled when the state changes or the guest reports progress.
    changed: Condvar,
}

impl RunControl {
    pub(crate) fn new(vcpus: u32) -> Self {
        Self {
            gates: (0..vcpus).map(|_| Gate::new()).collect(),
            state: Mutex::new(State {
                vm: VmState::Created,
                progress: 0,
            }),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn gates(&self) -> &[Gate] {
        &self.gates
    }

    pub(crate) fn state(&self) -> VmState {
        self.state.lock().vm.clone()
    }

    /// Changes `from` to `to`; `false` when the VM is in another state.
    pub(crate) fn advance(&self, from: &VmState, to: VmState) -> bool {
        let mut state = self.state.lock();
        let fits = state.vm == *from;
        if fits {
            state.vm = to;
        }
        // Not while the lock is held: who is woken may be given it before it has a core.
        drop(state);
        if fits {
            self.changed.notify_all();
        }
        fits
    }

    /// Ends the VM; the first cause counts. Waits for nobody, so any thread may call it.
    pub(crate) fn stop(&self, cause: StopCause) {
        {
            let mut state = self.state.lock();
            if matches!(state.vm, VmState::Stopped(_)) {
                return;
            }
            state.vm = VmState::Stopped(cause);
        }
        self.changed.notify_all();
        self.order(Order::Stop);
    }

    /// Gives an order to all vCPUs.
    pub(crate) fn order(&self, order: Order) {
        for gate in &self.gates {
            gate.order(order);
        }
    }

    /// Waits until all vCPUs are outside guest mode.
    pub(crate) fn await_quiet(&self) {
        for gate in &self.gates {
            gate.await_quiet();
        }
    }

    /// Whether all vCPUs are outside the guest until something lets them go on.
    pub(crate) fn rests(&self) -> bool {
        self.gates.iter().all(Gate::rests)
    }

    /// Wakes all vCPUs: a device's interrupt, a new command.
    pub(crate) fn wake_all(&self) {
        for gate in &self.gates {
            gate.wake();
        }
    }

    /// Wakes the vCPUs whose bits are set; bits of vCPUs that the VM lacks mean nothing.
    pub(crate) fn wake(&self, mask: u32) {
        for (index, gate) in self.gates.iter().enumerate() {
            if mask
                .checked_shr(u32::try_from(index).unwrap_or(u32::MAX))
                .unwrap_or(0)
                & 1
                != 0
            {
                gate.wake();
            }
        }
    }

    /// The guest says that its phase has changed.
    pub(crate) fn progress(&self) {
        {
            let mut state = self.state.lock();
            state.progress = state.progress.wrapping_add(1);
        }
        self.changed.notify_all();
    }

    /// Waits until `reached` holds; it is asked after each sign of progress and now and then.
    pub(crate) fn wait_until(
        &self,
        timeout: Duration,
        mut reached: impl FnMut() -> bool,
    ) -> Result<(), WaitError> {
        const LOOK_AGAIN: Duration = Duration::from_millis(100);
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let seen = self.state.lock().progress;
            // A guest that is there and has stopped since is there.
            if reached() {
                return Ok(());
            }
            let mut state = self.state.lock();
            if let VmState::Stopped(cause) = &state.vm {
                return Err(WaitError::Stopped(cause.clone()));
            }
            let left = deadline.map_or(LOOK_AGAIN, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(WaitError::TimedOut);
            }
            if state.progress == seen {
                self.changed.wait_for(&mut state, left.min(LOOK_AGAIN));
            }
        }
    }

    /// CPU time of the vCPU threads so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.gates.iter().map(Gate::cpu_time).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_counts_and_ends_every_wait() {
        let control = RunControl::new(1);
        control.stop(StopCause::Exited(7));
        control.stop(StopCause::Requested);
        assert_eq!(control.state(), VmState::Stopped(StopCause::Exited(7)));
        assert!(!control.advance(&VmState::Running, VmState::Paused));
        assert_eq!(
            control.wait_until(Duration::from_secs(60), || false),
            Err(WaitError::Stopped(StopCause::Exited(7)))
        );
    }

    #[test]
    fn a_wait_ends_in_time_and_masks_may_name_missing_vcpus() {
        let control = RunControl::new(2);
        control.wake(u32::MAX);
        assert_eq!(
            control.wait_until(Duration::ZERO, || false),
            Err(WaitError::TimedOut)
        );
        assert_eq!(control.wait_until(Duration::ZERO, || true), Ok(()));
    }
}
