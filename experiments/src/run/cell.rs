//! One run of one cell: from an empty machine to its figures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mirrorball_abi::Phase;
use mirrorball_live::Desk;
use mirrorball_monitor::{Machine, MachineConfig};
use mirrorball_pmap::PmapConfig;
use parking_lot::Mutex;

use mirrorball_debian::GuestImage;

use super::events::Events;
use super::fleet::{Fleet, Waited};
use super::noise::Watch;
use super::pace::Done;
use super::policy::Policy;
use super::progress::Progress;
use super::record::RunRecord;
use super::sampler::{Sampler, Sink};
use super::scanning::{Reading, Scanning, switched_later};
use super::signals::Stop;
use super::watched::Watched;
use super::{Guests, RunError, account, quiet};
use crate::output::provenance;
use crate::output::summary::{Failure, Figures, Workload};
use crate::spec::{Experiment, MechanismSet};

/// How often disk images are looked at for changes.
const IMAGE_CHECK: Duration = Duration::from_millis(500);

/// Everything a run needs.
#[derive(Debug)]
pub struct Context<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// Its mechanism set.
    pub set: &'a MechanismSet,
    /// Run of this cell, from 1.
    pub run: u32,
    /// Whether it is there to warm up only.
    pub warmup: bool,
    /// What boots in place of the splash guest, by guest group.
    pub guests: &'a Guests,
    /// VMs whose consoles are shown.
    pub consoles: &'a [String],
    /// Disk images by id.
    pub images: &'a BTreeMap<String, PathBuf>,
    /// What Linux guests boot, by guest group.
    pub systems: &'a BTreeMap<String, GuestImage>,
    /// The results folder.
    pub folder: PathBuf,
    /// Samples of all runs.
    pub sink: Arc<Mutex<Sink>>,
    /// What the user sees.
    pub progress: Arc<Progress>,
    /// Whether the user wants an end.
    pub stop: Stop,
    /// Runs that have ended, and runs in all.
    pub position: (u64, u64),
    /// Where those who watch take what they see.
    pub desk: Arc<Desk>,
}

/// Runs one cell once.
///
/// # Errors
/// What makes going on with other runs pointless: a changed image, results that can't be written,
/// a host that can't run guests.
pub fn run(context: &Context<'_>) -> Result<RunRecord, RunError> {
    let (clock, began, watch) = (SystemTime::now(), Instant::now(), Watch::start());
    let started = jiff::Timestamp::now().to_string();
    let mut run = Run::new(context)?;
    let thread = run
        .sampler
        .spawn(context.experiment.metrics.sample.0)
        .map_err(RunError::Thread)?;
    let outcome = run.phases();
    run.stop();
    let sampler_seconds = run.sampler.finish(thread);
    let complete = outcome?;
    let mut record = run.into_record();
    record.noise = watch.noise(record.figures.cpu_seconds.ksmd.unwrap_or(0.0));
    record.warnings.extend(record.noise.warning());
    record.sampler_seconds = sampler_seconds;
    record.started = started;
    record.seconds = began.elapsed().as_secs_f64();
    let spoilt = record.failures.iter().any(Failure::spoils);
    record.complete = complete && !spoilt && !context.warmup;
    record.clock = (clock, began.elapsed());
    Ok(record)
}

pub(super) struct Run<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) machine: Arc<Machine>,
    pub(super) scanning: Arc<Mutex<Scanning>>,
    pub(super) sampler: Arc<Sampler>,
    pub(super) fleet: Fleet<'a>,
    pub(super) policy: Option<Arc<Mutex<Policy>>>,
    pub(super) events: Events,
    pub(super) figures: Figures,
    pub(super) warnings: Vec<String>,
    /// The scanners' last word.
    pub(super) reading: Reading,
    image_checked: Instant,
    /// Whether the phase `settle` came to its end.
    converged: bool,
}

