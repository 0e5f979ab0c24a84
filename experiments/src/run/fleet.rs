//! The guests of one run: made, started, commanded, awaited, stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mirrorball_abi::{Phase, Status, WorkloadKind};
use mirrorball_monitor::{
    Boot, BootError, DiskConfig, Machine, MonitorError, StopCause, Vm, VmConfig, VmState, WaitError,
};
use mirrorball_pmap::{GroupId, VmId};
use mirrorball_virtio::{BaseImage, OverlayMode};

use super::agent::{Agent, Stage};
use super::cell::Context;
use super::follow::Follower;
use super::guest::Guest;
use super::linux;
use super::networks::{self, Networks};
use super::overdue::Watch;
use super::progress::Progress;
use super::told::{Command, Told};
use super::{Guests, RunError};
use crate::spec::{DiskMode, Experiment, WorkloadSpec};

/// Longest single wait: how late a stop or a timeout can be noticed.
const SLICE: Duration = Duration::from_millis(50);

/// How often guests' status is looked at, if nobody does it more often.
const STATUS_LOOK: Duration = Duration::from_secs(1);

/// What Linux guests get to power off; then they are stopped as they are.
const POWER_OFF: Duration = Duration::from_secs(20);

/// The guests of one run.
#[derive(Debug)]
pub struct Fleet<'a> {
    pub(super) experiment: &'a Experiment,
    /// What boots in place of the splash guest, by guest group.
    others: &'a Guests,
    machine: Arc<Machine>,
    images: BTreeMap<String, Arc<BaseImage>>,
    networks: Networks,
    /// What Linux guests boot, by guest group.
    systems: BTreeMap<String, linux::System>,
    /// For names of files: cell and run.
    label: String,
    /// The results folder.
    folder: PathBuf,
    /// Where overlays of persistent disks go: a folder for this cell and run.
    disks: PathBuf,
    pub(super) guests: Vec<Guest>,
    /// When the guests' status was looked at last, for whether it went back.
    looked: Instant,
    /// Whose consoles are shown, and where.
    consoles: &'a [String],
    progress: Arc<Progress>,
    /// Guests made so far in each group, for their names.
    made: Vec<u32>,
    /// What guests told that are gone, and how any failed.
    pub(super) told: Told,
}

/// How a wait for all guests ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// All guests are there, or have failed.
    All,
    /// The time was over first.
    TimedOut,
    /// The caller wanted to do something else.
    Interrupted,
}

impl<'a> Fleet<'a> {
    /// No guests yet.
    ///
    /// # Errors
    /// A disk image can't be opened.
    pub fn new(context: &Context<'a>, machine: Arc<Machine>) -> Result<Self, RunError> {
        let (experiment, cell, run) = (context.experiment, &context.set.id, context.run);
        let mut opened = BTreeMap::new();
        for (id, path) in context.images {
            opened.insert(id.clone(), machine.open_image(path)?);
        }
        let mut systems = BTreeMap::new();
        for (group, image) in context.systems {
            systems.insert(group.clone(), linux::System::open(&machine, image)?);
        }
        let label = format!("{cell}-run{run}");
        let networks = Networks::new(experiment, &context.folder, &label)?;
        Ok(Self {
            experiment,
            systems,
            label,
            folder: context.folder.clone(),
            others: context.guests,
            machine,
            images: opened,
            networks,
            disks: context.folder.join(format!("disks/{cell}-{run}")),
            guests: Vec::new(),
            looked: Instant::now(),
            consoles: context.consoles,
            progress: context.progress.clone(),
            made: vec![0; experiment.guests.len()],
            told: Told::new(cell, run, context.folder.clone()),
        })
    }

    /// Makes and starts the guests that the experiment begins with. Ends early when `go_on` says no.
    ///
    /// # Errors
    /// The host can't give what a guest needs.
    pub fn start_all(&mut self, go_on: impl Fn() -> bool) -> Result<(), RunError> {
        let began = Instant::now();
        let mut groups: Vec<_> = self.experiment.guests.iter().enumerate().collect();
        groups.sort_by_key(|(_, group)| group.start_at);
        for (index, group) in groups {
            for _ in 0..group.count {
                let left = || group.start_at.0.saturating_sub(began.elapsed());
                while go_on() && !left().is_zero() {
                    std::thread::sleep(SLICE.min(left()));
                }
                if !go_on() {
                    return Ok(());
                }
                self.start(index)?;
                std::thread::sleep(group.stagger.0);
            }
        }
        Ok(())
    }

