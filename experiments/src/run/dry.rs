//! What an experiment would do: `run --dry-run` and `validate` start nothing.

use std::fmt::Write as _;

use serde::Serialize;

use super::budget::Needs;
use super::history::History;
use super::{Options, RunError, Unfinished, adapted, number, schedule};
use crate::output::provenance;
use crate::spec::{Experiment, Loaded};

/// What would be run.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The experiment with all defaults filled in, and what the command line changed.
    pub experiment: Experiment,
    /// All runs in their order.
    pub runs: Vec<PlannedRun>,
    /// Guest-physical memory of the largest cell, bytes: no cell can use more.
    pub guest_physical_bytes: u64,
    /// The budget of machine memory, bytes: a run that uses more fails.
    pub budget_bytes: u64,
    /// What the host has available now, bytes.
    pub host_available_bytes: Option<u64>,
    /// What is left to run should take by the file's own estimate, seconds.
    pub estimate_seconds: Option<f64>,
    /// What it should take by what earlier runs took, seconds.
    pub expected_seconds: Option<f64>,
    /// Earlier runs that this is known from.
    pub earlier_runs: usize,
    /// The most machine memory that guests of any of them used, bytes.
    pub earlier_peak_bytes: Option<u64>,
    /// When every timeout of all runs that are left would be over, seconds.
    pub longest_seconds: f64,
    /// Everything of which it takes more than it may; it should not be run then.
    pub over: Vec<String>,
}

/// One run.
#[derive(Debug, Serialize)]
pub struct PlannedRun {
    /// Its cell.
    pub cell: String,
    /// Run of that cell, from 1.
    pub run: u32,
    /// Guests at its start.
    pub guests: u64,
    /// Whether it is there to warm up only.
    pub warmup: bool,
    /// Whether it was done before.
    pub done: bool,
}