impl<'a> Run<'a> {
    /// An empty machine, its sampler and its disk images.
    fn new(context: &'a Context<'a>) -> Result<Self, RunError> {
        let large_pages = context.experiment.machine.large_pages;
        // Where nothing scans, writes are not tracked: the baselines pay for nothing they don't use. But
        // all of them have large pages, or none.
        let pmap = PmapConfig {
            tracking: context.set.scans()
                || large_pages
                || switched_later(context.experiment)
                || context.experiment.policy.is_some(),
            ..PmapConfig::default()
        };
        let config = MachineConfig {
            pmap,
            disk_sharing: context.set.disk,
            large_pages,
            ..MachineConfig::default()
        };
        let machine = Machine::new(&config)?;
        let scanning = Arc::new(Mutex::new(Scanning::None));
        let policy = Policy::start(context.experiment, &machine, &scanning)?;
        let policy = policy.map(|policy| Arc::new(Mutex::new(policy)));
        context.stop.protect(scanning.clone());
        let watched = Watched::new(context, machine.clone(), scanning.clone());
        let sampler = Sampler::new(
            (&context.set.id, context.run),
            machine.clone(),
            scanning.clone(),
            context.sink.clone(),
            (context.progress.clone(), watched),
            policy.clone(),
        );
        let fleet = Fleet::new(context, machine.clone())?;
        Ok(Self {
            context,
            machine,
            scanning,
            sampler,
            fleet,
            policy,
            events: Events::start(),
            figures: Figures::default(),
            warnings: Vec::new(),
            reading: Reading::default(),
            image_checked: Instant::now(),
            converged: true,
        })
    }

    /// What is known once the guests are gone.
    fn into_record(self) -> RunRecord {
        let report = self.fleet.into_told().into_report();
        let mut figures = self.figures;
        figures.integrity = report.integrity;
        for (group, operations) in report.operations {
            if let Some(figures) = figures.groups.get_mut(&group) {
                figures.operations = Some(operations);
            }
        }
        for ((group, name), numbers) in report.printed {
            let group = figures.groups.entry(group).or_default();
            group.printed.insert(name, mean(&numbers));
        }
        figures.workload = Workload {
            operations: report.work.operations,
            bytes: report.work.bytes,
            ..figures.workload
        };
        let mut holds = report.histograms.iter().filter(|(name, _)| *name == "hold");
        figures.sharing.hold_p99_seconds = holds
            .find(|(_, holds)| !holds.is_empty())
            .map(|(_, holds)| Duration::from_nanos(holds.value_at_quantile(0.99)).as_secs_f64());
        let mut warnings = self.warnings;
        warnings.extend(report.notes);
        warnings.extend(self.sampler.watched().interventions());
        RunRecord {
            seed: self.context.experiment.seed,
            warmup: self.context.warmup,
            not_converged: !self.converged,
            events: self.events,
            figures,
            checksums: report.checksums,
            linux: report.linux,
            failures: report.failures,
            warnings,
            scanner: self.reading.ours.map(|stats| format!("{stats:?}")),
            histograms: report.histograms,
            ..RunRecord::of(&self.context.set.id, self.context.run)
        }
    }

    /// All phases but the stop; whether the run came to its end.
    fn phases(&mut self) -> Result<bool, RunError> {
        let go_on = self.start()? && self.workload()? && self.settle()?;
        if go_on {
            self.measure()?;
            self.machine.verify_images()?;
        } else if self.context.stop.requested().is_some() {
            self.fleet
                .fail("interrupted", "stopped by the user".to_owned());
        }
        Ok(go_on)
    }

    fn start(&mut self) -> Result<bool, RunError> {
        let phases = &self.context.experiment.phases;
        let (began, before) = (Instant::now(), provenance::memory("MemAvailable:"));
        let stop = self.context.stop.clone();
        self.context
            .progress
            .phase(&self.context.set.id, self.context.run, "start");
        self.fleet.start_all(|| stop.requested().is_none())?;
        if !self.wait(Phase::Ready, began + phases.start_timeout.0, None)? {
            return Ok(false);
        }
        self.figures.start.seconds = Some(began.elapsed().as_secs_f64());
        let after = provenance::memory("MemAvailable:");
        let guests = (self.fleet.len() as u64).max(1);
        self.figures.start.host_memory_per_guest = before
            .zip(after)
            .and_then(|(before, after)| Some(before.checked_sub(after)? / guests));
        *self.scanning.lock() =
            Scanning::start(self.context.experiment, self.context.set, &self.machine)?;
        Ok(true)
    }

    fn workload(&mut self) -> Result<bool, RunError> {
        let phases = &self.context.experiment.phases;
        self.phase("workload");
        let began = Instant::now();
        self.fleet.command_all();
        let limit = began + phases.workload_timeout.0;
        for timed in &self.context.experiment.timeline {
            if !self.wait(Phase::Done, limit, Some(began + timed.at.0))? {
                return Ok(false);
            }
            self.happen(&timed.event)?;
        }
        if let Some(length) = phases.workload_for {
            let end = began + length.0;
            let measured = phases.measure_after.filter(|after| *after < length);
            let from = measured.map_or(end, |after| began + after.0);
            if !self.wait(Phase::Done, limit, Some(from))? {
                return Ok(false);
            }
            let before = Done::by(self.fleet.statuses());
            if !self.wait(Phase::Done, limit, Some(end))? {
                return Ok(false);
            }
            if measured.is_some() {
                Done::by(self.fleet.statuses()).tell(&before, &mut self.figures.workload);
            }
            self.fleet.request_stop();
            self.leave_stuck();
        }
        let done = self.wait(Phase::Done, limit, None)?;
        self.figures.workload.seconds = done.then(|| began.elapsed().as_secs_f64());
        Ok(done)
    }

