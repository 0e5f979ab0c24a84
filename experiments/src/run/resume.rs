//! An experiment that was interrupted, and what is left of it to do.
//!
//! `run.json` is the one record of what is finished: it is replaced as a whole after each run, once
//! everything else of that run is on the disk. Whatever else lies in the folder of a run that is not
//! in it is half a run, and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::RunRecord;
use super::{Options, Style};
use crate::exit;
use crate::output::OutputError;
use crate::output::folder::Folder;
use crate::output::provenance::Emulated;
use crate::output::samples::Sample;
use crate::output::summary::{Failure, SCHEMA_VERSION};

/// Failures of runs that were kept from ending, rather than failed.
const NOT_DONE: [&str; 2] = ["interrupted", "in-use"];
/// Folders that hold files or folders named by cell and run.
const BY_RUN: [&str; 5] = ["histograms", "events", "consoles", "commands", "disks"];

/// Why an experiment can't be resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// There is no experiment in that folder.
    #[error(
        "{path}: {reason}\n  `--resume` wants the results folder of one experiment, which holds \
         `run.json`"
    )]
    NoResults {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Someone else works on it.
    #[error("{0}: another process is running this experiment; wait for it, or end it")]
    Busy(PathBuf),
    /// What would be run now is not what was run.
    #[error(
        "{what} is not what it was when this experiment began: {before} then, {now} now\n  figures \
         of both would not compare; run the experiment anew"
    )]
    Changed {
        /// What changed.
        what: String,
        /// As it was.
        before: String,
        /// As it is.
        now: String,
    },
    /// A file of the results can't be changed.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl ResumeError {
    /// The exit code that it ends the program with.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NoResults { .. } | Self::Changed { .. } => exit::DAMAGED,
            Self::Busy(_) | Self::Output(_) => exit::HOST,
        }
    }
}

/// What the user asked for, so that the rest can be run in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Folder of the experiment file, relative to the results folder.
    pub folder: PathBuf,
    /// Runs of each cell instead of the file's.
    pub runs: Option<u32>,
    /// Seed instead of the file's.
    pub seed: Option<u64>,
    /// How often a run is made again that the host spoilt, instead of the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Only these cells.
    pub only: Vec<String>,
    /// Every cell once, as short as it can be: no result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub smoke: bool,
    /// What was changed of the file, `path=value` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
}

/// A later process that went on with the experiment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resumption {
    /// When it began.
    pub started: String,
    /// Runs that were finished before.
    pub runs_before: usize,
    /// What it was run with, on what.
    pub provenance: Value,
}

/// `run.json`, as far as resuming needs it.
#[derive(Debug, Deserialize)]
struct Record {
    schema_version: u32,
    experiment: Value,
    provenance: Value,
    images: BTreeMap<String, ImageRecord>,
    started: String,
    invocation: Option<Invocation>,
    #[serde(default)]
    resumed: Vec<Resumption>,
    runs: Vec<RunRecord>,
}

#[derive(Debug, Deserialize)]
struct ImageRecord {
    digest: String,
}

/// An experiment that was interrupted. While this value lives, no other process resumes it.
#[derive(Debug)]
pub struct Unfinished {
    pub(super) folder: Folder,
    pub(super) invocation: Invocation,
    pub(super) provenance: Value,
    pub(super) started: jiff::Timestamp,
    pub(super) resumed: Vec<Resumption>,
    pub(super) runs: Vec<RunRecord>,
    experiment: Value,
    images: BTreeMap<String, ImageRecord>,
}

/// What changes no figure: words and curves for readers, claims, which are judged anew, and where results are,
/// which may have been moved.
const WORDS: [&str; 6] = [
    "title", "question", "estimate", "curves", "expect", "outputs",
];