/// The plan of an experiment, or of what is left of one.
///
/// # Errors
/// A cell that is not there is asked for, or it is not the same experiment any more.
pub fn dry_run(
    loaded: &Loaded,
    options: &Options,
    unfinished: Option<&Unfinished>,
) -> Result<Plan, RunError> {
    let experiment = adapted(&loaded.experiment, options)?;
    if let Some(unfinished) = unfinished {
        unfinished.check_experiment(&experiment)?;
    }
    let planned = schedule::of(&experiment).into_iter().map(|planned| {
        let set = &experiment.matrix[planned.cell];
        PlannedRun {
            cell: set.id.clone(),
            run: planned.run,
            guests: experiment.guest_count_of(set),
            warmup: planned.run <= experiment.repeat.warmup,
            done: unfinished.is_some_and(|unfinished| unfinished.has(&set.id, planned.run)),
        }
    });
    let runs = planned.collect::<Vec<_>>();
    let left = count(runs.iter().filter(|run| !run.done).count());
    let all = count(loaded.experiment.matrix.len()) * f64::from(loaded.experiment.repeat.most());
    let estimate = experiment.estimate.as_ref().and_then(|e| e.time);
    let mut history = History::of(
        &experiment.outputs.directory,
        &experiment,
        provenance::emulated().is_some(),
    );
    for run in unfinished.iter().flat_map(|unfinished| &unfinished.runs) {
        history.add(&run.cell, run.seconds);
    }
    let expected = runs.iter().filter(|run| !run.done);
    let expected = expected
        .map(|run| history.seconds(&run.cell))
        .sum::<Option<f64>>();
    let phases = &experiment.phases;
    let longest = phases.start_timeout.0
        + phases.workload_timeout.0
        + phases.settle_timeout.0
        + phases.stop_timeout.0;
    let mut plan = Plan {
        over: Vec::new(),
        guest_physical_bytes: experiment.guest_physical(),
        budget_bytes: experiment.machine.memory.0,
        host_available_bytes: provenance::memory("MemAvailable:"),
        estimate_seconds: estimate.map(|time| time.0.as_secs_f64() * left / all),
        expected_seconds: expected.filter(|_| history.runs > 0),
        earlier_runs: history.runs,
        earlier_peak_bytes: history.peak_bytes,
        longest_seconds: longest.as_secs_f64() * left,
        runs,
        experiment,
    };
    plan.over = options.budget.exceeded(&plan.needs());
    Ok(plan)
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn count(number: usize) -> f64 {
    number as f64
}

impl Plan {
    /// What it takes, as well as that is known.
    fn needs(&self) -> Needs {
        let seconds = match (self.expected_seconds, self.estimate_seconds) {
            (Some(seconds), _) => (seconds, "by earlier runs"),
            (None, Some(seconds)) => (seconds, "by the file's estimate"),
            (None, None) => (self.longest_seconds, "at most by its timeouts"),
        };
        let estimate = self.experiment.estimate.as_ref().and_then(|e| e.memory);
        let most = self.guest_physical_bytes.min(self.budget_bytes);
        let memory = match (self.earlier_peak_bytes, estimate) {
            (Some(peak), _) => (peak, "by earlier runs"),
            (None, Some(size)) => (size.0, "by the file's estimate"),
            (None, None) => (most, "at most"),
        };
        Needs {
            seconds,
            memory,
            earlier: self.earlier_peak_bytes,
            allowed: self.budget_bytes,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{}: nothing is started\n", self.experiment.name);
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        let done = self.runs.iter().filter(|run| run.done).count();
        let all = number(self.runs.len() as u64, "run");
        let _ = match done {
            0 => writeln!(out, "runs:    {all}, in this order"),
            done => writeln!(
                out,
                "runs:    {all}, {done} of them done before, in this order"
            ),
        };
        for run in &self.runs {
            let warmup = if run.warmup { ", to warm up" } else { "" };
            let note = if run.done { ", done before" } else { warmup };
            let guests = number(run.guests, "guest");
            let _ = writeln!(out, "           {} {}: {guests}{note}", run.cell, run.run);
        }
        let time = match (self.expected_seconds, self.estimate_seconds) {
            (Some(seconds), _) => {
                let known = number(self.earlier_runs as u64, "earlier run");
                format!("about {seconds:.0} s by {known}")
            }
            (None, Some(seconds)) => format!("about {seconds:.0} s by the file's estimate"),
            (None, None) => "no estimate in the file, and no earlier run".to_owned(),
        };
        let _ = writeln!(
            out,
            "time:    {time}; at most {:.0} s of timeouts",
            self.longest_seconds
        );
        let estimate = self.experiment.estimate.as_ref().and_then(|e| e.memory);
        let estimate = estimate.map_or_else(String::new, |size| {
            format!("about {} by the file's estimate; ", mib(size.0))
        });
        let available = self.host_available_bytes.map_or("n/a".to_owned(), mib);
        let _ = writeln!(
            out,
            "memory:  {estimate}at most {} of guest-physical memory; a run may use {}, this host has \
             {available} available",
            mib(self.guest_physical_bytes),
            mib(self.budget_bytes)
        );
        if let Some(peak) = self.earlier_peak_bytes {
            let _ = writeln!(out, "         earlier runs used {} at most", mib(peak));
        }
        for group in &self.experiment.guests {
            let what = group
                .system
                .workload()
                .map_or("linux", |workload| workload.name);
            let _ = writeln!(
                out,
                "guests:  {}: {} x {}, {}, {what}",
                group.id,
                group.count,
                mib(group.memory.0),
                number(group.vcpus.into(), "vCPU"),
            );
        }
        let outputs = &self.experiment.outputs.directory;
        let estimate = self.experiment.estimate.as_ref().and_then(|e| e.disk);
        let estimate = estimate.map_or_else(String::new, |size| {
            format!(", about {} by the file's estimate", mib(size.0))
        });
        let free = crate::output::folder::free_space(outputs).map_or("n/a".to_owned(), mib);
        let directory = outputs.display();
        let _ = writeln!(
            out,
            "results: below {directory}{estimate}; {free} are free there"
        );
        for over in &self.over {
            let _ = writeln!(out, "OVER:    {over}");
        }
        out
    }
}
