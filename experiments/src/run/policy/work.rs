//! The policy's thread.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mirrorball_monitor::{Machine, Vm};
use mirrorball_pmap::{PAGE_BYTES, Undisturbed};
use mirrorball_policy::Claim;
use mirrorball_policy::active::Sampling;
use mirrorball_policy::reclaim::{Holding, orders};
use mirrorball_policy::sharing::{ShareAhead, ShareFirst, Turn};
use mirrorball_policy::state::{State, Thresholds};
use mirrorball_policy::targets::targets;
use rustix::time::{ClockId, clock_gettime};

use super::guest::{Guest, float, part};
use super::sharing::{Ended, Sharing};
use super::{Shared, guard};
use crate::spec::{Experiment, PolicySpec};

/// Pause between two looks at free memory.
pub(super) const PAUSE: Duration = Duration::from_millis(1);
/// After the books were settled that rests for so many times as long, but for what is done once a period
/// while memory is short.
const REST: u32 = 9;
/// The same while there is so much memory that nobody is about to give any.
const REST_IN_PLENTY: u32 = 49;

/// All guests are held for a pass that was asked for, but no longer than this: a change of a mapping waits
/// for every fault under way, and on a host whose cores are busy the one who is in it may have lost its
/// core. Held guests have no faults.
const STILL: Duration = Duration::from_millis(250);

/// What the thread knows.
#[derive(Debug)]
pub struct Work {
    spec: PolicySpec,
    thresholds: Thresholds,
    sampling: Sampling,
    /// Pages of the machine.
    budget: u64,
    seed: u64,
    machine: Weak<Machine>,
    shared: Arc<Shared>,
    guests: Vec<Guest>,
    state: State,
    /// When targets were set last.
    set: Option<Instant>,
    /// When active memory was looked at last.
    sampled: Option<Instant>,
    sharing: Sharing,
    first: ShareFirst,
    ahead: ShareAhead,
    /// When the last pass ended that was asked for.
    passed: Instant,
    /// Since when all guests are held for a pass.
    still: Option<Instant>,
    turn: Turn,
    /// When the books were settled last, and how long that took.
    settled: Option<(Instant, Duration)>,
}

impl Work {
    pub fn new(
        experiment: &Experiment,
        spec: &PolicySpec,
        machine: &Arc<Machine>,
        shared: &Arc<Shared>,
        sharing: Sharing,
    ) -> Self {
        let pages = std::num::NonZeroU32::new(spec.sampling.pages.0);
        Self {
            spec: spec.clone(),
            thresholds: spec.thresholds.thresholds(),
            sampling: Sampling {
                pages: pages.unwrap_or(std::num::NonZeroU32::MIN),
                ..Sampling::default()
            },
            budget: experiment.machine.memory.0 / PAGE_BYTES,
            seed: experiment.seed,
            machine: Arc::downgrade(machine),
            shared: Arc::clone(shared),
            guests: Vec::new(),
            state: State::High,
            set: None,
            sampled: None,
            sharing,
            first: ShareFirst::default(),
            ahead: ShareAhead::default(),
            passed: Instant::now(),
            still: None,
            turn: Turn::None,
            settled: None,
        }
    }

    /// Until the end of the run.
    pub fn run(&mut self) {
        let _first = Undisturbed::begin();
        while !self.shared.end.load(Ordering::Relaxed) {
            let Some(machine) = self.machine.upgrade() else {
                break;
            };
            if self.look(&machine).is_none() {
                let text = "free memory can't be told".to_owned();
                self.shared.tally.lock().warn(text);
                break;
            }
            drop(machine);
            std::thread::sleep(PAUSE);
        }
        self.go_on();
        for guest in &mut self.guests {
            guest.end_watch();
            guest.leave_balloon();
        }
        let time = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
        self.shared.tally.lock().cpu(time);
    }

