//! The memory policy at work: keeps the guests of a run within `machine.memory`.
//!
//! One thread looks at free memory every millisecond or more often, by the kernel's count, which costs
//! the same however large the guests are, and holds all guests when it is nearly gone (`guard`). Another
//! settles the books, estimates active memory and sets targets anew once a period, or at once when the
//! reclamation state gets worse (`work`): what is to be done then, `mirrorball-policy` says. The third
//! swaps, in small portions (`swapping`).
//!
//! It holds no lock of a VM's memory but what the pmap takes for a portion, and takes VMs' life cycle
//! locks one at a time.

mod figures;
mod gate;
mod guard;
mod guest;
mod meter;
mod sharing;
mod swapping;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use mirrorball_monitor::Machine;
use mirrorball_pmap::{Lost, PAGE_BYTES, Pager, SwapFile, SwapLimits, VmId};
use mirrorball_policy::IdleTax;
use mirrorball_policy::state::State;
use parking_lot::Mutex;

use super::RunError;
use super::scanning::Scanning;
use crate::output::summary;
use crate::spec::{ClaimChange, Experiment, GuestGroup, PolicySpec};
use figures::Tally;
use gate::Gate;
use guard::{Guard, Held};
pub use guest::View;
use meter::Meter;
use sharing::Sharing;
use swapping::Swapping;
use work::Work;

/// The part of the budget, one of so many, that free frames may take whose memory is kept.
const SPARE: u64 = 128;

/// The policy of a run; ends when dropped.
#[derive(Debug)]
pub struct Policy {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads and the run have in common.
#[derive(Debug)]
struct Shared {
    end: AtomicBool,
    tax: Mutex<IdleTax>,
    /// What guests are entitled to, by group.
    groups: Mutex<Vec<GuestGroup>>,
    tally: Mutex<Tally>,
    views: Mutex<BTreeMap<VmId, View>>,
    meter: Meter,
    held: Held,
    /// Guests are held for a pass, for a short time.
    still: AtomicBool,
    state: Mutex<State>,
    /// The worst state since it was last asked for.
    worst: Mutex<State>,
    /// The low state has begun, and nobody has decided yet what that means.
    urgent: AtomicBool,
    /// Who may go on; held for no more than a look.
    gate: Mutex<Gate>,
    /// Pages that are kept free because guests can't be stopped at once.
    reserve: AtomicU64,
    swapping: Swapping,
    pager: Option<Pager>,
}

impl Policy {
    /// Begins, if the experiment has a policy.
    ///
    /// # Errors
    /// There is no swap to be had though it is wanted, or no thread.
    pub fn start(
        experiment: &Experiment,
        machine: &Arc<Machine>,
        scanning: &Arc<Mutex<Scanning>>,
    ) -> Result<Option<Self>, RunError> {
        let Some(spec) = &experiment.policy else {
            return Ok(None);
        };
        let pager = if spec.swap.0 {
            Some(start_pager(experiment, spec, machine)?)
        } else {
            None
        };
        let shared = Arc::new(Shared {
            end: AtomicBool::new(false),
            tax: Mutex::new(spec.tax()),
            groups: Mutex::new(experiment.guests.clone()),
            tally: Mutex::default(),
            views: Mutex::default(),
            meter: Meter::new().map_err(RunError::Thread)?,
            held: Held::default(),
            still: AtomicBool::new(false),
            state: Mutex::new(State::High),
            worst: Mutex::new(State::High),
            urgent: AtomicBool::new(false),
            gate: Mutex::default(),
            reserve: AtomicU64::new(0),
            swapping: Swapping::default(),
            pager,
        });
        let sharing = Sharing::new(Arc::clone(scanning));
        let mut work = Work::new(experiment, spec, machine, &shared, sharing);
        let mut policy = Self {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        policy.spawn("policy", move || work.run())?;
        let of_this_run = Arc::downgrade(machine);
        let budget = experiment.machine.memory.0 / PAGE_BYTES;
        let spare = u32::try_from(budget / SPARE).unwrap_or(u32::MAX);
        machine.pmap().frames().keep_spare(spare);
        let mut guard = Guard::new(&shared, budget, spec.thresholds.thresholds());
        policy.spawn("guard", move || guard.run(&of_this_run))?;
        if shared.pager.is_some() {
            let seed = experiment.seed;
            policy.spawn("swap", move || swapping::run(&shared, seed))?;
        }
        Ok(Some(policy))
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        self.threads
            .push(thread.spawn(work).map_err(RunError::Thread)?);
        Ok(())
    }

    /// The idle memory tax changes.
    pub fn set_tax(&self, tax: IdleTax) {
        *self.shared.tax.lock() = tax;
    }

    /// What a group's guests are entitled to changes; targets follow within a period.
    pub fn set_claim(&self, change: &ClaimChange) {
        let mut groups = self.shared.groups.lock();
        if let Some(group) = groups.iter_mut().find(|group| group.id == change.guests) {
            change.apply(group);
        }
    }

    /// What the policy thinks of a VM.
    #[must_use]
    pub fn view(&self, vm: VmId) -> Option<View> {
        self.shared.views.lock().get(&vm).cloned()
    }

    /// The worst reclamation state since this was last asked.
    #[must_use]
    pub fn take_worst_state(&self) -> State {
        let now = *self.shared.state.lock();
        std::mem::replace(&mut *self.shared.worst.lock(), now).max(now)
    }

    /// VMs that are held and may be for ever: there is no swap that would make room for them. Waits for
    /// the end of a pass that all are held for.
    #[must_use]
    pub fn stuck(&self) -> BTreeSet<VmId> {
        if self.shared.pager.is_some() {
            return BTreeSet::new();
        }
        let held_for_a_pass = || self.shared.still.load(Ordering::Acquire);
        loop {
            let before = held_for_a_pass();
            let held = self.shared.held.ids();
            if !before && !held_for_a_pass() {
                return held;
            }
            std::thread::sleep(work::PAUSE);
        }
    }

    /// Ends it: nobody is held or watched any more. Pages on swap stay there.
    pub fn end(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the memory policy panicked");
            }
        }
        // Without swap there is still no memory for those that are held: they end as they are.
        if self.shared.pager.is_some() {
            self.shared.held.release();
        }
    }

