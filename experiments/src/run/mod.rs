//! Runs an experiment: every cell as often as wanted, each run's results on disk as soon as it ends.

mod account;
mod cell;
mod fleet;
mod progress;
mod quiet;
mod sampler;
mod scanning;
mod schedule;
mod signals;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mirrorball_dedup::ksm::{Ksm, KsmUnavailable};
use mirrorball_monitor::{MonitorError, probe};
use parking_lot::Mutex;

pub use progress::Style;
pub use signals::Stop;

use crate::exit;
use crate::image::{self, Image, ImageError};
use crate::output::OutputError;
use crate::output::summary::{Failure, Figures, Summary, Verdict};
use crate::spec::{Capability, Experiment, Loaded, MechanismSet};
use cell::{Context, RunRecord};
use progress::Progress;
use sampler::Sink;
use store::Store;

/// Files of results that a user is told of, where they are there.
const FILES: [&str; 5] = [
    "table.txt",
    "memory.png",
    "summary.json",
    "run.json",
    "samples.csv",
];

/// Guests by id of their group: static ELFs that keep to the guest interface.
pub type Guests = BTreeMap<String, Arc<[u8]>>;

/// What a user may add to an experiment file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Folder of results instead of the file's.
    pub output: Option<PathBuf>,
    /// Runs of each cell instead of the file's.
    pub runs: Option<u32>,
    /// Seed instead of the file's.
    pub seed: Option<u64>,
    /// Only these mechanism sets.
    pub only: Vec<String>,
    /// How progress is shown.
    pub progress: Style,
    /// What boots in place of the splash guest. Results do not tell of it, so the command line has
    /// no such option.
    pub guests: Guests,
}

/// Why an experiment could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The host lacks something.
    #[error("{finding}\n  {remedy}")]
    Host {
        /// What was found.
        finding: String,
        /// What to do.
        remedy: String,
    },
    /// A cell that the experiment does not have was asked for.
    #[error("there is no cell `{0}`; this experiment has {1}")]
    NoCell(String, String),
    /// The monitor can't go on.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The host can't give what a guest needs.
    #[error("{name} could not be started: {cause}")]
    Guest {
        /// The VM.
        name: String,
        /// Why.
        #[source]
        cause: MonitorError,
    },
    /// KSM can't be used.
    #[error(transparent)]
    Ksm(#[from] KsmUnavailable),
    /// Guest memory can't be given to KSM.
    #[error("guest memory could not be given to KSM: {0}")]
    Mergeable(std::io::Error),
    /// There is no disk image.
    #[error("the image could not be made: {0}")]
    Image(#[from] ImageError),
    /// The experiment names an image that was not prepared.
    #[error("there is no image `{0}`")]
    NoImage(String),
    /// There is no place for the persistent disks.
    #[error("the folder of the persistent disks could not be made: {0}")]
    DiskFolder(std::io::Error),
    /// Results can't be written.
    #[error("results could not be written: {0}")]
    Output(#[from] OutputError),
    /// Guests use more machine memory than the experiment allows.
    #[error("guests use {used} bytes of machine memory; `machine.memory` allows {budget}")]
    Budget {
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// The user wanted an end before there was a run; with the exit code of the signal.
    #[error("stopped before the first run; nothing was written")]
    Stopped(u8),
    /// There is no thread or signal handler to be had.
    #[error("the system gave no thread: {0}")]
    Thread(std::io::Error),
}

impl RunError {
    /// Whether other runs of the experiment may still go well.
    const fn is_of_one_run(&self) -> bool {
        matches!(
            self,
            Self::Budget { .. } | Self::Ksm(_) | Self::Mergeable(_)
        )
    }

    /// The class of failure that it makes of a run.
    const fn class(&self) -> &'static str {
        match self {
            // It can be run, only not now: a planned run that was not done is a failure.
            Self::Ksm(KsmUnavailable::InUse(_)) => "in-use",
            Self::Ksm(_) => "not-supported",
            Self::Budget { .. } => "memory",
            _ => "host",
        }
    }

    /// The exit code that it ends the program with.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped(code) => *code,
            Self::NoCell(..) => exit::USAGE,
            Self::NoImage(_) => exit::INTERNAL,
            Self::Monitor(MonitorError::Disk(_))
            | Self::Guest {
                cause: MonitorError::Disk(_),
                ..
            }
            | Self::Budget { .. } => exit::RUN_FAILED,
            _ => exit::HOST,
        }
    }
}

/// What an experiment gave.
#[derive(Debug)]
pub struct Finished {
    /// The figures.
    pub summary: Summary,
    /// Where they are.
    pub folder: PathBuf,
    /// The exit code that says how it went.
    pub exit_code: u8,
}

