//! The results folder during an experiment: everything that is known is on disk after each run.

use std::collections::BTreeMap;
use std::path::Path;

use mirrorball_report::judge::{Measured, outcomes};
use mirrorball_report::metrics::value;
use mirrorball_report::results::Expectation;
use serde::Serialize;
use serde_json::Value;

use super::precision::{self, Known};
use super::record::RunRecord;
use super::resume::{Invocation, ResumeError, Resumption, Unfinished};
use super::schedule::Planned;
use crate::image::Image;
use crate::output::folder::Folder;
use crate::output::median::median;
use crate::output::samples::{self, SampleWriter};
use crate::output::summary::{Cell, Failure, SCHEMA_VERSION, Summary, Verdict};
use crate::output::{OutputError, README, figure, histogram, provenance, table};
use crate::spec::{Experiment, GuestGroup, MechanismSet, Precision, Runs};

/// `run.json`.
#[derive(Debug, Serialize)]
struct RunFile<'a> {
    schema_version: u32,
    experiment: &'a Experiment,
    provenance: &'a Value,
    images: &'a BTreeMap<String, Image>,
    started: String,
    invocation: &'a Invocation,
    /// Later processes that went on with it.
    resumed: &'a [Resumption],
    ended_by: Option<&'a str>,
    /// In the order in which they were made.
    runs: &'a [RunRecord],
}

/// Results so far.
#[derive(Debug)]
pub struct Store {
    experiment: Experiment,
    /// Its claims as they are in `run.json`: what is judged here is what is judged later.
    expect: Vec<Expectation>,
    folder: Folder,
    provenance: Value,
    emulated: bool,
    images: BTreeMap<String, Image>,
    started: jiff::Timestamp,
    invocation: Invocation,
    resumed: Vec<Resumption>,
    runs: Vec<RunRecord>,
    ended_by: Option<String>,
}

impl Store {
    /// Makes the folder and writes what is known before the first run.
    ///
    /// # Errors
    /// Something can't be written.
    pub fn create(
        experiment: &Experiment,
        text: &str,
        images: &BTreeMap<String, Image>,
        invocation: impl FnOnce(&Path) -> Invocation,
        kvm: &str,
    ) -> Result<Self, OutputError> {
        let started = jiff::Timestamp::now();
        let provenance = provenance::collect(kvm);
        let folder = Folder::stage(&experiment.outputs.directory)?;
        folder.write("README.txt", README.as_bytes())?;
        folder.write("experiment.yaml", text.as_bytes())?;
        let mut store = Self {
            experiment: experiment.clone(),
            expect: claims(experiment),
            emulated: provenance.host.emulated.is_some(),
            provenance: serde_json::to_value(&provenance).unwrap_or_default(),
            images: images.clone(),
            started,
            invocation: invocation(folder.path()),
            resumed: Vec::new(),
            runs: Vec::new(),
            ended_by: None,
            folder,
        };
        store.write(false)?;
        store.folder.publish(&experiment.name, started)?;
        Ok(store)
    }

    /// Goes on with an experiment that was interrupted; with the time of its last sample, seconds.
    ///
    /// # Errors
    /// It is not the same experiment any more, or something can't be written.
    pub fn resume(
        experiment: &Experiment,
        unfinished: Unfinished,
        images: &BTreeMap<String, Image>,
        kvm: &str,
    ) -> Result<(Self, f64), ResumeError> {
        unfinished.check_experiment(experiment)?;
        for (id, image) in images {
            unfinished.check_image(id, &image.digest)?;
        }
        let now = provenance::collect(kvm);
        unfinished.check_host(now.host.emulated)?;
        let before = unfinished.clean()?;
        let mut resumed = unfinished.resumed;
        resumed.push(Resumption {
            started: jiff::Timestamp::now().to_string(),
            runs_before: unfinished.runs.len(),
            provenance: serde_json::to_value(&now).unwrap_or_default(),
        });
        let store = Self {
            experiment: experiment.clone(),
            expect: claims(experiment),
            folder: unfinished.folder,
            emulated: now.host.emulated.is_some(),
            provenance: unfinished.provenance,
            images: images.clone(),
            started: unfinished.started,
            invocation: unfinished.invocation,
            resumed,
            runs: unfinished.runs,
            ended_by: None,
        };
        store.write(false)?;
        Ok((store, before))
    }

