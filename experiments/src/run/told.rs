//! What the guests of a run told: their own words, what the host measured of them, how they failed.
//!
//! A guest's own words may be wrong, or made up by a hostile one. This knows nothing of how guests
//! are started or awaited.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use hdrhistogram::Histogram;
use mirrorball_abi::{Phase, Status, WorkloadKind};
use mirrorball_monitor::Vm;

use super::agent::{Agent, LinuxRecord};
use crate::output::histogram::{Histograms, merged};
use crate::output::summary::{Failure, Integrity, Workload};
use crate::spec::{PrintedMetric, WorkloadSpec};

/// What guests told so far.
#[derive(Debug)]
pub struct Told {
    cell: String,
    run: u32,
    /// Where consoles of failed guests go.
    folder: PathBuf,
    integrity: Integrity,
    work: Workload,
    operations: BTreeMap<String, u64>,
    histograms: BTreeMap<&'static str, Histogram<u64>>,
    /// Results of the guests' own computations, by guest group.
    checksums: BTreeMap<String, BTreeSet<u64>>,
    /// What Linux guests did, by guest.
    linux: BTreeMap<String, LinuxRecord>,
    printed: BTreeMap<(String, String), Vec<f64>>,
    failures: Vec<Failure>,
    notes: Vec<String>,
}

/// Whether a guest had a command, and whether the command was to end by itself.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// It had one.
    pub given: bool,
    /// It was to end by itself.
    pub whole: bool,
}

/// All that the guests of a run told.
#[derive(Debug)]
pub struct Report {
    /// What they verified.
    pub integrity: Integrity,
    /// What they did.
    pub work: Workload,
    /// Units of work of the thin guests, by guest group.
    pub operations: BTreeMap<String, u64>,
    /// Latencies of all of them together.
    pub histograms: Histograms,
    /// What they computed, by guest group, where it is the same in all runs.
    pub checksums: BTreeMap<String, String>,
    /// What Linux guests did, by guest.
    pub linux: BTreeMap<String, LinuxRecord>,
    /// Numbers that Linux guests printed, by guest group and name; one at least of each.
    pub printed: BTreeMap<(String, String), Vec<f64>>,
    /// How they failed.
    pub failures: Vec<Failure>,
    /// What else happened.
    pub notes: Vec<String>,
}