impl Finished {
    /// The last lines for people: the verdict, the files and what to do next.
    #[must_use]
    pub fn closing(&self, file: &Path) -> String {
        let folder = self.folder.display();
        let files = FILES
            .into_iter()
            .filter(|name| self.folder.join(name).exists());
        let files = files.collect::<Vec<_>>().join(", ");
        let again = format!("mirrorball run {}", file.display());
        let next = if self.summary.interrupted {
            again
        } else if self.folder.join("consoles").exists() {
            format!("less {folder}/consoles/*")
        } else {
            match self.summary.verdict {
                Verdict::Met => format!("xdg-open {folder}/memory.png"),
                Verdict::NotMet => format!("less {folder}/summary.json"),
                // What failed was told by a run, not by the host.
                Verdict::Failed if self.summary.cells.iter().any(|c| !c.failures.is_empty()) => {
                    format!("less {folder}/summary.json")
                }
                Verdict::Inconclusive | Verdict::NotSupported | Verdict::Failed => {
                    "mirrorball doctor".to_owned()
                }
            }
        };
        let verdict = if self.summary.interrupted {
            "stopped before the end"
        } else {
            self.summary.verdict.word()
        };
        format!("verdict: {verdict}\nresults: {folder} ({files})\nnext:    {next}\n")
    }
}

/// Runs an experiment.
///
/// # Errors
/// It could not begin. What goes wrong later is in the result, beside what was measured before.
pub fn run(loaded: &Loaded, options: &Options) -> Result<Finished, RunError> {
    let experiment = adapted(&loaded.experiment, options)?;
    let kvm = check_host(&experiment)?;
    let stop = Stop::on_signals().map_err(RunError::Thread)?;
    let runs = experiment.matrix.len() * experiment.repeat.runs as usize;
    let progress = Arc::new(Progress::new(
        options.progress,
        runs,
        experiment.guest_count(),
    ));
    let directory = experiment.outputs.directory.display();
    progress.line(&format!("{}: {}", experiment.name, plan(&experiment)));
    progress.line(&format!("results will be below {directory}"));
    let images = prepare_images(&experiment, loaded, &progress);
    if let Some(code) = stop.requested() {
        // Ctrl-C reaches mkfs.ext4 too: that it failed is no news then.
        progress.finish();
        return Err(RunError::Stopped(code));
    }
    let images = images?;
    let mut store = Store::create(&experiment, &loaded.text, &images, kvm)?;
    progress.line(&format!("results: {}", store.path().display()));
    let sink = Arc::new(Mutex::new(Sink::new(store.samples()?)));
    let paths = images
        .into_iter()
        .map(|(id, image)| (id, image.path))
        .collect();
    let error = run_all(
        &experiment,
        &options.guests,
        &paths,
        &mut store,
        &sink,
        &progress,
        &stop,
    );
    progress.finish();
    let mut error = error
        .err()
        .or_else(|| sink.lock().error.take().map(RunError::Output));
    let interrupted = stop.requested().is_some();
    if let Some(error) = &error {
        store.ended_by(error.to_string());
    }
    if let Err(late) = store.finish(&sink.lock().machine, interrupted) {
        // Of two errors the first is the cause; the disk is as full as it was.
        let late = error.get_or_insert(RunError::Output(late));
        store.ended_by(late.to_string());
    }
    let summary = store.summary(interrupted);
    let exit_code = stop
        .requested()
        .or(error.as_ref().map(RunError::exit_code))
        .unwrap_or_else(|| exit_code(&summary));
    Ok(Finished {
        summary,
        folder: store.path().to_owned(),
        exit_code,
    })
}

