//! Runs an experiment: every cell as often as wanted, each run's results on disk as soon as it ends.

mod account;
pub(crate) mod agent;
mod attempts;
mod backing;
mod budget;
mod categories;
mod cell;
mod changes;
mod cpus;
mod dry;
mod error;
mod events;
mod finished;
mod fleet;
mod follow;
mod guest;
mod history;
mod life;
pub mod linux;
mod measure;
mod networks;
mod noise;
mod overdue;
mod pace;
mod policy;
mod precision;
mod prepare;
mod progress;
mod quiet;
mod record;
mod resume;
mod sampler;
mod scanning;
mod schedule;
mod signals;
mod store;
mod timeline;
mod told;
mod watched;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mirrorball_live::Desk;
use parking_lot::Mutex;

pub use budget::Budget;
pub use dry::{Plan, PlannedRun, dry_run};
pub use error::RunError;
pub use finished::Finished;
pub use noise::Noise;
pub use prepare::needs_emulated_host;
pub use progress::Style;
pub use resume::{Invocation, ResumeError, Unfinished};
pub(crate) use schedule::seed_of;
pub use signals::Stop;
pub use store::claims;

use crate::image::Image;
use crate::output::summary::Failure;
use crate::spec::{Experiment, Loaded, Runs};
use cell::Context;
use cpus::Pinned;
use prepare::{Disks, adapted, check_consoles, check_host};
use progress::Progress;
use record::RunRecord;
use sampler::Sink;
use store::Store;

/// Guests by id of their group: static ELFs that keep to the guest interface.
pub type Guests = BTreeMap<String, Arc<[u8]>>;

/// What the host is given to get over what made a run fail.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// What a user may add to an experiment file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Folder of results instead of the file's.
    pub output: Option<PathBuf>,
    /// Runs of each cell instead of the file's.
    pub runs: Option<u32>,
    /// Seed instead of the file's.
    pub seed: Option<u64>,
    /// How often a run is made again that the host spoilt, instead of the file's.
    pub retries: Option<u32>,
    /// Only these mechanism sets.
    pub only: Vec<String>,
    /// Every cell once, as short as it can be.
    pub smoke: bool,
    /// What all of it may take.
    pub budget: Budget,
    /// VMs whose consoles are shown while they run.
    pub console: Vec<String>,
    /// What a failure means for the runs that are left.
    pub on_failure: OnFailure,
    /// How progress is shown.
    pub progress: Style,
    /// Address and port on which figures for Prometheus are served.
    pub metrics: Option<String>,
    /// What boots in place of the splash guest. Results do not tell of it, so the command line has
    /// no such option.
    pub guests: Guests,
}

/// What a failure means for the runs that are left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// A run that failed is noted and the next begins; what ails the whole host ends the experiment.
    #[default]
    GoOn,
    /// The next run begins whatever happened, unless results can't be written.
    KeepGoing,
    /// The first run that fails is the last.
    End,
    /// As soon as so many runs have failed, no other begins.
    EndAfter(u32),
}

/// Runs an experiment.
///
/// # Errors
/// It could not begin. What goes wrong later is in the result, beside what was measured before.
pub fn run(loaded: &Loaded, options: &Options) -> Result<Finished, RunError> {
    start(loaded, options, None)
}

/// Runs what is left of an experiment. `loaded` is [`Unfinished::file`], with paths relative to
/// [`Unfinished::base`].
///
/// # Errors
/// As [`run`]; or it is not the same experiment any more.
pub fn resume(
    loaded: &Loaded,
    options: &Options,
    unfinished: Unfinished,
) -> Result<Finished, RunError> {
    start(loaded, options, Some(unfinished))
}