    /// Looks at free memory, and sets targets anew where that is due; `None` if nothing can be told.
    fn look(&mut self, machine: &Machine) -> Option<()> {
        let free = guard::free(&self.shared, machine, self.budget)?;
        let state = self.thresholds.next(self.state, free.usable);
        let ended = self.sharing.ended(machine);
        if let Some(ended) = ended {
            self.passed(ended);
        }
        if (self.still).is_some_and(|since| ended.is_some() || since.elapsed() >= STILL) {
            self.go_on();
        }
        // Whoever waits for a pass has settled what it is to bring.
        let ended = ended.filter(|_| self.turn == Turn::Wait);
        let over = |last: Option<Instant>| last.is_none_or(|at| at.elapsed() >= self.spec.period.0);
        let rest = match state {
            State::High if ShareAhead::has_plenty(&self.thresholds, free.usable) => REST_IN_PLENTY,
            State::High => REST,
            State::Soft | State::Hard | State::Low => 0,
        };
        let due = over(self.set) && !self.is_tired(rest);
        let samples = over(self.sampled);
        let urgent = self.shared.urgent.load(Ordering::Relaxed) || state > self.state;
        if due || ended.is_some() || urgent && !self.is_tired(REST) {
            self.shared.urgent.store(false, Ordering::Relaxed);
            self.decide(machine, ended.map(|ended| ended.freed))?;
            if due {
                self.set = Some(Instant::now());
            }
        } else if state < self.state {
            // It got better: nobody is held and nothing taken for longer than it must be.
            self.state = state;
            if state == State::High {
                self.shared.swapping.replace(Vec::new());
            }
            self.hold_by_orders();
        }
        if samples {
            self.sample();
            self.sampled = Some(Instant::now());
        }
        *self.shared.state.lock() = self.state;
        if self.state == State::High && !self.sharing.is_under_way() {
            let since = self.passed.elapsed();
            if (self.ahead).begins(&self.thresholds, free.usable, since) {
                self.passed = Instant::now();
                if self.ask(machine) {
                    self.hold_by_orders();
                } else {
                    self.ahead.ended(Duration::ZERO, 0.0);
                }
            }
        }
        Some(())
    }

    /// Asks for a pass, for which guests are to be held; false where nothing shares.
    fn ask(&mut self, machine: &Machine) -> bool {
        let asked = self.sharing.ask(machine);
        self.still = asked.then(Instant::now);
        self.shared.still.store(asked, Ordering::Release);
        asked
    }

    /// Nobody is held for a pass any more.
    fn go_on(&mut self) {
        self.still = None;
        self.hold_by_orders();
        self.shared.still.store(false, Ordering::Release);
    }

    /// A pass that was asked for has ended.
    fn passed(&mut self, ended: Ended) {
        self.passed = Instant::now();
        let freed = float(ended.freed) / float(self.budget.max(1));
        self.ahead.ended(ended.time, freed);
        self.shared.tally.lock().shared(ended);
    }

    /// Whether the books were settled less than `rest` times as long ago as that took: guests that are
    /// held do not change, and others shall have their cores.
    fn is_tired(&self, rest: u32) -> bool {
        let waited = |(when, took): (Instant, Duration)| when.elapsed() < took * rest;
        self.settled.is_some_and(waited)
    }

    /// Brings the books up to date; pages that are in use besides guests' own and frames.
    fn settle(&mut self, machine: &Machine) -> Option<u64> {
        let began = Instant::now();
        self.adopt(machine.vms());
        let before = self.shared.meter.process().ok()?;
        let private: u64 = self.guests.iter_mut().map(Guest::settle).sum();
        let after = self.shared.meter.process().ok()?;
        self.settled = Some((Instant::now(), began.elapsed()));
        Some(self.shared.meter.besides((before, after), private))
    }

    /// Takes in VMs that have come, and leaves those that have gone.
    fn adopt(&mut self, vms: Vec<Arc<Vm>>) {
        let mut known: BTreeMap<_, _> = std::mem::take(&mut self.guests)
            .into_iter()
            .map(|guest| (guest.vm.id(), guest))
            .collect();
        for vm in vms {
            let guest = known.remove(&vm.id()).or_else(|| self.guest(vm));
            self.guests.extend(guest.filter(Guest::is_alive));
        }
        for (id, mut guest) in known {
            guest.end_watch();
            self.shared.held.set(&guest.vm, false);
            self.shared.views.lock().remove(&id);
        }
    }

    fn guest(&self, vm: Arc<Vm>) -> Option<Guest> {
        let (id, _) = vm.name().rsplit_once('-')?;
        let claim = self.claim(id)?;
        let groups = self.shared.groups.lock();
        let group = groups.iter().find(|group| group.id == id)?.clone();
        drop(groups);
        let balloon = if self.spec.balloon.0 {
            self.spec.balloon_most.0 / 100.0
        } else {
            0.0
        };
        Some(Guest::new(vm, &group, claim, balloon, self.sampling))
    }