    /// What it did so far.
    #[must_use]
    pub fn figures(&self) -> summary::Policy {
        let swap = self.shared.pager.as_ref().map(Pager::counts);
        self.shared.tally.lock().figures(swap.as_ref())
    }

    /// What was noticed.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.shared.tally.lock().warnings()
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        self.end();
    }
}

/// Gives the machine swap. A VM whose page can't be read back is stopped with that as its cause.
fn start_pager(
    experiment: &Experiment,
    spec: &PolicySpec,
    machine: &Arc<Machine>,
) -> Result<Pager, RunError> {
    let folder = std::env::temp_dir();
    let file = SwapFile::create(&folder).map_err(|error| RunError::Swap {
        reason: format!("a file in {}: {error}", folder.display()),
    })?;
    let bytes = spec
        .swap_size
        .map_or(experiment.guest_physical(), |size| size.0);
    let capacity = u32::try_from(bytes / PAGE_BYTES).unwrap_or(u32::MAX);
    let limits = SwapLimits {
        capacity,
        pool: spec.swap_pool.map_or(0, |size| size.0),
    };
    let of_this_run: Weak<Machine> = Arc::downgrade(machine);
    let lost = move |lost: Lost| stop(&of_this_run, lost);
    Pager::start(machine.pmap(), Box::new(file), limits, lost).map_err(|error| RunError::Swap {
        reason: error.to_string(),
    })
}

/// Stops the VM on a thread of its own: the pager must go on serving the others meanwhile.
fn stop(machine: &Weak<Machine>, lost: Lost) {
    let Some(machine) = machine.upgrade() else {
        return;
    };
    let Some(vm) = machine.vms().into_iter().find(|vm| vm.id() == lost.vm) else {
        return;
    };
    let failing = move || vm.fail(lost.reason);
    let thread = std::thread::Builder::new().name("lost-page".to_owned());
    let spawned: io::Result<JoinHandle<()>> = thread.spawn(failing);
    if let Err(error) = spawned {
        // The guest goes on waiting for its page: held, not wrong.
        tracing::error!(%error, vm = ?lost.vm, "a VM whose page is lost can't be stopped");
    }
}
