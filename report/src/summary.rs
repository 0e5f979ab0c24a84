//! `summary.json`: the figures of every cell, for people's scripts.
//!
//! The names are fixed by the design; bytes, seconds, counts. What was not measured is `null`,
//! never 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the format; raised when a name changes or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// Every metric that an expectation can name: paths inside a cell.
pub const METRICS: &[&str] = &[
    "memory.guest_physical",
    "memory.touched",
    "memory.private",
    "memory.shared",
    "memory.reclaimed",
    "memory.zero",
    "memory.frames",
    "memory.ballooned",
    "memory.swapped",
    "memory.oracle_reclaimable",
    "memory.machine_used",
    "memory.overhead",
    "by_mechanism.disk",
    "by_mechanism.network",
    "by_mechanism.content",
    "by_mechanism.zero",
    "by_mechanism.ksm",
    "by_category.text.touched",
    "by_category.text.machine",
    "by_category.data.touched",
    "by_category.data.machine",
    "by_category.cache.touched",
    "by_category.cache.machine",
    "by_category.kept",
    "accounting.pmap",
    "accounting.kernel",
    "accounting.gap",
    "cpu_seconds.vcpu",
    "cpu_seconds.device",
    "cpu_seconds.scanner",
    "cpu_seconds.ksmd",
    "integrity.verified_pages",
    "integrity.mismatches",
    "workload.seconds",
    "workload.operations",
    "workload.bytes",
    "disk.mapped_pages",
    "disk.copied_pages",
    "disk.mapped_share",
    "disk.image_reads",
    "sharing.oracle_share",
    "sharing.reclaimed_share",
    "sharing.vmas",
    "sharing.broken_pages",
    "sharing.hold_p99_seconds",
    "sharing.scans",
    "policy.overshoot",
    "policy.least_free",
    "policy.soft_seconds",
    "policy.hard_seconds",
    "policy.low_seconds",
    "policy.held_seconds",
    "policy.swapped_out_pages",
    "policy.swapped_in_pages",
    "policy.swap_in_p99_seconds",
    "policy.active_error",
    "policy.cpu_seconds",
    "start.seconds",
    "start.host_memory_per_guest",
    "stop.seconds",
];

/// Figures of each group of guests, as `groups.<id>.<figure>`, in experiments with a memory policy.
pub const GROUP_METRICS: &[&str] = &[
    "allocated",
    "target",
    "active",
    "ballooned",
    "swapped",
    "operations",
];

/// The group and the figure that a path of [`GROUP_METRICS`] names.
#[must_use]
pub fn group_metric(path: &str) -> Option<(&str, &str)> {
    let (id, figure) = path.strip_prefix("groups.")?.split_once('.')?;
    GROUP_METRICS.contains(&figure).then_some((id, figure))
}

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

/// Figures of one run, or the medians of a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Memory at the end of the quiet period, bytes.
    pub memory: Memory,
    /// Reclaimed bytes.
    pub by_mechanism: ByMechanism,
    /// What guests' memory is used for.
    #[serde(default)]
    pub by_category: ByCategory,
    /// The pmap's account against the kernel's.
    pub accounting: Accounting,
    /// CPU time.
    pub cpu_seconds: CpuSeconds,
    /// What the guests verified.
    pub integrity: Integrity,
    /// What the workload did.
    pub workload: Workload,
    /// What guests read from their disks.
    #[serde(default)]
    pub disk: Disk,
    /// How sharing went.
    pub sharing: Sharing,
    /// What the memory policy did; `null` without one.
    #[serde(default)]
    pub policy: Policy,
    /// Guests by their group, at the end of the workload; of experiments with a memory policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Group>,
    /// Starting the guests.
    pub start: Start,
    /// Stopping them.
    pub stop: Stop,
    /// The KSM baseline's own counters; `null` in cells without it.
    pub ksm: Option<Ksm>,
}

/// Memory at the end of the quiet period, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Size of all guests.
    pub guest_physical: Option<u64>,
    /// Pages that were ever used.
    pub touched: Option<u64>,
    /// Pages of one guest only.
    pub private: Option<u64>,
    /// Pages that map a frame with more than one reference, or the zero page.
    pub shared: Option<u64>,
    /// Shared minus the frames that back them.
    pub reclaimed: Option<u64>,
    /// Pages that are the zero page.
    pub zero: Option<u64>,
    /// Frames of the frame store.
    pub frames: Option<u64>,
    /// Given back by the balloon; `null` as long as there is none.
    pub ballooned: Option<u64>,
    /// Swapped out by the monitor; `null` as long as it does not swap.
    pub swapped: Option<u64>,
    /// What perfect sharing would reclaim at that instant, what is reclaimed already included.
    pub oracle_reclaimable: Option<u64>,
    /// Machine memory that guests use: private pages and frames.
    pub machine_used: Option<u64>,
    /// The monitor's own bookkeeping.
    pub overhead: Option<u64>,
}

/// Reclaimed bytes by mechanism.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ByMechanism {
    /// Copy-on-write disk and boot images.
    pub disk: Option<u64>,
    /// Network; `null` as long as guests have none.
    pub network: Option<u64>,
    /// Content scanning.
    pub content: Option<u64>,
    /// Zero pages.
    pub zero: Option<u64>,
    /// KSM, its zero pages included; the pmap's mechanisms are blind to it.
    pub ksm: Option<u64>,
}