    /// Whether that run was finished before.
    #[must_use]
    pub fn has(&self, planned: &Planned) -> bool {
        let id = &self.experiment.matrix[planned.cell].id;
        let mut runs = self.runs.iter();
        runs.any(|run| run.cell == *id && run.run == planned.run)
    }

    /// Whether that run is still needed, now that those before it are made.
    #[must_use]
    pub fn wants(&self, planned: &Planned) -> bool {
        let repeat = &self.experiment.repeat;
        let Runs::Until(precision) = &repeat.runs else {
            return true;
        };
        let id = &self.experiment.matrix[planned.cell].id;
        let earlier = self
            .runs
            .iter()
            .filter(|run| run.cell == *id && !run.warmup);
        let earlier = earlier
            .filter(|run| run.run < planned.run)
            .collect::<Vec<_>>();
        planned.run <= repeat.warmup || self.known(precision, &earlier).stopped.is_none()
    }

    /// What is known of a cell's figure from these runs.
    fn known(&self, precision: &Precision, runs: &[&RunRecord]) -> Known {
        let good = runs.iter().filter(|run| run.complete);
        let good = good.map(|run| &run.figures).collect::<Vec<_>>();
        precision::known(
            precision,
            &good,
            u32::try_from(runs.len()).unwrap_or(u32::MAX),
        )
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A writer for the time series.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn samples(&self) -> Result<SampleWriter, OutputError> {
        let path = self.folder.join("samples.csv");
        if path.exists() {
            return SampleWriter::append_to(path, self.folder.open_file("samples.csv")?);
        }
        let file = self.folder.create_file("samples.csv")?;
        Ok(SampleWriter::new(path, file))
    }

    /// Clears away what an attempt at a run left that is made again. Consoles and outputs stay under
    /// another name: they say why it failed.
    ///
    /// # Errors
    /// Something can't be renamed or removed.
    pub fn put_aside(&self, cell: &str, run: u32, attempt: u32) -> Result<(), OutputError> {
        let mark = format!("attempt{attempt}");
        for folder in ["consoles", "commands"] {
            let name = format!("{cell}-run{run}");
            self.folder.put_aside(folder, &name, &mark)?;
        }
        self.folder.remove_folder(&format!("disks/{cell}-{run}"))
    }

    /// Takes a run in and writes everything anew.
    ///
    /// # Errors
    /// Something can't be written.
    pub fn add(&mut self, mut record: RunRecord, interrupted: bool) -> Result<(), OutputError> {
        self.compare(&mut record);
        let name = format!("histograms/{}-run{}.hlog", record.cell, record.run);
        match histogram::log(&record.histograms, record.clock.0, record.clock.1) {
            Ok(log) if !record.histograms.is_empty() => self.folder.write(&name, &log)?,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, %name, "a histogram could not be encoded"),
        }
        let name = format!("events/{}-run{}.ndjson", record.cell, record.run);
        for warning in &record.warnings {
            record.events.told("warning", warning);
        }
        for failure in &record.failures {
            let text = format!("{}: {}", failure.class, failure.cause);
            record.events.told("failure", &text);
        }
        self.folder.write(&name, record.events.text().as_bytes())?;
        self.runs.push(record);
        self.write(interrupted)
    }