    /// Makes and starts one guest of a group; `None` when it is the guest's own fault that it can't
    /// boot, which is then a failure of this run like a crash.
    ///
    /// # Errors
    /// The host can't give what it needs.
    pub fn start(&mut self, group: usize) -> Result<Option<Arc<Vm>>, RunError> {
        let spec = &self.experiment.guests[group];
        self.made[group] += 1;
        let name = format!("{}-{}", spec.id, self.made[group]);
        let disks = spec.disks.iter().enumerate().map(|(number, disk)| {
            let image = self
                .images
                .get(&disk.image)
                .cloned()
                .ok_or_else(|| RunError::NoImage(disk.image.clone()))?;
            let mode = match disk.mode {
                DiskMode::Nonpersistent => OverlayMode::Nonpersistent,
                DiskMode::Persistent => {
                    std::fs::create_dir_all(&self.disks).map_err(RunError::DiskFolder)?;
                    OverlayMode::Persistent(self.disks.join(format!("{name}-{number}")))
                }
            };
            Ok(DiskConfig {
                image,
                mode,
                scratch: disk.scratch.0,
            })
        });
        let mut disks = disks.collect::<Result<Vec<_>, RunError>>()?;
        let boot = match (spec.system.linux(), self.systems.get(&spec.id)) {
            (Some(linux), Some(system)) => {
                disks.splice(0..0, system.root_disk());
                let consoles = self.folder.join("consoles");
                std::fs::create_dir_all(&consoles).map_err(RunError::DiskFolder)?;
                let log = consoles.join(format!("{}-{name}.log", self.label));
                Boot::Linux(system.boot(linux, Some(log)))
            }
            (Some(_), None) => return Err(RunError::NoImage(spec.id.clone())),
            (None, _) => Boot::Splash,
        };
        let config = VmConfig {
            name: name.clone(),
            group: GroupId(spec.group),
            memory: spec.memory.0,
            vcpus: spec.vcpus,
            disks,
            networks: self
                .networks
                .place(spec.network.as_ref(), spec.vcpus)?
                .into_iter()
                .collect(),
            console: true,
            balloon: self.experiment.has_balloon(&spec.id),
            boot,
        };
        let made = match self.others.get(&spec.id) {
            Some(elf) => self.machine.create_vm_from(&config, elf),
            None => self.machine.create_vm(&config),
        };
        let vm = match made.and_then(|vm| vm.start().map(|()| vm)) {
            Ok(vm) => vm,
            Err(MonitorError::Boot(cause)) if is_of_the_guest(&cause) => {
                self.told.fail("guest", format!("{name}: {cause}"));
                return Ok(None);
            }
            Err(cause) => return Err(RunError::Guest { name, cause }),
        };
        let shown = self.consoles.contains(&name);
        let follower = shown.then(|| Follower::start(&vm, self.progress.clone()));
        let linux = spec.system.linux();
        self.guests.push(Guest {
            group,
            vm: vm.clone(),
            command: 0,
            agent: linux.map(|linux| Agent::new(&linux.run)),
            watch: linux.map(|linux| Watch::new(linux, Instant::now())),
            follower: follower.transpose().map_err(RunError::Thread)?,
            workload: None,
            settled: false,
            failed: false,
        });
        Ok(Some(vm))
    }