impl Told {
    /// Nothing yet. Consoles of this run's guests will go below `folder`.
    #[must_use]
    pub fn new(cell: &str, run: u32, folder: PathBuf) -> Self {
        Self {
            cell: cell.to_owned(),
            run,
            folder,
            integrity: Integrity {
                verified_pages: Some(0),
                mismatches: Some(0),
            },
            work: Workload {
                seconds: None,
                operations: Some(0),
                bytes: Some(0),
                ..Workload::default()
            },
            operations: BTreeMap::new(),
            histograms: BTreeMap::new(),
            checksums: BTreeMap::new(),
            linux: BTreeMap::new(),
            printed: BTreeMap::new(),
            failures: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Records a failure of this run.
    pub fn fail(&mut self, class: &str, cause: String) {
        self.failures.push(Failure {
            run: self.run,
            class: class.to_owned(),
            cause,
        });
    }

    /// Records that a guest's memory does not hold what the guest wrote: its status went back.
    pub fn lost(&mut self, vm: &Vm, back: &str) {
        let cause = format!(
            "{}: its status page does not hold what it wrote there: {back}",
            vm.name()
        );
        let known = |failure: &Failure| failure.cause == cause;
        if !self.failures.iter().any(known) {
            self.fail("workload", cause);
            // A page that was not as it should be, like any that a guest finds.
            self.integrity.mismatches = self.integrity.mismatches.map(|sum| sum.saturating_add(1));
        }
    }

    /// Records something that is no failure.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Takes in what the commands of a Linux guest came to; `whole` when they were to end by
    /// themselves. True if one failed.
    pub fn commands(&mut self, guest: &str, agent: &Agent, whole: bool) -> bool {
        let record = agent.record();
        for (number, command) in record.commands.iter().enumerate() {
            let name = format!("{}-run{}-{guest}-{number}.txt", self.cell, self.run);
            if !command.output.is_empty() {
                self.keep("commands", &name, &command.output);
            }
        }
        self.linux.insert(guest.to_owned(), record);
        let failure = agent.first_failure().filter(|_| whole);
        if let Some(cause) = &failure {
            self.fail("workload", format!("{guest}: {cause}"));
        }
        failure.is_some()
    }

    /// Takes in the numbers that the commands of a Linux guest of a group printed.
    pub fn printed(&mut self, guest: &str, group: &str, wanted: &[PrintedMetric]) {
        let Some(record) = self.linux.get(guest) else {
            return;
        };
        let outputs = record.commands.iter().rev();
        let outputs: Vec<_> = outputs
            .map(|command| String::from_utf8_lossy(&command.output))
            .collect();
        for metric in wanted {
            match outputs.iter().find_map(|output| metric.find(output)) {
                Some(number) => {
                    let name = (group.to_owned(), metric.id.clone());
                    self.printed.entry(name).or_default().push(number);
                }
                None => self.notes.push(format!(
                    "{guest}: its commands printed no `{}`",
                    metric.text
                )),
            }
        }
    }

    /// Takes in what a thin guest of a group did. True if it failed by its own word.
    pub fn work(&mut self, vm: &Vm, group: &str, work: &WorkloadSpec, command: Command) -> bool {
        let status = vm.status();
        let kind = work.kind;
        let done = command.given && Phase::from_raw(status.phase) == Some(Phase::Done);
        if done && status.outcome == 0 && command.whole && repeatable(kind) {
            let results = self.checksums.entry(group.to_owned()).or_default();
            results.insert(status.checksum);
        }
        let operations = self.operations.entry(group.to_owned()).or_default();
        *operations = operations.saturating_add(status.operations);
        // A hostile guest's word counts for nothing: it may have written anything into its status.
        kind != WorkloadKind::Hostile && self.take_word(vm, &status, done)
    }

    /// Takes in what a guest says of its own work; true if it failed by its own word.
    fn take_word(&mut self, vm: &Vm, status: &Status, done: bool) -> bool {
        let add =
            |sum: &mut Option<u64>, value: u64| *sum = sum.map(|sum| sum.saturating_add(value));
        add(&mut self.integrity.verified_pages, status.verified_pages);
        add(&mut self.integrity.mismatches, status.mismatches);
        add(&mut self.work.operations, status.operations);
        add(&mut self.work.bytes, status.bytes);
        if let Some(back) = vm.went_back() {
            self.lost(vm, &back);
            return true;
        }
        let name = vm.name();
        if done && status.outcome != 0 {
            let length = usize::try_from(status.message_length)
                .unwrap_or(0)
                .min(status.message.len());
            let message = String::from_utf8_lossy(&status.message[..length]).into_owned();
            let disk = disk_error(vm);
            let cause = format!("{name}: outcome {}: {message}{disk}", status.outcome);
            self.fail("workload", cause);
            true
        } else if status.mismatches > 0 {
            let cause = format!("{name}: {} pages held a wrong byte", status.mismatches);
            self.fail("workload", cause);
            true
        } else {
            false
        }
    }

    /// Takes in what the host measured of a guest.
    pub fn latencies(&mut self, vm: &Vm) {
        let mut latencies = vec![
            ("hold", vm.holds()),
            ("exit", vm.exit_times()),
            ("kick", vm.kick_times()),
        ];
        let blocks = vm.block_stats().into_iter();
        latencies.extend(blocks.map(|stats| ("block", stats.latency)));
        for (name, histogram) in latencies {
            let sum = merged(self.histograms.remove(name).into_iter().chain([histogram]));
            if let Some(sum) = sum {
                self.histograms.insert(name, sum);
            }
        }
    }

    /// Keeps the last lines of a guest's console. A guest that crashes at boot has often said
    /// nothing, and an empty file would say no more.
    pub fn keep_console(&mut self, vm: &Vm) {
        let tail = vm.console_tail();
        if tail.is_empty() {
            return;
        }
        let name = format!("{}-run{}-{}.log", self.cell, self.run, vm.name());
        // A console that is logged as a whole needs no tail.
        if !self.folder.join("consoles").join(&name).exists() {
            self.keep("consoles", &name, tail.as_bytes());
        }
    }

    /// Writes a file of the results folder; that it can't be is worth a note.
    fn keep(&mut self, folder: &str, name: &str, bytes: &[u8]) {
        let folder = self.folder.join(folder);
        let path = folder.join(name);
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, bytes));
        if let Err(error) = written {
            self.note(format!("{}: {error}", path.display()));
        }
    }

    /// All of it together.
    #[must_use]
    pub fn into_report(mut self) -> Report {
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
        Report {
            integrity: self.integrity,
            work: self.work,
            operations: self.operations,
            histograms: self.histograms.into_iter().collect(),
            checksums,
            linux: self.linux,
            printed: self.printed,
            failures: self.failures,
            notes: self.notes,
        }
    }
}

/// Whether a workload's result is the same in every guest and every run.
const fn repeatable(kind: WorkloadKind) -> bool {
    matches!(
        kind,
        WorkloadKind::Pmake | WorkloadKind::Scan | WorkloadKind::Splash
    )
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