    /// Guests that the policy holds because there is no memory, and none to come, can't end: they are
    /// left as they are, and the figures have what they have done.
    fn leave_stuck(&mut self) {
        let Some(policy) = &self.policy else {
            return;
        };
        let stuck = policy.lock().stuck();
        if !stuck.is_empty() {
            self.fleet.leave(&stuck);
            let text = format!(
                "{} guests were held at the end: memory was used up, and there is no swap",
                stuck.len()
            );
            self.warnings.push(text);
        }
    }

    /// Waits until all guests are there, or until `event` comes first; false when the run is over.
    fn wait(
        &mut self,
        phase: Phase,
        limit: Instant,
        event: Option<Instant>,
    ) -> Result<bool, RunError> {
        let (stop, sink) = (self.context.stop.clone(), self.context.sink.clone());
        let (machine, scanning) = (self.machine.clone(), self.scanning.clone());
        let budget = match self.policy {
            // It keeps to the budget as well as can be, and tells how well that was.
            Some(_) => u64::MAX,
            None => self.context.experiment.machine.memory.0,
        };
        let mut checked = self.image_checked;
        let waited = self
            .fleet
            .wait(phase, event.unwrap_or(limit).min(limit), || {
                if checked.elapsed() > IMAGE_CHECK {
                    checked = Instant::now();
                    machine.verify_images()?;
                    let reading = scanning.lock().reading();
                    let used = account::used(&machine.pmap().totals(), &reading);
                    if used > budget {
                        return Err(RunError::Budget { used, budget });
                    }
                }
                match sink.lock().error.take() {
                    Some(error) => Err(RunError::Output(error)),
                    None => Ok(stop.requested().is_some()),
                }
            })?;
        self.image_checked = checked;
        match waited {
            Waited::Interrupted => Ok(false),
            Waited::All => {
                // Guests may be done before an event's time; it happens at its time all the same.
                let left = event.map_or(Duration::ZERO, |event| {
                    event.saturating_duration_since(Instant::now())
                });
                Ok(quiet::sleep(left, &self.context.stop))
            }
            Waited::TimedOut if event.is_some_and(|event| event < limit) => Ok(true),
            Waited::TimedOut => {
                let (what, time) = match phase {
                    Phase::Ready => ("starting", self.context.experiment.phases.start_timeout.0),
                    _ => (
                        "the workload",
                        self.context.experiment.phases.workload_timeout.0,
                    ),
                };
                self.fleet.timed_out(phase, what, time);
                Ok(false)
            }
        }
    }

    /// The next phase begins.
    pub(super) fn phase(&mut self, name: &'static str) {
        self.sampler.phase(name);
        self.events.phase(name);
    }

    fn settle(&mut self) -> Result<bool, RunError> {
        let phases = &self.context.experiment.phases;
        self.phase("settle");
        self.note_groups();
        self.fleet.rest();
        self.machine.map_copied_blocks();
        let converged = quiet::settle(&self.sampler, phases, &self.context.stop);
        if converged == quiet::Settled::TimedOut {
            let time = phases.settle_timeout.0.as_secs_f64();
            let rest = phases.settle_stable.map_or("", |_| " and rest");
            let scans = phases.settle_scans;
            self.warnings.push(format!(
                "not converged: {scans} full scans{rest} took longer than {time} s"
            ));
            self.converged = false;
        }
        Ok(converged != quiet::Settled::Interrupted)
    }

    /// Stops whatever runs; KSM's settings go back.
    fn stop(&mut self) {
        self.phase("stop");
        let began = Instant::now();
        self.end_policy();
        let scanning = std::mem::replace(&mut *self.scanning.lock(), Scanning::None);
        self.fleet.stop_all();
        if let Err(cause) = scanning.stop() {
            self.fleet.fail(Failure::CLEANUP, cause);
        }
        self.figures.stop.seconds = Some(began.elapsed().as_secs_f64());
        if began.elapsed() > self.context.experiment.phases.stop_timeout.0 {
            self.warnings.push(format!(
                "stopping took {:.1} s",
                began.elapsed().as_secs_f64()
            ));
        }
    }
}

/// The mean of some numbers, of which there is one at least.
fn mean(numbers: &[f64]) -> f64 {
    let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    numbers.iter().sum::<f64>() / f64::from(count.max(1))
}