impl Unfinished {
    /// Reads the results folder of an experiment. Runs that failed are done too, unless
    /// `retry_failed`.
    ///
    /// # Errors
    /// It is no such folder, or another process works on it.
    pub fn open(path: &Path, retry_failed: bool) -> Result<Self, ResumeError> {
        let file = path.join("run.json");
        let no_results = |reason: String| ResumeError::NoResults {
            path: file.clone(),
            reason,
        };
        let text = fs::read_to_string(&file).map_err(|error| no_results(error.to_string()))?;
        let folder = Folder::open(path)?.ok_or_else(|| ResumeError::Busy(path.to_owned()))?;
        let record: Record =
            serde_json::from_str(&text).map_err(|error| no_results(error.to_string()))?;
        if record.schema_version != SCHEMA_VERSION {
            let reason = format!("it has format {}", record.schema_version);
            return Err(no_results(format!("{reason}; this is {SCHEMA_VERSION}")));
        }
        let before = "it was written by a version that could not resume".to_owned();
        let invocation = record.invocation.ok_or_else(|| no_results(before))?;
        let started = record.started.parse();
        let started = started.map_err(|error: jiff::Error| no_results(error.to_string()))?;
        let mut runs = record.runs;
        runs.retain(|run| {
            let failed = run.failures.iter().any(Failure::spoils);
            is_done(&run.failures) && !(failed && retry_failed)
        });
        Ok(Self {
            folder,
            invocation,
            provenance: record.provenance,
            started,
            resumed: record.resumed,
            runs,
            experiment: record.experiment,
            images: record.images,
        })
    }

    /// The experiment file as it was given.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join("experiment.yaml")
    }

    /// What paths in it are relative to.
    #[must_use]
    pub fn base(&self) -> PathBuf {
        self.folder.join(&self.invocation.folder.to_string_lossy())
    }

    /// What was changed of it, `path=value` each.
    #[must_use]
    pub fn settings(&self) -> &[String] {
        &self.invocation.set
    }

    /// Where the results folder is, for options and checks that want the folder around it.
    #[must_use]
    pub fn around(&self) -> PathBuf {
        let parent = self.folder.path().parent();
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).to_owned()
    }

    /// What the user asked for when it began.
    #[must_use]
    pub fn options(&self, progress: Style) -> Options {
        Options {
            output: Some(self.around()),
            runs: self.invocation.runs,
            seed: self.invocation.seed,
            retries: self.invocation.retries,
            only: self.invocation.only.clone(),
            smoke: self.invocation.smoke,
            progress,
            ..Options::default()
        }
    }

    /// Whether that run is done.
    pub(super) fn has(&self, cell: &str, run: u32) -> bool {
        let mut runs = self.runs.iter();
        runs.any(|done| done.cell == cell && done.run == run)
    }

    /// What is done of it, in one line.
    pub(super) fn told(&self) -> String {
        let runs = self.runs.len();
        format!(
            "resumed: {runs} run{} done before",
            if runs == 1 { " was" } else { "s were" }
        )
    }

    /// That the rest would be run of the same experiment.
    pub(super) fn check_experiment(&self, now: &impl Serialize) -> Result<(), ResumeError> {
        let now = serde_json::to_value(now).unwrap_or_default();
        let (Value::Object(before), Value::Object(now)) = (&self.experiment, &now) else {
            return Err(Self::changed("the experiment", "unreadable", "readable"));
        };
        let names = before.keys().chain(now.keys()).collect::<BTreeSet<_>>();
        for name in names {
            if !WORDS.contains(&name.as_str()) && before.get(name) != now.get(name) {
                let shown = |value: Option<&Value>| value.map_or("none".into(), Value::to_string);
                return Err(Self::changed(
                    &format!("`{name}` of the experiment"),
                    &shown(before.get(name)),
                    &shown(now.get(name)),
                ));
            }
        }
        Ok(())
    }

    /// That the disks hold the same.
    pub(super) fn check_image(&self, id: &str, digest: &str) -> Result<(), ResumeError> {
        match self.images.get(id) {
            Some(before) if before.digest == digest => Ok(()),
            Some(before) => Err(Self::changed(
                &format!("image {id}"),
                &before.digest,
                digest,
            )),
            None => Err(Self::changed(&format!("image {id}"), "none", digest)),
        }
    }

    /// That times compare.
    pub(super) fn check_host(&self, emulated: Option<Emulated>) -> Result<(), ResumeError> {
        let before = kind_of_host(&self.provenance["host"]["emulated"]);
        let now = kind_of_host(&serde_json::json!(emulated));
        if before == now {
            return Ok(());
        }
        Err(Self::changed("the host", before, now))
    }

    fn changed(what: &str, before: &str, now: &str) -> ResumeError {
        ResumeError::Changed {
            what: what.to_owned(),
            before: before.to_owned(),
            now: now.to_owned(),
        }
    }

    /// Drops what belongs to no finished run; the time of the last sample of those that are finished, seconds.
    pub(super) fn clean(&self) -> Result<f64, ResumeError> {
        let finished = self.runs.iter().map(|run| (run.cell.as_str(), run.run));
        let finished = finished.collect::<BTreeSet<_>>();
        for name in BY_RUN {
            let prefixes = finished
                .iter()
                .flat_map(|(cell, run)| [format!("{cell}-run{run}"), format!("{cell}-{run}")]);
            self.folder.keep_only(name, &prefixes.collect::<Vec<_>>())?;
        }
        self.folder.remove_unfinished()?;
        let path = self.folder.join("samples.csv");
        let rows = csv::Reader::from_path(path).map(|mut reader| {
            let rows = reader.deserialize::<Sample>().map_while(Result::ok);
            let kept = rows.filter(|row| finished.contains(&(row.cell.as_str(), row.run)));
            kept.collect::<Vec<_>>()
        });
        // No file: the end came before the first sample.
        let rows = rows.unwrap_or_default();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written = rows.iter().try_for_each(|row| writer.serialize(row));
        let bytes = written.map_err(std::io::Error::from).and_then(|()| {
            let bytes = writer.into_inner();
            bytes.map_err(csv::IntoInnerError::into_error)
        });
        let bytes = bytes.map_err(|error| OutputError {
            path: self.folder.join("samples.csv"),
            error,
        })?;
        self.folder.write("samples.csv", &bytes)?;
        Ok(rows.last().map_or(0.0, |row| row.time_seconds))
    }
}