    /// Sharing may change how long a computation takes, never what it gives.
    fn compare(&self, record: &mut RunRecord) {
        for (group, result) in &record.checksums {
            let input = self.input(&record.cell, group);
            let same = |run: &&RunRecord| {
                let seed = run.seed == record.seed;
                seed && same_input(input, self.input(&run.cell, group))
            };
            let earlier = self.runs.iter().filter(same).find(|run| {
                run.checksums
                    .get(group)
                    .is_some_and(|other| other != result)
            });
            if let Some(earlier) = earlier {
                let cause = format!(
                    "guests of {group} computed another result than in {} run {}",
                    earlier.cell, earlier.run
                );
                record.failures.push(Failure {
                    run: record.run,
                    class: "workload".to_owned(),
                    cause,
                });
                record.complete = false;
            }
        }
    }

    /// The guests of a group as a cell has them.
    fn input(&self, cell: &str, group: &str) -> Option<&GuestGroup> {
        let cell = self.experiment.matrix.iter().find(|set| set.id == cell)?;
        let mut groups = self.experiment.of(cell).guests.iter();
        groups.find(|other| other.id == group)
    }

    /// Remembers what ended the experiment early.
    pub fn ended_by(&mut self, cause: String) {
        self.ended_by = Some(cause);
    }

    /// Writes what is made of all runs together: the last summary, the figure and the table.
    ///
    /// # Errors
    /// Something can't be written.
    pub fn finish(&self, interrupted: bool) -> Result<(), OutputError> {
        self.write(interrupted)?;
        let title = self
            .experiment
            .title
            .as_deref()
            .unwrap_or(&self.experiment.name);
        let samples = samples::of_machine(&self.folder.join("samples.csv"));
        if let Some(svg) = figure::memory_svg(title, &samples) {
            self.figure("memory", &svg)?;
        }
        let summary = self.summary(interrupted);
        if let Some(spec) = &self.experiment.sweep
            && let Some(svg) = figure::sweep_svg(title, &summary.cells, spec.published.as_ref())
        {
            self.figure("sweep", &svg)?;
        }
        let table = table::render(&summary, true);
        self.folder
            .write("table.txt", format!("{table}\n").as_bytes())
    }

    fn figure(&self, name: &str, svg: &str) -> Result<(), OutputError> {
        self.folder.write(&format!("{name}.svg"), svg.as_bytes())?;
        match figure::png(svg) {
            Ok(png) => self.folder.write(&format!("{name}.png"), &png)?,
            Err(error) => tracing::warn!(%error, name, "a figure was not written as PNG"),
        }
        Ok(())
    }

    /// The figures so far.
    #[must_use]
    pub fn summary(&self, interrupted: bool) -> Summary {
        let cells = self.experiment.matrix.iter();
        let mut cells = cells.map(|set| self.cell(set)).collect::<Vec<_>>();
        self.judge(&mut cells);
        let mut causes = Vec::new();
        for cell in &cells {
            let failures = cell
                .failures
                .iter()
                .map(|f| format!("{} run {}: {}: {}", cell.id, f.run, f.class, f.cause));
            causes.extend(failures);
            // Without a run there is nothing to expect, and its failure is the cause.
            let missed = cell
                .expect
                .iter()
                .filter(|outcome| outcome.verdict != Verdict::Met && cell.runs > 0)
                .filter(|outcome| outcome.is_told_of(&cell.id))
                .filter(|outcome| outcome.severity.is_fail());
            causes.extend(missed.map(|o| {
                let whose = o.whose(&cell.id);
                format!("{whose}: expectation {} is {}", o.id, o.verdict.word())
            }));
        }
        causes.extend(self.ended_by.clone());
        let ended = self.ended_by.is_some() || interrupted;
        let verdicts = cells.iter().map(table::verdict).collect::<Vec<_>>();
        let any = |verdict| verdicts.contains(&verdict);
        let nothing = verdicts.iter().all(|v| *v == Verdict::NotSupported);
        let verdict = if ended || any(Verdict::Failed) {
            Verdict::Failed
        } else if nothing {
            Verdict::NotSupported
        } else if any(Verdict::NotMet) {
            Verdict::NotMet
        } else if any(Verdict::Inconclusive) || any(Verdict::NotSupported) {
            Verdict::Inconclusive
        } else {
            Verdict::Met
        };
        let name = self.experiment.name.clone();
        Summary {
            schema_version: SCHEMA_VERSION,
            name,
            verdict,
            interrupted,
            emulated: self.emulated,
            smoke: self.invocation.smoke,
            causes,
            cells,
        }
    }