fn start(
    loaded: &Loaded,
    options: &Options,
    unfinished: Option<Unfinished>,
) -> Result<Finished, RunError> {
    let experiment = adapted(&loaded.experiment, options)?;
    check_consoles(&experiment, &options.console)?;
    let kvm = check_host(&experiment)?;
    let _pinned = Pinned::to(&experiment.machine)?;
    let stop = Stop::on_signals().map_err(RunError::Thread)?;
    let progress = Arc::new(Progress::new(options.progress, experiment.guest_count()));
    progress.line(&format!("{}: {}", experiment.name, plan(&experiment)));
    if crate::doctor::Place::default().is_changed() {
        progress.line(
            "this host is as `doctor --fix` set it; `mirrorball doctor --restore` gives its settings back",
        );
    }
    match &unfinished {
        Some(unfinished) => progress.line(&unfinished.told()),
        None => {
            let directory = experiment.outputs.directory.display();
            progress.line(&format!("results will be below {directory}"));
        }
    }
    let disks = Disks::prepare(&experiment, loaded, &progress);
    let systems = linux::prepare(&experiment, &loaded.folder, &|line| progress.line(line));
    if let Some(code) = stop.requested() {
        // Ctrl-C reaches mkfs.ext4 too: that it failed is no news then.
        progress.finish();
        return Err(RunError::Stopped(code));
    }
    let (disks, systems) = (disks?, systems?);
    let booted = systems.files()?.into_iter();
    let recorded = disks.named().into_iter().chain(booted).collect();
    let (mut store, before) = open_store(&experiment, loaded, options, unfinished, &recorded, kvm)?;
    progress.line(&format!("results: {}", store.path().display()));
    let (desk, server) = watched::open(options.metrics.as_deref(), &progress)?;
    let sink = Arc::new(Mutex::new(Sink::new(store.samples()?, before)));
    let session = Session {
        experiment: &experiment,
        options,
        disks: &disks,
        systems: &systems,
        sink: &sink,
        progress: &progress,
        stop: &stop,
        desk: &desk,
    };
    let error = session.run_all(&mut store);
    drop(server);
    progress.finish();
    let error = error
        .err()
        .or_else(|| sink.lock().error.take().map(RunError::Output));
    Ok(close(store, error, &stop))
}

/// Writes what is made of all runs together.
fn close(mut store: Store, mut error: Option<RunError>, stop: &Stop) -> Finished {
    let interrupted = stop.requested().is_some();
    if let Some(error) = &error {
        store.ended_by(error.to_string());
    }
    if let Err(late) = store.finish(interrupted) {
        // Of two errors the first is the cause; the disk is as full as it was.
        let late = error.get_or_insert(RunError::Output(late));
        store.ended_by(late.to_string());
    }
    let summary = store.summary(interrupted);
    let exit_code = stop
        .requested()
        .or(error.as_ref().map(RunError::exit_code))
        .unwrap_or_else(|| finished::exit_code(&summary));
    Finished {
        summary,
        folder: store.path().to_owned(),
        exit_code,
    }
}

/// The results folder: a new one, or that of what was interrupted, with the time of its last sample, seconds.
fn open_store(
    experiment: &Experiment,
    loaded: &Loaded,
    options: &Options,
    unfinished: Option<Unfinished>,
    images: &BTreeMap<String, Image>,
    kvm: &str,
) -> Result<(Store, f64), RunError> {
    if let Some(unfinished) = unfinished {
        return Ok(Store::resume(experiment, unfinished, images, kvm)?);
    }
    let invocation = |folder: &Path| Invocation {
        folder: resume::relative(folder, &loaded.folder),
        runs: options.runs,
        seed: options.seed,
        retries: options.retries,
        only: options.only.clone(),
        smoke: options.smoke,
        set: loaded.settings.clone(),
    };
    let store = Store::create(experiment, &loaded.text, images, invocation, kvm)?;
    Ok((store, 0.0))
}

/// What all runs of this process have in common.
struct Session<'a> {
    experiment: &'a Experiment,
    options: &'a Options,
    disks: &'a Disks,
    systems: &'a linux::Images,
    sink: &'a Arc<Mutex<Sink>>,
    progress: &'a Arc<Progress>,
    stop: &'a Stop,
    desk: &'a Arc<Desk>,
}