/// Hosts of one kind have times that compare; `emulated` is `provenance.host.emulated`.
fn kind_of_host(emulated: &Value) -> &'static str {
    if emulated.is_null() {
        "this machine"
    } else if emulated["by_instructions"] == true {
        "emulated, with a clock that counts instructions"
    } else {
        "emulated"
    }
}

/// Whether a run with these failures came to an end of its own.
fn is_done(failures: &[Failure]) -> bool {
    let mut classes = failures.iter().map(|failure| failure.class.as_str());
    !classes.any(|class| NOT_DONE.contains(&class))
}

/// The way from one folder to another, so that both may be moved together.
pub(super) fn relative(from: &Path, to: &Path) -> PathBuf {
    let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (from, to) = (whole(from), whole(to));
    let common = from.components().zip(to.components());
    let common = common.take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let way = up.chain(to.components().skip(common));
    let way = way.collect::<PathBuf>();
    if way.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_between_folders_goes_up_and_down() {
        let place = tempfile::tempdir().unwrap();
        let (a, b) = (place.path().join("a/deep"), place.path().join("b"));
        fs::create_dir_all(&a).unwrap();
        fs::create_dir_all(&b).unwrap();
        assert_eq!(relative(&a, &b), Path::new("../../b"));
        assert_eq!(relative(&b, &a), Path::new("../a/deep"));
        assert_eq!(relative(&a, &a), Path::new("."));
        assert_eq!(relative(&a, place.path()), Path::new("../.."));
    }

    #[test]
    fn an_interrupted_run_is_not_done_and_a_failed_one_is() {
        let of = |class: &str| Failure {
            run: 1,
            class: class.to_owned(),
            cause: String::new(),
        };
        assert!(is_done(&[]) && is_done(&[of("guest"), of("timeout")]));
        assert!(!is_done(&[of("guest"), of("interrupted")]));
        assert!(!is_done(&[of("in-use")]));
    }

    #[test]
    fn other_folders_are_refused_with_what_was_wanted() {
        let place = tempfile::tempdir().unwrap();
        let refused = || {
            Unfinished::open(place.path(), false)
                .unwrap_err()
                .to_string()
        };
        assert!(
            refused().contains("run.json: No such file"),
            "{}",
            refused()
        );
        fs::write(place.path().join("run.json"), "{\"schema_ver").unwrap();
        assert!(refused().contains("EOF while parsing"), "{}", refused());
        let old = "{\"schema_version\": 1, \"experiment\": {}, \"provenance\": {}, \"images\": {}, \
                   \"started\": \"2026-01-01T00:00:00Z\", \"runs\": []}";
        fs::write(place.path().join("run.json"), old).unwrap();
        assert!(refused().contains("could not resume"), "{}", refused());
        fs::write(place.path().join("run.json"), old.replace(": 1", ": 9")).unwrap();
        assert!(refused().contains("format 9; this is 1"), "{}", refused());
    }
}
