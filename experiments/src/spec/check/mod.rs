//! Checks across fields, and of the files that an experiment names. All problems at once.

mod expect;
mod guests;
mod networks;
mod policy;

use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Mark, Severity};
use super::model::{Event, Experiment, ImageSource, Runs};
use super::reader::Marks;
use crate::output::summary;
use mirrorball_debian::ext4;

/// A results folder needs at most this much for a run without persistent disks.
const RESULTS_ROOM: u64 = 64 << 20;

/// What the checks need to know of the host.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Bytes of memory.
    pub memory: u64,
    /// Folder of results that the user wants instead of the file's.
    pub results: Option<PathBuf>,
}

/// All problems of an experiment that was read.
#[must_use]
pub fn check(
    experiment: &Experiment,
    marks: &Marks,
    folder: &Path,
    host: &HostFacts,
) -> Vec<Diagnostic> {
    let mut checks = Checks {
        experiment,
        marks,
        folder,
        found: Vec::new(),
    };
    checks.machine(host);
    checks.guests();
    checks.networks();
    checks.policy();
    checks.images();
    checks.matrix();
    checks.timeline();
    checks.repeats();
    checks.expectations();
    checks.curves();
    checks.outputs(host.results.as_deref());
    checks.found
}

/// Images that no guest of any cell has. Only the whole experiment tells: a sweep may give each cell
/// another one.
#[must_use]
pub fn unused(experiment: &Experiment, marks: &Marks, folder: &Path) -> Vec<Diagnostic> {
    let checks = Checks {
        experiment,
        marks,
        folder,
        found: Vec::new(),
    };
    let cells = experiment.matrix.iter().map(|set| experiment.of(set));
    let groups = cells
        .flat_map(|cell| &cell.guests)
        .chain(&experiment.guests);
    let disks = groups.flat_map(|group| &group.disks);
    let used = disks.map(|disk| disk.image.as_str()).collect::<Vec<_>>();
    let images = experiment.images.keys();
    let unused = images.filter(|id| !used.contains(&id.as_str()) && !experiment.guests.is_empty());
    let told = |id: &String| {
        let problem = checks.problem(&format!("images.{id}"), "no guest has this image");
        problem.severity(Severity::Warning)
    };
    unused.map(told).collect()
}

/// The path of a file that an experiment names: relative to the experiment file.
#[must_use]
pub fn resolve(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path)
}

struct Checks<'a> {
    experiment: &'a Experiment,
    marks: &'a Marks,
    folder: &'a Path,
    found: Vec<Diagnostic>,
}