    /// What guests of a group are entitled to now.
    fn claim(&self, group: &str) -> Option<Claim> {
        let groups = self.shared.groups.lock();
        let group = groups.iter().find(|known| known.id == group)?;
        let shares = group.shares.map_or(group.memory.0 >> 20, u64::from);
        let (min, max) = (group.min.0 / PAGE_BYTES, group.max() / PAGE_BYTES);
        Claim::new(shares.max(1), min, max)
            .inspect_err(|error| tracing::error!(%error, "a claim that was checked"))
            .ok()
    }

    fn hold(&self, guest: &Guest, hold: bool) {
        let admitted = self.shared.gate.lock().admits(guest.vm.id());
        let hold = hold || self.still.is_some() || !admitted;
        self.shared.held.set(&guest.vm, hold);
    }

    /// Holds those that are ordered to, as far as it is still called for.
    fn hold_by_orders(&self) {
        let called_for = self.turn == Turn::Wait || self.state == State::Low;
        for guest in &self.guests {
            self.hold(guest, called_for && guest.order.hold);
        }
    }

    fn sample(&mut self) {
        if self.shared.pager.is_none() {
            return;
        }
        let (pages, period) = (self.spec.sampling.pages.0, self.spec.sampling.period.0);
        for guest in &mut self.guests {
            self.seed = self.seed.wrapping_add(1);
            let compared = guest.sample(pages, period, self.seed);
            self.shared.tally.lock().compared(compared);
        }
    }

    /// Targets and orders, carried out but for the sharing and swapping. A pass of the scanner has
    /// `freed` so many pages, if one has just ended.
    fn decide(&mut self, machine: &Machine, freed: Option<u64>) -> Option<()> {
        let monitor = self.settle(machine)?;
        let free = guard::free(&self.shared, machine, self.budget)?;
        self.state = self.thresholds.next(self.state, free.usable);
        let holdings = self.holdings(monitor + machine.pmap().frames().counts().frames);
        let excess = |vm: &Holding| vm.allocated.saturating_sub(vm.target);
        self.turn = match self
            .first
            .decide(self.state, holdings.iter().map(excess).sum(), freed)
        {
            Turn::Ask if self.sharing.is_under_way() || self.ask(machine) => Turn::Wait,
            Turn::Ask => {
                self.first.refused();
                Turn::Take
            }
            turn => turn,
        };
        let swap = self.shared.pager.is_some();
        let step = self.spec.balloon_rate.0 / PAGE_BYTES;
        let step = part(step, self.spec.period.0.as_secs_f64()).max(1);
        let orders = orders(self.state, self.turn, swap, &holdings);
        let mut swapping = Vec::new();
        for (guest, order) in self.guests.iter_mut().zip(orders) {
            guest.order = order;
            if order.swap > 0 {
                swapping.push((Arc::clone(&guest.vm), order.swap));
            }
            guest.set_balloon(step);
            let view = guest.view();
            self.shared.views.lock().insert(guest.vm.id(), view);
        }
        self.shared.swapping.replace(swapping);
        // Where there is swap, memory comes back without anybody who runs.
        let givers = (self.guests.iter()).filter(|guest| !swap && guest.fills_balloon());
        let is_given = givers.clone().any(Guest::gave_lately);
        let givers = givers.map(|guest| guest.vm.id()).collect();
        self.shared.gate.lock().pass_on(givers, is_given);
        for guest in &self.guests {
            self.hold(guest, guest.order.hold);
        }
        Some(())
    }

    /// What guests have and are entitled to, when so many pages are used by nobody alone.
    fn holdings(&mut self, common: u64) -> Vec<Holding> {
        let tax = *self.shared.tax.lock();
        let keep = self.thresholds.high + self.thresholds.margin;
        let reserve = self.shared.reserve.load(Ordering::Relaxed);
        let memory = part(self.budget, 1.0 - keep).saturating_sub(common + reserve);
        let wish = |guest: &Guest| guest.wish(self.claim(&guest.group));
        let wishes: Vec<_> = self.guests.iter().map(wish).collect();
        let targets = targets(memory, &wishes, tax);
        let guests = self.guests.iter_mut().zip(targets);
        guests
            .map(|(guest, target)| guest.holding(target))
            .collect()
    }
}
