//! `summary.json`: the figures of every cell, for people's scripts.
//!
//! The names are fixed by the design; bytes, seconds, counts. What was not measured is `null`,
//! never 0.

mod figures;
mod names;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use figures::{
    Accounting, ByCategory, ByMechanism, CpuSeconds, Disk, Figures, Footprint, Group, Integrity,
    Ksm, Memory, Policy, Sharing, Start, Stop, Workload,
};
pub use names::{GROUP_METRICS, METRICS, group_metric, printed_metric};

/// Version of the format; raised when a name changes or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// The whole result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The experiment's name.
    pub name: String,
    /// All in all.
    pub verdict: Verdict,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// Whether it was measured on an emulated host: times then compare within this result only.
    #[serde(default)]
    pub emulated: bool,
    /// Whether every cell was only tried, as shortly as possible: its figures say nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub smoke: bool,
    /// Everything that keeps the verdict from being `met`.
    pub causes: Vec<String>,
    /// One for each mechanism set.
    pub cells: Vec<Cell>,
}

impl Summary {
    /// Claims that are not met, and are to be told though they don't count.
    pub fn missed_warnings(&self) -> impl Iterator<Item = (&str, &Outcome)> {
        self.cells.iter().flat_map(|cell| {
            let missed = cell.expect.iter().filter(|outcome| {
                outcome.severity == Severity::Warn
                    && outcome.verdict == Verdict::NotMet
                    && outcome.is_told_of(&cell.id)
            });
            missed.map(|outcome| (cell.id.as_str(), outcome))
        })
    }
}

/// How an experiment, or an expectation, came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As expected.
    Met,
    /// Not as expected.
    NotMet,
    /// It can't be said.
    Inconclusive,
    /// A run failed.
    Failed,
    /// This host can't do it.
    NotSupported,
}

impl Verdict {
    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "not met",
            Self::Inconclusive => "inconclusive",
            Self::Failed => "failed",
            Self::NotSupported => "not supported here",
        }
    }
}

/// Why the repeats of a cell ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// `precise`: the figure was known well enough; `max-runs`: it was not, after all runs that were
    /// allowed.
    pub because: String,
    /// The figure.
    pub metric: String,
    /// Half the width of its interval, as a part of its mean.
    pub relative_half_width: Option<f64>,
}

/// One cell: the medians over its runs that did not fail.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cell {
    /// Id: that of the mechanism set, and the name of the sweep's point.
    pub id: String,
    /// The mechanism set: the id without the point; empty in results of older versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub set: String,
    /// Mechanisms that were on.
    pub mechanisms: Vec<String>,
    /// What the sweep changed of the file, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub point: BTreeMap<String, Value>,
    /// Guests at the start.
    pub guests: u64,
    /// Runs that count: neither failed nor for warming up.
    pub runs: u64,
    /// Attempts at its runs that failed by the host's fault and were made again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retried: u64,
    /// Why there were no more runs, where that was for the figures to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Runs that failed.
    pub failures: Vec<Failure>,
    /// What was noticed on the way.
    pub warnings: Vec<String>,
    /// Expectations of this cell.
    pub expect: Vec<Outcome>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cell {
    /// The mechanism set. Older versions did not store it; their ids end with the number of guests.
    #[must_use]
    pub fn set_name(&self) -> &str {
        match self.id.rsplit_once('-') {
            _ if !self.set.is_empty() => &self.set,
            Some((name, number)) if number.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => &self.id,
        }
    }
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Number of the run in its cell, from 1.
    pub run: u32,
    /// `guest`, `guest-hung`, `workload`, `timeout`, `accounting`, `memory`, `not-supported`,
    /// `in-use`, `host`, `interrupted`, `cleanup-failed`.
    pub class: String,
    /// What happened.
    pub cause: String,
}

impl Failure {
    /// The class of a failure after everything was measured.
    pub const CLEANUP: &str = "cleanup-failed";

    /// Whether it keeps the run's figures from counting.
    #[must_use]
    pub fn spoils(&self) -> bool {
        self.class != Self::CLEANUP
    }

    /// Whether it is the host's, and may be gone another time.
    #[must_use]
    pub fn is_of_the_host(&self) -> bool {
        matches!(self.class.as_str(), "host" | "in-use")
    }
}

/// How an expectation came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its id.
    pub id: String,
    /// How it came out.
    pub verdict: Verdict,
    /// The value that was measured, or the ratio; of a curve its worst step, in the direction that is
    /// claimed.
    pub value: Option<f64>,
    /// Its 95 % interval over the runs; `None` for fewer than three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// What it means if it is not met.
    #[serde(default, skip_serializing_if = "Severity::is_fail")]
    pub severity: Severity,
    /// The value that a paper published.
    pub published: Option<f64>,
    /// The cells of a curve, in the order that is claimed; empty for a claim about one cell. Each of
    /// them has this outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<String>,
}

impl Outcome {
    /// Whether it is to be told of this cell: of a curve it is told once, with its first.
    #[must_use]
    pub fn is_told_of(&self, cell: &str) -> bool {
        self.cells.first().is_none_or(|first| first == cell)
    }

    /// Whose it is, for people: the cell's, or all those of the curve.
    #[must_use]
    pub fn whose(&self, cell: &str) -> String {
        match self.cells.as_slice() {
            [] => cell.to_owned(),
            cells => cells.join(", "),
        }
    }
}

/// What it means if an expectation is not met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The exit code tells.
    #[default]
    Fail,
    /// It is told.
    Warn,
    /// It is written down.
    Info,
}

impl Severity {
    /// Whether the exit code tells.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
    pub const fn is_fail(&self) -> bool {
        matches!(self, Self::Fail)
    }
}