impl Session<'_> {
    /// All runs that are not in the store yet.
    fn run_all(&self, store: &mut Store) -> Result<(), RunError> {
        let planned = schedule::of(self.experiment);
        let all = planned.len();
        let left = planned.into_iter().filter(|planned| !store.has(planned));
        let left = left.collect::<Vec<_>>();
        self.progress.runs_left(left.len());
        let done = all - left.len();
        let mut failures = 0;
        for (done, planned) in (done..).zip(left) {
            if self.stop.requested().is_some() {
                break;
            }
            if !store.wants(&planned) {
                self.progress.run_skipped();
                continue;
            }
            let record = self.attempts(planned, (done, all), store)?;
            failures += u32::from(record.failures.iter().any(Failure::spoils));
            let dirty = record.failures.iter().any(|failure| !failure.spoils());
            self.progress.run_ended(&one_line(&record));
            // The record last: what is in it is finished.
            self.sink.lock().sync()?;
            store.add(record, self.stop.requested().is_some())?;
            let most = match self.options.on_failure {
                OnFailure::GoOn | OnFailure::KeepGoing => u32::MAX,
                OnFailure::End => 1,
                OnFailure::EndAfter(most) => most,
            };
            if failures >= most {
                self.progress
                    .line(&format!("{failures} failed: no other run begins"));
                break;
            }
            if dirty && self.options.on_failure != OnFailure::KeepGoing {
                // Its figures are good; those of later runs would be of another host.
                self.progress
                    .line("the host is not as it was before: no other run begins");
                break;
            }
        }
        Ok(())
    }

    /// A run, made again where that was the host's fault.
    fn attempts(
        &self,
        planned: schedule::Planned,
        position: (usize, usize),
        store: &Store,
    ) -> attempts::Attempt {
        let cell = &self.experiment.matrix[planned.cell].id;
        let retries = self.experiment.repeat.retries;
        let mark = self.sink.lock().mark();
        let attempt = || self.run(planned, position, store);
        attempts::attempts(retries, planned.run, attempt, |number, failure| {
            if self.stop.requested().is_some() {
                return Ok(false);
            }
            let (class, cause) = (&failure.class, &failure.cause);
            let run = planned.run;
            self.progress.line(&format!(
                "{cell} {run}: {class}: {cause}; made again ({number} of {retries})"
            ));
            self.sink.lock().back_to(mark)?;
            store.put_aside(cell, run, number)?;
            Ok(quiet::sleep(BETWEEN_ATTEMPTS, self.stop))
        })
    }

    fn run(
        &self,
        planned: schedule::Planned,
        (done, all): (usize, usize),
        store: &Store,
    ) -> Result<RunRecord, RunError> {
        let set = &self.experiment.matrix[planned.cell];
        let experiment = self.experiment.of(set).with_seed_of(planned.run);
        let context = Context {
            experiment: &experiment,
            set,
            run: planned.run,
            warmup: planned.run <= self.experiment.repeat.warmup,
            guests: &self.options.guests,
            consoles: &self.options.console,
            images: &self.disks.of(&experiment),
            systems: &self.systems.of(&experiment),
            folder: store.path().to_owned(),
            sink: self.sink.clone(),
            progress: self.progress.clone(),
            stop: self.stop.clone(),
            position: (done as u64, all as u64),
            desk: self.desk.clone(),
        };
        let keep_going = self.options.on_failure == OnFailure::KeepGoing;
        match cell::run(&context) {
            Err(RunError::Output(error)) => Err(RunError::Output(error)),
            Err(error) if keep_going || error.is_of_one_run() => Ok(failed(&context, &error)),
            other => other,
        }
    }
}

/// The record of a run that gave no figures.
fn failed(context: &Context<'_>, error: &RunError) -> RunRecord {
    let failure = Failure {
        run: context.run,
        class: error.class().to_owned(),
        cause: error.to_string(),
    };
    RunRecord {
        seed: context.experiment.seed,
        warmup: context.warmup,
        started: jiff::Timestamp::now().to_string(),
        failures: vec![failure],
        ..RunRecord::of(&context.set.id, context.run)
    }
}

/// What an experiment will run, and how long that takes by its own estimate.
#[must_use]
pub fn plan(experiment: &Experiment) -> String {
    let ids = experiment.matrix.iter().map(|set| set.id.as_str());
    let estimate = experiment.estimate.as_ref();
    let time = estimate.and_then(|estimate| estimate.time);
    let time = time.map_or_else(
        || "no estimate of the time".to_owned(),
        |time| format!("about {} s", time.0.as_secs()),
    );
    format!(
        "{} ({}), {} with {} MiB guest-physical memory each time, {time}",
        runs_of(experiment),
        ids.collect::<Vec<_>>().join(", "),
        number(experiment.guest_count(), "guest"),
        experiment.guest_physical() >> 20
    )
}

/// Its runs: so many, or at most so many.
fn runs_of(experiment: &Experiment) -> String {
    let cells = experiment.matrix.len() as u64;
    let most = number(cells * u64::from(experiment.repeat.most()), "run");
    match experiment.repeat.runs {
        Runs::Fixed(_) => most,
        Runs::Until(_) => format!("at most {most}"),
    }
}

fn number(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn one_line(record: &RunRecord) -> String {
    let head = format!("{} {}: {:.1} s", record.cell, record.run, record.seconds);
    match record.failures.first() {
        Some(failure) => format!("{head}, FAILED ({}): {}", failure.class, failure.cause),
        None => {
            let reclaimed = crate::output::table::bytes(record.figures.memory.reclaimed);
            format!("{head}, {reclaimed} reclaimed")
        }
    }
}
