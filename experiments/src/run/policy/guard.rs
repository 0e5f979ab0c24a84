//! The thread that keeps guests from taking memory that is not there.
//!
//! Whatever else goes on (books that are settled, pages that are written to a disk that others use
//! too), this looks at free memory often enough that what guests take between two looks is no more than
//! half of what is left to them; and in the low state it holds all at once. Who may go on is decided a
//! little later by who knows their targets. While next to nothing is free nobody goes on but who gives
//! memory ([`super::gate`]): guests below their targets would take what others are still to give.
//!
//! It never waits for a lock that somebody holds who may be without a core: that one may get it only
//! when guests have taken everything.
//!
//! Guests take some memory before they hold still. That much is kept free, see
//! [`mirrorball_policy::reserve`]: states and targets are those of a machine without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mirrorball_monitor::{Machine, Vm};
use mirrorball_pmap::{Alarm, VmId};
use mirrorball_policy::reserve::Pace;
use mirrorball_policy::state::Thresholds;
use parking_lot::Mutex;

use super::Shared;
use super::figures::Tally;
use super::gate::Room;
use super::guest::{float, part};

/// Pause between two looks while everybody is held.
const RESTING: Duration = Duration::from_micros(500);
/// After this time nobody who was told to hold still takes any more; what is used then has other reasons.
const LONGEST_LAST: Duration = Duration::from_millis(2);

/// Guests that are held.
#[derive(Debug, Default)]
pub struct Held(Mutex<BTreeMap<VmId, Arc<Vm>>>);

impl Held {
    /// Holds a guest, or lets it go on if it was held by this.
    ///
    /// No lock is kept meanwhile: who lets a guest go on may have to wait for it, and others are to be
    /// held then.
    pub fn set(&self, vm: &Arc<Vm>, hold: bool) {
        if !hold {
            let held = self.0.lock().remove(&vm.id());
            if held.is_some() {
                vm.resume();
            }
            return;
        }
        let held = self.0.lock().contains_key(&vm.id());
        // Who is told to hold still takes no more memory; nobody needs it to be quite still.
        if !held && vm.pause_soon() {
            self.0.lock().insert(vm.id(), Arc::clone(vm));
        }
    }

    fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Who is held.
    pub fn ids(&self) -> BTreeSet<VmId> {
        self.0.lock().keys().copied().collect()
    }

    /// Lets everybody go on.
    pub fn release(&self) {
        for vm in std::mem::take(&mut *self.0.lock()).into_values() {
            vm.resume();
        }
    }
}

/// A machine's memory at a look.
#[derive(Clone, Copy, Debug)]
pub struct Free {
    /// The part of the budget that nobody uses; below 0 when more is used than there is.
    pub all: f64,
    /// The same without the reserve.
    pub usable: f64,
}

/// Watches over a machine until the end of the run.
#[derive(Debug)]
pub struct Guard {
    shared: Arc<Shared>,
    /// Pages of the machine.
    budget: u64,
    /// Guests are held in the low state.
    thresholds: Thresholds,
    pace: Pace,
    /// Frames and their spare memory, when they were counted last.
    frames: u64,
    /// What is to be added to the run's sums.
    seen: Tally,
    /// When memory was looked at last, what was used then, and for how long one meant to sleep.
    last: (Instant, u64, Duration),
    was_low: bool,
    /// When all guests were told to hold still, and what was used then.
    told: Option<(Instant, u64)>,
}

