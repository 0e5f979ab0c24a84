//! The guests of one run: made, started, commanded, awaited, stopped, and what they told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mirrorball_abi::{Phase, Status, WorkloadKind};
use mirrorball_monitor::{
    BootError, DiskConfig, Machine, MonitorError, StopCause, Vm, VmConfig, VmState, WaitError,
};
use mirrorball_pmap::GroupId;
use mirrorball_virtio::{BaseImage, OverlayMode};

use super::cell::Context;
use super::{Guests, RunError};
use crate::output::histogram::{Histograms, merged};
use crate::output::summary::{Failure, Integrity, Workload};
use crate::spec::{DiskMode, Experiment};

/// Longest single wait: how late a stop or a timeout can be noticed.
const SLICE: Duration = Duration::from_millis(50);

/// One guest.
#[derive(Debug)]
struct Guest {
    /// Position of its group in the experiment.
    group: usize,
    vm: Arc<Vm>,
    /// Number of its last command; 0 before the first.
    command: u64,
    /// It has ended its workload, or will never.
    settled: bool,
    /// It is a cause of the run's failure.
    failed: bool,
}

/// The guests of one run.
#[derive(Debug)]
pub struct Fleet<'a> {
    experiment: &'a Experiment,
    /// What boots in place of the splash guest, by guest group.
    others: &'a Guests,
    machine: Arc<Machine>,
    images: BTreeMap<String, Arc<BaseImage>>,
    /// Where consoles of failed guests go.
    folder: PathBuf,
    /// Where overlays of persistent disks go: a folder for this cell and run.
    disks: PathBuf,
    guests: Vec<Guest>,
    /// Guests made so far in each group, for their names.
    made: Vec<u32>,
    /// What guests told that are gone.
    integrity: Integrity,
    work: Workload,
    histograms: BTreeMap<&'static str, Histogram<u64>>,
    /// Results of the guests' own computations, by guest group.
    checksums: BTreeMap<String, BTreeSet<u64>>,
    failures: Vec<Failure>,
    notes: Vec<String>,
    cell: &'a str,
    run: u32,
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
        Ok(Self {
            experiment,
            others: context.guests,
            machine,
            images: opened,
            folder: context.folder.clone(),
            disks: context.folder.join(format!("disks/{cell}-{run}")),
            guests: Vec::new(),
            made: vec![0; experiment.guests.len()],
            integrity: Integrity {
                verified_pages: Some(0),
                mismatches: Some(0),
            },
            work: Workload {
                seconds: None,
                operations: Some(0),
                bytes: Some(0),
            },
            histograms: BTreeMap::new(),
            checksums: BTreeMap::new(),
            failures: Vec::new(),
            notes: Vec::new(),
            cell,
            run,
        })
    }

    /// Makes and starts the guests that the experiment begins with. Ends early when `go_on` says no.
    ///
    /// # Errors
    /// The host can't give what a guest needs.
    pub fn start_all(&mut self, go_on: impl Fn() -> bool) -> Result<(), RunError> {
        for (index, group) in self.experiment.guests.iter().enumerate() {
            for _ in 0..group.count {
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
        let config = VmConfig {
            name: name.clone(),
            group: GroupId(spec.group),
            memory: spec.memory.0,
            vcpus: spec.vcpus,
            disks: disks.collect::<Result<_, RunError>>()?,
            console: true,
        };
        let made = match self.others.get(&spec.id) {
            Some(elf) => self.machine.create_vm_from(&config, elf),
            None => self.machine.create_vm(&config),
        };
        let vm = match made.and_then(|vm| vm.start().map(|()| vm)) {
            Ok(vm) => vm,
            Err(MonitorError::Boot(cause)) if is_of_the_guest(&cause) => {
                self.fail("guest", format!("{name}: {cause}"));
                return Ok(None);
            }
            Err(cause) => return Err(RunError::Guest { name, cause }),
        };
        self.guests.push(Guest {
            group,
            vm: vm.clone(),
            command: 0,
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
            let spec = &self.experiment.guests[guest.group].workload;
            let workload = mirrorball_abi::Workload {
                kind: spec.kind as u32,
                cache_percent: spec.cache_percent,
                seed: spec.seed.unwrap_or(self.experiment.seed),
                params: spec.params,
            };
            guest.command = guest.vm.command(&workload);
        }
    }

    /// Asks every guest to end its workload.
    pub fn request_stop(&self) {
        for guest in &self.guests {
            guest.vm.request_stop();
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
                let guest = &self.guests[index];
                match guest.vm.wait_until(
                    phase,
                    guest.command,
                    SLICE.min(until.saturating_duration_since(now)),
                ) {
                    Ok(()) => break,
                    Err(WaitError::Stopped(cause)) => self.ended(index, &cause),
                    Err(WaitError::TimedOut) if now >= until => return Ok(Waited::TimedOut),
                    Err(WaitError::TimedOut) => {}
                }
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

    /// A guest's VM stopped by itself: whether that is a failure depends on its workload.
    fn ended(&mut self, index: usize, cause: &StopCause) {
        let guest = &mut self.guests[index];
        guest.settled = true;
        let name = guest.vm.name().to_owned();
        let kind = self.experiment.guests[guest.group].workload.kind;
        // A hostile guest is there to be stopped for what it did to its devices.
        let expected = matches!(cause, StopCause::Requested | StopCause::Exited(0))
            || kind == WorkloadKind::Hostile && !matches!(cause, StopCause::Monitor(_));
        let text = format!("{name}: {cause}");
        guest.failed = !expected;
        if expected {
            self.notes.push(text);
        } else {
            self.fail("guest", text);
        }
    }

    /// Names the guests that have not reached a phase.
    pub fn timed_out(&mut self, phase: Phase, what: &str, limit: Duration) {
        let late = self
            .guests
            .iter_mut()
            .filter(|guest| !guest.settled && guest.vm.status().phase < phase as u32);
        let names = late
            .map(|guest| {
                guest.failed = true;
                guest.vm.name().to_owned()
            })
            .collect::<Vec<_>>();
        let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if names.len() > 5 {
            format!(" and {} more", names.len() - 5)
        } else {
            String::new()
        };
        self.fail(
            "timeout",
            format!(
                "{what} took longer than {} s: {shown}{more}",
                limit.as_secs_f64()
            ),
        );
    }

    /// Records a failure of this run.
    pub fn fail(&mut self, class: &str, cause: String) {
        self.failures.push(Failure {
            run: self.run,
            class: class.to_owned(),
            cause,
        });
    }

    /// Stops the oldest guests of a group.
    pub fn stop_oldest(&mut self, group: usize, count: u32) {
        for _ in 0..count {
            let Some(index) = self.guests.iter().position(|guest| guest.group == group) else {
                return;
            };
            self.retire(index);
        }
    }

    /// Stops all guests, keeping what they told.
    pub fn stop_all(&mut self) {
        while !self.guests.is_empty() {
            self.retire(self.guests.len() - 1);
        }
    }

    /// Stops a guest.
    fn retire(&mut self, index: usize) {
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

    /// Takes in what a guest says of its own work; false if it failed by its own word.
    fn take_word(&mut self, guest: &Guest, status: &Status, done: bool) -> bool {
        let add =
            |sum: &mut Option<u64>, value: u64| *sum = sum.map(|sum| sum.saturating_add(value));
        add(&mut self.integrity.verified_pages, status.verified_pages);
        add(&mut self.integrity.mismatches, status.mismatches);
        add(&mut self.work.operations, status.operations);
        add(&mut self.work.bytes, status.bytes);
        let name = guest.vm.name();
        if done && status.outcome != 0 {
            let length = usize::try_from(status.message_length)
                .unwrap_or(0)
                .min(status.message.len());
            let message = String::from_utf8_lossy(&status.message[..length]).into_owned();
            let disk = disk_error(&guest.vm);
            let cause = format!("{name}: outcome {}: {message}{disk}", status.outcome);
            self.fail("workload", cause);
            false
        } else if status.mismatches > 0 {
            let cause = format!("{name}: {} pages held a wrong byte", status.mismatches);
            self.fail("workload", cause);
            false
        } else {
            true
        }
    }

    fn collect(&mut self, mut guest: Guest) {
        let status = guest.vm.status();
        let done = Phase::from_raw(status.phase) == Some(Phase::Done) && guest.command > 0;
        // A hostile guest's word counts for nothing: it may have written anything into its status.
        if self.experiment.guests[guest.group].workload.kind != WorkloadKind::Hostile {
            guest.failed |= !self.take_word(&guest, &status, done);
        }
        let spec = &self.experiment.guests[guest.group];
        if done && status.outcome == 0 && self.repeatable(spec.workload.kind) {
            let results = self.checksums.entry(spec.id.clone()).or_default();
            results.insert(status.checksum);
        }
        let mut latencies = vec![("hold", guest.vm.holds()), ("exit", guest.vm.exit_times())];
        latencies.push(("kick", guest.vm.kick_times()));
        latencies.extend(
            guest
                .vm
                .block_stats()
                .into_iter()
                .map(|stats| ("block", stats.latency)),
        );
        for (name, histogram) in latencies {
            let sum = merged(self.histograms.remove(name).into_iter().chain([histogram]));
            if let Some(sum) = sum {
                self.histograms.insert(name, sum);
            }
        }
        if guest.failed {
            self.keep_console(guest.vm.name(), &guest.vm.console_tail());
        }
        self.machine.remove_vm(guest.vm.id());
    }

    /// Whether a workload's result is the same in every guest and every run.
    fn repeatable(&self, kind: WorkloadKind) -> bool {
        let whole = self.experiment.phases.workload_for.is_none();
        whole
            && matches!(
                kind,
                WorkloadKind::Pmake | WorkloadKind::Scan | WorkloadKind::Splash
            )
    }

    /// A guest that crashes at boot has often said nothing, and an empty file would say no more.
    fn keep_console(&mut self, name: &str, tail: &str) {
        if tail.is_empty() {
            return;
        }
        let folder = self.folder.join("consoles");
        let path = folder.join(format!("{}-run{}-{name}.log", self.cell, self.run));
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, tail));
        if let Err(error) = written {
            self.notes.push(format!("{}: {error}", path.display()));
        }
    }

    /// What guests that are gone told, and how they failed.
    #[must_use]
    pub fn into_report(mut self) -> FleetReport {
        let mut checksums = BTreeMap::new();
        for (group, results) in std::mem::take(&mut self.checksums) {
            if results.len() > 1 {
                self.fail(
                    "workload",
                    format!("guests of {group} computed different results from the same input"),
                );
            }
            if let Some(result) = results.first() {
                checksums.insert(group, format!("{result:016x}"));
            }
        }
        FleetReport {
            integrity: self.integrity,
            work: self.work,
            histograms: self.histograms.into_iter().collect(),
            checksums,
            failures: self.failures,
            notes: self.notes,
        }
    }
}

/// Whether no host could boot this guest.
const fn is_of_the_guest(cause: &BootError) -> bool {
    !matches!(cause, BootError::Frames(_) | BootError::Memory(_))
}

/// What was wrong with a VM's disks, as the host saw it: the guest only knows that there was an
/// error.
fn disk_error(vm: &Vm) -> String {
    let last = vm.block_stats().into_iter().rev();
    last.filter_map(|stats| stats.last_error)
        .map(|error| format!("; disk: {error}"))
        .next()
        .unwrap_or_default()
}

/// What the guests of a run told.
#[derive(Debug)]
pub struct FleetReport {
    /// What they verified.
    pub integrity: Integrity,
    /// What they did.
    pub work: Workload,
    /// Latencies of all of them together.
    pub histograms: Histograms,
    /// What they computed, by guest group, where it is the same in all runs.
    pub checksums: BTreeMap<String, String>,
    /// How they failed.
    pub failures: Vec<Failure>,
    /// What else happened.
    pub notes: Vec<String>,
}