/// What thin guests use memory for (Disco, figure 6), bytes; `null` with Linux guests, whose pages
/// nobody can tell apart, and with KSM, which merges below the books.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ByCategory {
    /// The guests' code, constants and page tables.
    pub text: Footprint,
    /// Their stacks, heaps and all else.
    pub data: Footprint,
    /// Their buffer caches, what comes over the network included.
    pub cache: Footprint,
    /// Frames that no guest maps at the moment: boot images' data that all have changed.
    pub kept: Option<u64>,
}

/// One kind of memory from both sides, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    /// As guests see it: what it would take if nothing were shared (the paper's V).
    pub touched: Option<u64>,
    /// What the machine needs for it (the paper's M). A frame that is used for several things counts
    /// for the first of text, data and cache.
    pub machine: Option<u64>,
}

/// The pmap's account of machine memory against the kernel's, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accounting {
    /// Private pages and frames by the pmap.
    pub pmap: Option<u64>,
    /// Proportional set size of guest regions, and resident frames.
    pub kernel: Option<u64>,
    /// Their difference as a fraction of the kernel's figure.
    pub gap: Option<f64>,
}

/// CPU time by component, seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuSeconds {
    /// vCPU threads.
    pub vcpu: Option<f64>,
    /// Device workers.
    pub device: Option<f64>,
    /// Our scanner.
    pub scanner: Option<f64>,
    /// The kernel's.
    pub ksmd: Option<f64>,
}

/// What guests verified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Integrity {
    /// Pages whose every byte was compared.
    pub verified_pages: Option<u64>,
    /// Pages that held a wrong byte.
    pub mismatches: Option<u64>,
}

/// What the workload did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// From the command to the last guest's end.
    pub seconds: Option<f64>,
    /// Units of work of all guests.
    pub operations: Option<u64>,
    /// Bytes worked on.
    pub bytes: Option<u64>,
}

/// What guests read from their disks, before any scan could find it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// Guest pages that were served by mapping a block's frame.
    pub mapped_pages: Option<u64>,
    /// Pages' worth of bytes that were copied: what is no whole page, was written by the guest
    /// itself, or is kept unshared.
    pub copied_pages: Option<u64>,
    /// The mapped ones as a fraction of both.
    pub mapped_share: Option<f64>,
    /// Reads of the images' files, for all guests together.
    pub image_reads: Option<u64>,
}

/// How sharing went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sharing {
    /// Reclaimed as a fraction of what perfect sharing would reclaim.
    pub oracle_share: Option<f64>,
    /// Reclaimed as a fraction of the memory that guests use (ESX Server, figure 4).
    pub reclaimed_share: Option<f64>,
    /// Mappings in use.
    pub vmas: Option<u64>,
    /// Shared pages that were broken by a write; `null` with KSM, whose breaks nobody counts.
    pub broken_pages: Option<u64>,
    /// Time that writers were held, 99th percentile.
    pub hold_p99_seconds: Option<f64>,
    /// Passes of the scanner, or full scans of KSM.
    pub scans: Option<u64>,
}

/// What the memory policy did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The most by which memory in use was above the budget, as a part of it.
    pub overshoot: Option<f64>,
    /// The least that was free, as a part of the budget.
    pub least_free: Option<f64>,
    /// Time in the state `soft`.
    pub soft_seconds: Option<f64>,
    /// Time in the state `hard`.
    pub hard_seconds: Option<f64>,
    /// Time in the state `low`.
    pub low_seconds: Option<f64>,
    /// Time that guests were held, summed.
    pub held_seconds: Option<f64>,
    /// Pages written to swap.
    pub swapped_out_pages: Option<u64>,
    /// Pages read back.
    pub swapped_in_pages: Option<u64>,
    /// From a touch to the page's return, 99th percentile.
    pub swap_in_p99_seconds: Option<f64>,
    /// Mean distance of the estimates of active memory from what guests say, as a part of their
    /// memory, while what they say stays the same.
    pub active_error: Option<f64>,
    /// CPU time of the policy's thread.
    pub cpu_seconds: Option<f64>,
}

/// Guests of a group, each of them in the mean, at the end of the workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Machine memory of its own, bytes.
    pub allocated: Option<u64>,
    /// What it was entitled to, bytes.
    pub target: Option<u64>,
    /// What it was thought to use, bytes.
    pub active: Option<u64>,
    /// In its balloon, bytes.
    pub ballooned: Option<u64>,
    /// On swap, bytes.
    pub swapped: Option<u64>,
    /// Units of work of all of the group.
    pub operations: Option<u64>,
}

/// Starting the guests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Until the last was ready.
    pub seconds: Option<f64>,
    /// Memory that the host had less of afterwards, for each guest, its own pages included; other
    /// programs of the host blur it.
    pub host_memory_per_guest: Option<u64>,
}

/// Stopping the guests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// Until the last was gone.
    pub seconds: Option<f64>,
}

/// KSM's own counters at the end of the quiet period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ksm {
    /// Frames that KSM keeps.
    pub pages_shared: u64,
    /// Pages beyond the first that use them.
    pub pages_sharing: u64,
    /// Pages that KSM made the zero page.
    pub zero_pages: u64,
    /// Bytes saved less KSM's bookkeeping, by the kernel; may be negative; `null` before 6.4.
    pub net_saved: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_list_is_in_the_figures() {
        let tree = serde_json::to_value(Figures::default()).unwrap();
        for path in METRICS {
            let found = path.split('.').try_fold(&tree, |tree, name| tree.get(name));
            assert!(found.is_some(), "{path}");
        }
    }
}