impl Checks<'_> {
    /// A problem at a field; at the nearest field around it when it was not written.
    fn problem(&self, path: &str, message: impl Into<String>) -> Diagnostic {
        let mut around = path;
        let mark = loop {
            if let Some(mark) = self.marks.get(around) {
                break *mark;
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None if around.is_empty() => break Mark::START,
                None => around = "",
            }
        };
        Diagnostic::new(mark, message).at(path)
    }

    fn add(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    fn machine(&mut self, host: &HostFacts) {
        let budget = self.experiment.machine.memory.0;
        if self.marks.contains_key("machine.memory") && budget > host.memory {
            let problem = self
                .problem(
                    "machine.memory",
                    format!("this host has {}", mib(host.memory)),
                )
                .expected(format!("at most {}", mib(host.memory)));
            self.add(problem.severity(Severity::Host));
        }
        let physical = self.experiment.guest_physical();
        if physical > host.memory {
            let problem = self
                .problem(
                    "guests",
                    format!(
                        "guest-physical memory is {}, this host has {}",
                        mib(physical),
                        mib(host.memory)
                    ),
                )
                .help("this works only while guests leave memory untouched or share it");
            self.add(problem.severity(Severity::Warning));
        }
    }

    fn images(&mut self) {
        for (id, source) in &self.experiment.images {
            let path = format!("images.{id}");
            let problem = match source {
                ImageSource::CargoRegistry { limit } if !(1 << 20..=1 << 30).contains(&limit.0) => {
                    Some(
                        self.problem(
                            &format!("{path}.limit"),
                            "an image of this size is not useful",
                        )
                        .expected("1 MiB to 1 GiB"),
                    )
                }
                ImageSource::CargoRegistry { .. } => None,
                ImageSource::Directory(directory) => self.directory(&path, directory),
                ImageSource::File(file) => self.file(&path, file),
            };
            self.found.extend(problem);
        }
    }

    fn directory(&self, path: &str, directory: &Path) -> Option<Diagnostic> {
        let resolved = resolve(self.folder, directory);
        let path = format!("{path}.directory");
        let shown = directory.display();
        match std::fs::metadata(&resolved) {
            Err(error) => Some(
                self.problem(&path, format!("`{shown}`: {}", reason(&error)))
                    .expected("a folder that exists"),
            ),
            Ok(meta) if !meta.is_dir() => {
                let problem = self
                    .problem(&path, format!("`{shown}` is a file"))
                    .expected("a folder");
                Some(problem.help("for an ext4 image, write `file:` instead"))
            }
            Ok(_) => None,
        }
    }

    fn file(&self, path: &str, file: &Path) -> Option<Diagnostic> {
        let resolved = resolve(self.folder, file);
        let path = format!("{path}.file");
        let shown = file.display();
        match std::fs::metadata(&resolved) {
            Err(error) => Some(
                self.problem(&path, format!("`{shown}`: {}", reason(&error)))
                    .expected("an ext4 image that exists"),
            ),
            Ok(meta) if meta.is_dir() => {
                let problem = self
                    .problem(&path, format!("`{shown}` is a folder"))
                    .expected("an ext4 image");
                Some(
                    problem
                        .help("to make an image of the folder's files, write `directory:` instead"),
                )
            }
            Ok(_) => match ext4::inspect(&resolved) {
                Ok(_) => None,
                Err(error) => Some(
                    self.problem(&path, format!("`{shown}`: {error}"))
                        .expected("a whole ext4 image, as `mkfs.ext4` makes it"),
                ),
            },
        }
    }

    fn matrix(&mut self) {
        let sets = &self.experiment.matrix;
        for (index, set) in sets.iter().enumerate() {
            if sets[..index].contains(set) {
                let path = format!("matrix[{index}]");
                self.add(
                    self.problem(&path, format!("`{}` is there twice", set.id))
                        .expected("each mechanism set once"),
                );
            }
        }
        for (field, used) in [
            ("scanner", sets.iter().any(|set| set.scans())),
            ("ksm", sets.iter().any(|set| set.ksm)),
        ] {
            if self.marks.contains_key(field) && !used && !sets.is_empty() {
                let problem = self.problem(
                    field,
                    "no mechanism set of this experiment uses these settings",
                );
                self.add(problem.severity(Severity::Warning));
            }
        }
    }

    fn timeline(&mut self) {
        let mut later = self.experiment.guests.clone();
        let groups = self.experiment.guests.iter();
        let groups = groups.map(|group| group.id.as_str()).collect::<Vec<_>>();
        for (index, timed) in self.experiment.timeline.iter().enumerate() {
            let path = format!("timeline[{index}]");
            if let Some(end) = self
                .experiment
                .phases
                .workload_for
                .filter(|end| timed.at >= *end)
            {
                let problem = self.problem(&format!("{path}.at"), "the workload has ended by then");
                self.add(problem.expected(format!("before {} s", end.0.as_secs_f64())));
            }
            let (field, guests) = match &timed.event {
                Event::StopGuests { guests, .. } => ("stop-guests", guests),
                Event::StartGuests { guests, .. } => ("start-guests", guests),
                Event::SetBalloon { guests, .. } => ("set-balloon", guests),
                Event::RunWorkload { guests, .. } => ("run-workload", guests),
                Event::SetClaim(change) => ("set-claim", &change.guests),
                Event::SetIdleTax { tax } => {
                    self.idle_tax(&format!("{path}.set-idle-tax"), *tax);
                    continue;
                }
                Event::Switch { .. } | Event::Checkpoint { .. } | Event::Mark { .. } => continue,
            };
            if !groups.is_empty() && !groups.contains(&guests.as_str()) {
                let problem = self
                    .problem(
                        &format!("{path}.{field}.guests"),
                        format!("there is no guest group `{guests}`"),
                    )
                    .expected(format!("an id of `guests`: {}", list(&groups)))
                    .nearest(guests, groups.iter().copied());
                self.add(problem);
            }
            self.event_of_kind(&path, guests, &timed.event);
            if let Event::SetClaim(change) = &timed.event {
                self.claim_change(&format!("{path}.set-claim"), change, &mut later);
            }
        }
    }

    fn repeats(&mut self) {
        if let Runs::Until(precision) = &self.experiment.repeat.runs {
            self.metric("repeat.runs.until.metric", &precision.metric);
        }
    }

    /// Whether there is such a metric.
    fn metric(&mut self, path: &str, metric: &str) {
        let groups = &self.experiment.guests;
        let of_group = summary::group_metric(metric)
            .is_some_and(|(id, _)| groups.iter().any(|group| group.id == id));
        let printed = summary::printed_metric(metric).is_some_and(|(id, name)| {
            let linux = groups.iter().find(|group| group.id == id);
            let linux = linux.and_then(|group| group.system.linux());
            linux.is_some_and(|linux| linux.metrics.iter().any(|metric| metric.id == name))
        });
        if !summary::METRICS.contains(&metric) && !of_group && !printed {
            let problem = self
                .problem(path, format!("there is no metric `{metric}`"))
                .expected(format!("one of {}", metrics_like(metric)))
                .nearest(metric, summary::METRICS.iter().copied());
            self.add(problem);
        }
    }

    fn outputs(&mut self, instead: Option<&Path>) {
        let directory = instead.unwrap_or(&self.experiment.outputs.directory);
        let path = "outputs.directory";
        if let Err(error) = crate::output::folder::check_writable(directory) {
            let problem = self.problem(
                path,
                format!("`{}`: {}", directory.display(), reason(&error)),
            );
            self.add(
                problem
                    .severity(Severity::Host)
                    .expected("a folder where results can be written"),
            );
        } else if let Some(free) =
            crate::output::folder::free_space(directory).filter(|free| *free < RESULTS_ROOM)
        {
            let problem = self.problem(
                path,
                format!("`{}` has {} free", directory.display(), mib(free)),
            );
            self.add(
                problem
                    .severity(Severity::Host)
                    .expected(format!("at least {}", mib(RESULTS_ROOM))),
            );
        }
    }
}

/// A size as it would be written.
fn size(bytes: u64) -> String {
    match bytes {
        whole if whole.is_multiple_of(1 << 20) => mib(whole),
        other => format!("{other} B"),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// The metrics of the group that was written, or all groups.
fn metrics_like(written: &str) -> String {
    let group = |metric: &str| metric.split('.').next().unwrap_or_default().to_owned();
    let like = summary::METRICS
        .iter()
        .filter(|metric| group(metric) == group(written));
    let like = like.copied().collect::<Vec<_>>();
    if !like.is_empty() {
        return like.join(", ");
    }
    let mut groups = summary::METRICS
        .iter()
        .map(|metric| format!("{}.*", group(metric)))
        .collect::<Vec<_>>();
    groups.dedup();
    groups.join(", ")
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "there are none".to_owned()
    } else {
        names.join(", ")
    }
}

/// An I/O error without the number that the standard library appends.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}