fn run_all(
    experiment: &Experiment,
    guests: &Guests,
    images: &BTreeMap<String, PathBuf>,
    store: &mut Store,
    sink: &Arc<Mutex<Sink>>,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<(), RunError> {
    let planned = schedule::schedule(
        experiment.matrix.len(),
        experiment.repeat.runs,
        experiment.repeat.order,
    );
    for planned in planned {
        if stop.requested().is_some() {
            break;
        }
        let context = Context {
            experiment,
            set: &experiment.matrix[planned.cell],
            run: planned.run,
            guests,
            images,
            folder: store.path().to_owned(),
            sink: sink.clone(),
            progress: progress.clone(),
            stop: stop.clone(),
        };
        let record = match cell::run(&context) {
            Ok(record) => record,
            Err(error) if error.is_of_one_run() => failed(context.set, planned.run, &error),
            Err(error) => return Err(error),
        };
        progress.run_ended(&one_line(&record));
        store.add(record, stop.requested().is_some())?;
    }
    Ok(())
}

/// The record of a run that gave no figures.
fn failed(set: &MechanismSet, run: u32, error: &RunError) -> RunRecord {
    let failure = Failure {
        run,
        class: error.class().to_owned(),
        cause: error.to_string(),
    };
    RunRecord {
        cell: set.id.clone(),
        run,
        started: jiff::Timestamp::now().to_string(),
        seconds: 0.0,
        complete: false,
        figures: Figures::default(),
        checksums: BTreeMap::new(),
        failures: vec![failure],
        warnings: Vec::new(),
        scanner: None,
        histograms: Vec::new(),
        clock: (std::time::SystemTime::now(), std::time::Duration::ZERO),
    }
}

/// The experiment with the user's own wishes in it.
fn adapted(experiment: &Experiment, options: &Options) -> Result<Experiment, RunError> {
    let mut experiment = experiment.clone();
    for id in &options.only {
        if !experiment.matrix.iter().any(|set| set.id == *id) {
            let ids = experiment
                .matrix
                .iter()
                .map(|set| set.id.as_str())
                .collect::<Vec<_>>();
            return Err(RunError::NoCell(id.clone(), ids.join(", ")));
        }
    }
    if !options.only.is_empty() {
        experiment
            .matrix
            .retain(|set| options.only.contains(&set.id));
        let cells = experiment
            .matrix
            .iter()
            .map(|set| set.id.clone())
            .collect::<Vec<_>>();
        experiment
            .expect
            .retain(|expect| expect.cell.as_ref().is_none_or(|cell| cells.contains(cell)));
    }
    if let Some(directory) = &options.output {
        experiment.outputs.directory.clone_from(directory);
    }
    experiment.repeat.runs = options.runs.unwrap_or(experiment.repeat.runs).max(1);
    experiment.seed = options.seed.unwrap_or(experiment.seed);
    Ok(experiment)
}

/// Whether this host can run the experiment; the kind of its KVM.
fn check_host(experiment: &Experiment) -> Result<&'static str, RunError> {
    let report = probe::host();
    let mut wanted = experiment.machine.requires.clone();
    wanted.push(Capability::Kvm);
    for capability in wanted {
        match capability {
            Capability::Ksm => Ksm::available()?,
            Capability::Root if rustix::process::geteuid().is_root() => {}
            Capability::Root => {
                let remedy =
                    "run it with sudo, or take `root` out of `machine.requires`".to_owned();
                return Err(RunError::Host {
                    finding: "this experiment needs root".to_owned(),
                    remedy,
                });
            }
            Capability::Kvm => check(&report, "kvm")?,
            Capability::PagemapScan => check(&report, "pagemap-scan")?,
            Capability::Userfaultfd => check(&report, "userfaultfd")?,
        }
    }
    Ok(crate::doctor::kvm_word(report.kvm))
}

fn check(report: &probe::HostReport, id: &str) -> Result<(), RunError> {
    match report.checks.iter().find(|check| check.id == id) {
        Some(check) if check.state == probe::CheckState::Fail => Err(RunError::Host {
            finding: check.finding.clone(),
            remedy: check.remedy.clone(),
        }),
        _ => Ok(()),
    }
}

fn prepare_images(
    experiment: &Experiment,
    loaded: &Loaded,
    progress: &Progress,
) -> Result<BTreeMap<String, Image>, RunError> {
    let mut images = BTreeMap::new();
    for (id, source) in &experiment.images {
        let image = image::prepare(
            source,
            &loaded.folder,
            experiment.seed,
            &image::cache_folder(),
        )?;
        let how = if image.cached { "as before" } else { "built" };
        progress.line(&format!(
            "image {id}: {} MiB, {how} ({})",
            image.bytes >> 20,
            image.path.display()
        ));
        images.insert(id.clone(), image);
    }
    Ok(images)
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
        number(
            experiment.matrix.len() as u64 * u64::from(experiment.repeat.runs),
            "run"
        ),
        ids.collect::<Vec<_>>().join(", "),
        number(experiment.guest_count(), "guest"),
        experiment.guest_physical() >> 20
    )
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

/// The exit code of a summary.
fn exit_code(summary: &Summary) -> u8 {
    match summary.verdict {
        Verdict::Met | Verdict::Inconclusive => exit::OK,
        Verdict::NotSupported => exit::HOST,
        Verdict::NotMet => exit::NOT_MET,
        Verdict::Failed => exit::RUN_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_say_verdict_files_and_what_to_do_next() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("summary.json"), "{}").unwrap();
        let mut finished = Finished {
            summary: Summary {
                schema_version: 1,
                name: "x".into(),
                verdict: Verdict::Failed,
                interrupted: true,
                causes: vec![],
                cells: vec![],
            },
            folder: place.path().to_owned(),
            exit_code: exit::INTERRUPTED,
        };
        let stopped = finished.closing(Path::new("x.yaml"));
        assert!(stopped.contains("verdict: stopped"), "{stopped}");
        assert!(stopped.contains("(summary.json)"), "{stopped}");
        assert!(stopped.ends_with("mirrorball run x.yaml\n"), "{stopped}");

        finished.summary.interrupted = false;
        finished.summary.verdict = Verdict::NotSupported;
        assert_eq!(super::exit_code(&finished.summary), exit::HOST);
        finished.summary.verdict = Verdict::Failed;
        std::fs::create_dir(place.path().join("consoles")).unwrap();
        let failed = finished.closing(Path::new("x.yaml"));
        assert!(failed.contains("verdict: failed"), "{failed}");
        assert!(failed.ends_with("consoles/*\n"), "{failed}");
    }
}