impl Guard {
    /// In the low state it holds all guests, and tells `urgent`.
    pub fn new(shared: &Arc<Shared>, budget: u64, thresholds: Thresholds) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            shared: Arc::clone(shared),
            budget,
            thresholds,
            pace: Pace::new(u32::try_from(cores).unwrap_or(u32::MAX)),
            frames: 0,
            seen: Tally::default(),
            last: (Instant::now(), u64::MAX, Duration::ZERO),
            was_low: false,
            told: None,
        }
    }

    /// Until the end of the run.
    pub fn run(&mut self, machine: &Weak<Machine>) {
        // Memory that guests take while this waits for a core is taken beyond the budget.
        let _first = Alarm::begin();
        while !self.shared.end.load(Ordering::Relaxed) {
            let Some(pause) = machine.upgrade().and_then(|machine| self.look(&machine)) else {
                break;
            };
            self.last.2 = pause;
            std::thread::sleep(pause);
        }
        self.shared.tally.lock().add(&self.seen);
    }

    /// One look, and what follows from it; for how long memory need not be looked at. `None` if it
    /// can't be told.
    fn look(&mut self, machine: &Machine) -> Option<Duration> {
        let frames = machine.pmap().frames().try_counts();
        self.frames = frames.map_or(self.frames, |counts| counts.frames + counts.spare);
        let used = self.shared.meter.used().ok()? + self.frames;
        let now = Instant::now();
        let passed = now - self.last.0;
        let more = used.saturating_sub(self.last.1);
        let planned = self.last.2.as_secs_f64();
        self.pace.looked(more, passed.as_secs_f64(), planned);
        self.last = (now, used, Duration::ZERO);
        let held = self.shared.held.count();
        self.watch_the_last(machine, now, used, held);
        self.shared
            .reserve
            .store(self.pace.reserve(self.budget), Ordering::Relaxed);
        let free = free_of(&self.shared, used, self.budget);
        let room = self.stop(machine, now, used, free);
        let state = *self.shared.state.lock();
        let mut worst = self.shared.worst.lock();
        *worst = state.max(*worst);
        drop(worst);
        self.seen.free(free);
        self.seen.spent(state, held, passed);
        // Who reads the sums must not keep guests running.
        if let Some(mut tally) = self.shared.tally.try_lock() {
            tally.add(&std::mem::take(&mut self.seen));
        }
        if room == Room::None {
            // Nobody runs: what can change is for the better.
            return Some(RESTING);
        }
        let gate = self.shared.gate.lock();
        let mut left = gate.left(&self.thresholds, free.all, free.usable);
        drop(gate);
        if !self.was_low {
            left = left.min((free.usable - self.thresholds.low).max(0.0));
        }
        let left = part(self.budget, left);
        Some(Duration::from_secs_f64(self.pace.pause(left)))
    }

    /// Holds everybody where memory is nearly gone, but for who gives some; what is left.
    fn stop(&mut self, machine: &Machine, now: Instant, used: u64, free: Free) -> Room {
        let is_low = free.usable < self.thresholds.low;
        // Guests below their targets may go on in the low state, but not into memory that is not there.
        let mut gate = self.shared.gate.lock();
        let room = gate.room(&self.thresholds, free.all, free.usable);
        let was = std::mem::replace(&mut gate.room, room);
        let begins = is_low && !self.was_low;
        let waits = |vm: &Arc<Vm>| room == Room::Enough || !gate.admits(vm.id());
        let mut vms = Vec::new();
        if room != Room::Enough || begins {
            vms = machine.vms();
            vms.retain(waits);
        }
        drop(gate);
        if !vms.is_empty() {
            for vm in vms {
                self.shared.held.set(&vm, true);
            }
            self.told = self.told.or(Some((now, used)));
        }
        if is_low != self.was_low || room < was {
            self.shared.urgent.store(true, Ordering::Relaxed);
        }
        self.was_low = is_low;
        room
    }

    /// What guests still take after they were told to hold still.
    fn watch_the_last(&mut self, machine: &Machine, now: Instant, used: u64, held: usize) {
        let Some((when, before)) = self.told else {
            return;
        };
        if held < machine.vms().len() || now - when > LONGEST_LAST {
            self.told = None;
        } else {
            self.pace.overran(used.saturating_sub(before));
        }
    }
}

fn free_of(shared: &Shared, used: u64, budget: u64) -> Free {
    let part = |used: u64| 1.0 - float(used) / float(budget.max(1));
    Free {
        all: part(used),
        usable: part(used + shared.reserve.load(Ordering::Relaxed)),
    }
}

/// What is free; `None` if it can't be told.
pub fn free(shared: &Shared, machine: &Machine, budget: u64) -> Option<Free> {
    let frames = machine.pmap().frames().counts();
    let used = shared.meter.used().ok()? + frames.frames + frames.spare;
    Some(free_of(shared, used, budget))
}