    fn cell(&self, set: &MechanismSet) -> Cell {
        let runs = self
            .runs
            .iter()
            .filter(|run| run.cell == set.id)
            .collect::<Vec<_>>();
        let good = runs
            .iter()
            .filter(|run| run.complete)
            .map(|run| run.figures.clone())
            .collect::<Vec<_>>();
        let figures = median(&good);
        let stopped = match &self.experiment.repeat.runs {
            Runs::Fixed(_) => None,
            Runs::Until(precision) => {
                let counted = runs.iter().copied().filter(|run| !run.warmup);
                self.known(precision, &counted.collect::<Vec<_>>())
                    .told(precision)
            }
        };
        Cell {
            id: set.id.clone(),
            set: set.set_name().to_owned(),
            point: set.point.clone(),
            stopped,
            mechanisms: set.names().into_iter().map(str::to_owned).collect(),
            guests: self.experiment.guest_count_of(set),
            runs: good.len() as u64,
            retried: runs.iter().map(|run| run.earlier.len() as u64).sum(),
            expect: Vec::new(),
            figures,
            failures: runs.iter().flat_map(|run| run.failures.clone()).collect(),
            warnings: runs.iter().flat_map(|run| run.warnings.clone()).collect(),
        }
    }

    /// Judges the claims; all cells are there, for some are about two of them.
    fn judge(&self, cells: &mut [Cell]) {
        let measured = |cell: &Cell, metric: &str| {
            let runs = self.runs.iter().filter(|run| run.cell == cell.id);
            let good = runs.filter(|run| run.complete);
            let values = good.filter_map(|run| Some((run.run, value(&run.figures, metric)?)));
            Measured {
                runs: values.collect(),
                cell: value(&cell.figures, metric),
            }
        };
        let found = outcomes(&self.expect, cells, measured);
        for cell in cells {
            let own = found.iter().filter(|found| found.cells.contains(&cell.id));
            cell.expect = own.map(|found| found.outcome.clone()).collect();
        }
    }

    fn write(&self, interrupted: bool) -> Result<(), OutputError> {
        let file = RunFile {
            schema_version: SCHEMA_VERSION,
            experiment: &self.experiment,
            provenance: &self.provenance,
            images: &self.images,
            started: self.started.to_string(),
            invocation: &self.invocation,
            resumed: &self.resumed,
            ended_by: self.ended_by.as_deref(),
            runs: &self.runs,
        };
        self.folder.write_json("run.json", &file)?;
        self.folder
            .write_json("summary.json", &self.summary(interrupted))
    }
}

/// The claims of an experiment as they are stored.
#[must_use]
pub fn claims(experiment: &Experiment) -> Vec<Expectation> {
    let stored = serde_json::to_value(&experiment.expect);
    let stored = stored.and_then(serde_json::from_value);
    stored.unwrap_or_else(|error| {
        tracing::error!(%error, "claims can't be judged");
        Vec::new()
    })
}

/// Whether guests of a group compute the same in two cells: how many of them there are does not
/// matter.
fn same_input(one: Option<&GuestGroup>, other: Option<&GuestGroup>) -> bool {
    let Some((one, other)) = one.zip(other) else {
        return false;
    };
    let of = |group: &GuestGroup| (group.vcpus, group.memory);
    one.system == other.system && one.disks == other.disks && of(one) == of(other)
}