    /// Position of a group by its id.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<usize> {
        self.experiment
            .guests
            .iter()
            .position(|group| group.id == id)
    }

    /// Guests that are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.guests.len()
    }

    /// Gives every idle guest its workload.
    pub fn command_all(&mut self) {
        for guest in self
            .guests
            .iter_mut()
            .filter(|guest| guest.command == 0 && !guest.settled)
        {
            let Some(spec) = self.experiment.guests[guest.group].system.workload() else {
                guest.vm.control_write("go");
                guest.command = 1;
                continue;
            };
            guest.command = guest.vm.command(&command(spec, self.experiment.seed));
        }
    }

    /// Asks every guest to end its workload.
    pub fn request_stop(&self) {
        // A Linux guest has no control page: what is there is its own.
        for guest in self.guests.iter().filter(|guest| guest.agent.is_none()) {
            guest.vm.request_stop();
        }
    }

    /// What the thin guests that are there say of themselves.
    pub fn statuses(&self) -> impl Iterator<Item = Status> {
        let thin = self.guests.iter().filter(|guest| guest.agent.is_none());
        thin.map(|guest| guest.vm.status())
    }

    /// These guests are waited for no more.
    pub fn leave(&mut self, vms: &BTreeSet<VmId>) {
        for guest in &mut self.guests {
            guest.settled |= vms.contains(&guest.vm.id());
        }
    }

    /// Waits until all guests have reached a phase; `look` is called between slices of the wait and
    /// ends it by saying true.
    ///
    /// # Errors
    /// What `look` returns.
    pub fn wait(
        &mut self,
        phase: Phase,
        until: Instant,
        mut look: impl FnMut() -> Result<bool, RunError>,
    ) -> Result<Waited, RunError> {
        for index in 0..self.guests.len() {
            while !self.guests[index].settled {
                let now = Instant::now();
                let slice = SLICE.min(until.saturating_duration_since(now));
                match self.guests[index].wait_until(phase, slice) {
                    Ok(()) => {
                        self.gave_up(index);
                        break;
                    }
                    Err(WaitError::Stopped(cause)) => self.ended(index, &cause),
                    Err(WaitError::TimedOut) if now >= until => return Ok(Waited::TimedOut),
                    Err(WaitError::TimedOut) => {}
                }
                self.end_overdue();
                self.end_lost();
                if look()? {
                    return Ok(Waited::Interrupted);
                }
            }
        }
        Ok(if look()? {
            Waited::Interrupted
        } else {
            Waited::All
        })
    }

    /// Ends the Linux guests that take longer than they may.
    fn end_overdue(&mut self) {
        for guest in self.guests.iter_mut().filter(|guest| !guest.settled) {
            if let Some(what) = guest.overdue() {
                guest.vm.stop();
                (guest.settled, guest.failed) = (true, true);
                let name = guest.vm.name();
                self.told.fail("timeout", format!("{name}: {what}"));
            }
        }
    }

    /// Ends the guests whose memory has been seen not to hold what they wrote.
    fn end_lost(&mut self) {
        let experiment = self.experiment;
        let due = self.looked.elapsed() >= STATUS_LOOK;
        if due {
            self.looked = Instant::now();
        }
        for guest in self.guests.iter_mut().filter(|guest| !guest.settled) {
            if due && guest.agent.is_none() {
                // It compares with what it said before.
                let _ = guest.vm.status();
            }
            // A hostile guest may have written anything there itself.
            let workload = guest.workload.as_deref();
            let workload = workload.or(experiment.guests[guest.group].system.workload());
            let honest = workload.is_some_and(|workload| workload.kind != WorkloadKind::Hostile);
            if let Some(back) = guest.vm.went_back().filter(|_| honest) {
                guest.vm.stop();
                (guest.settled, guest.failed) = (true, true);
                self.told.lost(&guest.vm, &back);
            }
        }
    }

    /// A guest that says it can't go on is a failure of the run, and is waited for no more.
    fn gave_up(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        if let Some(reason) = guest.agent.as_ref().and_then(Agent::failure) {
            guest.settled = true;
            guest.failed = true;
            let text = format!("{}: {reason}", guest.vm.name());
            self.told.fail("guest", text);
        }
    }

    /// A guest's VM stopped by itself: whether that is a failure depends on its workload.
    fn ended(&mut self, index: usize, cause: &StopCause) {
        let guest = &mut self.guests[index];
        guest.settled = true;
        let name = guest.vm.name().to_owned();
        let workload = self.experiment.guests[guest.group].system.workload();
        let hostile = workload.is_some_and(|workload| workload.kind == WorkloadKind::Hostile);
        let done = guest
            .agent
            .as_ref()
            .is_some_and(|agent| agent.stage() == Stage::Done);
        // A hostile guest is there to be stopped for what it did to its devices.
        let expected = match cause {
            StopCause::Requested | StopCause::Exited(0) => true,
            StopCause::PoweredOff => done,
            StopCause::Monitor(_) => false,
            _ => hostile,
        };
        let panic = linux::panic(&guest.vm.console_tail()).filter(|_| guest.agent.is_some());
        let text = match panic {
            Some(panic) => format!("{name}: the guest's kernel panicked: {panic}"),
            None => format!("{name}: {cause}"),
        };
        guest.failed = !expected;
        if !expected {
            self.told.fail("guest", text);
        } else if hostile {
            self.told.note(text);
        }
    }

    /// Records a failure of this run.
    pub fn fail(&mut self, class: &str, cause: String) {
        self.told.fail(class, cause);
    }

    /// Stops all guests, keeping what they told. Linux guests that can are given a while to power
    /// off by themselves.
    pub fn stop_all(&mut self) {
        let up = |guest: &&Guest| {
            let stage = guest.agent.as_ref().map(Agent::stage);
            stage == Some(Stage::Done) && guest.vm.state() == VmState::Running
        };
        let until = Instant::now() + POWER_OFF;
        for guest in self.guests.iter().filter(up) {
            guest.vm.control_write("stop");
        }
        for guest in self.guests.iter().filter(up) {
            let left = until.saturating_duration_since(Instant::now());
            if guest.vm.wait_stopped(left).is_err() {
                let name = guest.vm.name();
                self.told
                    .note(format!("{name}: did not power off when it was told to"));
            }
        }
        while !self.guests.is_empty() {
            self.retire(self.guests.len() - 1);
        }
    }

    /// Stops a guest.
    pub(super) fn retire(&mut self, index: usize) {
        if let VmState::Stopped(cause) = self.guests[index].vm.state() {
            if !self.guests[index].settled {
                self.ended(index, &cause);
            }
        } else {
            self.guests[index].vm.pause();
        }
        let guest = self.guests.remove(index);
        self.collect(guest);
    }

    /// Keeps what a guest that was stopped has told, and gives its memory back.
    fn collect(&mut self, guest: Guest) {
        for net in guest.vm.nets() {
            if let Some(lost) = networks::lost(guest.vm.name(), &net.stats()) {
                self.told.note(lost);
            }
        }
        let Guest {
            group,
            vm,
            command,
            agent,
            failed,
            follower,
            workload,
            ..
        } = guest;
        // It shows the last that was printed.
        drop(follower);
        let spec = &self.experiment.guests[group];
        let whole = self.experiment.phases.workload_for.is_none();
        let workload = workload.as_deref().or(spec.system.workload());
        let said_failed = match (agent, workload) {
            (Some(agent), _) => {
                let whole = command > 0 && whole && !failed;
                let said_failed = self.told.commands(vm.name(), &agent, whole);
                if let Some(linux) = spec.system.linux() {
                    self.told.printed(vm.name(), &spec.id, &linux.metrics);
                }
                said_failed
            }
            (None, Some(workload)) => {
                let command = Command {
                    given: command > 0,
                    whole,
                };
                self.told.work(&vm, &spec.id, workload, command)
            }
            (None, None) => false,
        };
        self.told.latencies(&vm);
        if failed || said_failed {
            self.told.keep_console(&vm);
        }
        self.machine.remove_vm(vm.id());
    }

    /// What the guests told that are gone.
    #[must_use]
    pub fn into_told(self) -> Told {
        self.told
    }
}

/// A workload as a guest is given it; its seed, or else that of the run.
pub(super) fn command(spec: &WorkloadSpec, seed: u64) -> mirrorball_abi::Workload {
    mirrorball_abi::Workload {
        kind: spec.kind as u32,
        cache_percent: spec.cache_percent,
        seed: spec.seed.unwrap_or(seed),
        params: spec.params,
    }
}

/// Whether no host could boot this guest.
const fn is_of_the_guest(cause: &BootError) -> bool {
    !matches!(cause, BootError::Frames(_) | BootError::Memory(_))
}
