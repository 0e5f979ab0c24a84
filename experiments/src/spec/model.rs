//! The typed experiment: what an experiment file says, with all defaults filled in.
//!
//! It is written whole into `run.json`, so that a result tells what was run without the file.
//! Only fields that do something are here; everything else is refused as unknown.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mirrorball_abi::WorkloadKind;
use mirrorball_report::figure::PublishedFigure;
use serde::{Serialize, Serializer};

pub use super::claims::*;
pub use super::cpus::CpuList;
use super::linux::LinuxSpec;
pub use super::mechanisms::*;
use super::networks::{GuestNetwork, NetworkSpec};
use super::policy::PolicySpec;
pub use super::sweep::Sweep;
pub use super::timeline::*;
use super::units::{Size, Time};

/// One experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Experiment {
    /// Version of the file format; 1.
    pub version: u32,
    /// Short name; names the results folder.
    pub name: String,
    /// One line for people.
    pub title: Option<String>,
    /// The question that the experiment answers.
    pub question: Option<String>,
    /// All randomness comes from it.
    pub seed: u64,
    /// What a run takes, for readers before the first run.
    pub estimate: Option<Estimate>,
    /// What the machine must have.
    pub machine: MachineSpec,
    /// How guests are treated that want more memory than there is; nothing is done if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicySpec>,
    /// Disk images by id.
    pub images: BTreeMap<String, ImageSource>,
    /// Virtual networks by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, NetworkSpec>,
    /// The guests.
    pub guests: Vec<GuestGroup>,
    /// The mechanism sets to compare, at each point of the sweep; each is a cell.
    pub matrix: Vec<MechanismSet>,
    /// How fields change from cell to cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// The content and zero scanner.
    pub scanner: ScannerSpec,
    /// The KSM baseline.
    pub ksm: KsmSpec,
    /// Limits of the phases.
    pub phases: Phases,
    /// What happens while the workload runs.
    pub timeline: Vec<TimedEvent>,
    /// Repeats.
    pub repeat: Repeat,
    /// What is measured when.
    pub metrics: Metrics,
    /// Figures of papers, drawn beside ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<PublishedFigure>,
    /// What the results should be.
    pub expect: Vec<Expectation>,
    /// Where results go.
    pub outputs: Outputs,
}

/// What a run takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Time after compilation.
    pub time: Option<Time>,
    /// Machine memory.
    pub memory: Option<Size>,
    /// Room for images and results.
    pub disk: Option<Size>,
}

/// What the machine must have.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineSpec {
    /// Budget of machine memory for private pages and frames.
    pub memory: Size,
    /// Capabilities without which the experiment means nothing.
    pub requires: Vec<Capability>,
    /// CPUs of the host that everything runs on; all that there are if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuList>,
    /// The NUMA node that everything runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// Whether guests' private memory may be in pages of 2 MiB.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub large_pages: bool,
    /// What the time of an emulated host is, unless the command line says; nothing elsewhere.
    #[serde(skip_serializing_if = "EmulatedClock::is_real")]
    pub emulated_clock: EmulatedClock,
}

/// What the time of an emulated host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmulatedClock {
    /// That of the machine below it.
    #[default]
    Real,
    /// Instructions that it executed, at 2 ns each.
    Instructions,
}

impl EmulatedClock {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
    const fn is_real(&self) -> bool {
        matches!(self, Self::Real)
    }
}

/// A capability of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// `/dev/kvm` that may be opened.
    Kvm,
    /// KSM that may be set.
    Ksm,
    /// `PAGEMAP_SCAN` (Linux 6.7).
    PagemapScan,
    /// Write tracking through userfaultfd.
    Userfaultfd,
    /// Being root.
    Root,
}

/// Where a disk image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSource {
    /// The dependency sources pinned by `Cargo.lock`, up to that many bytes.
    CargoRegistry {
        /// Most bytes of files.
        limit: Size,
    },
    /// A folder.
    Directory(PathBuf),
    /// An ext4 image as it is.
    File(PathBuf),
}

/// Guests that are alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestGroup {
    /// Id, used in results and events.
    pub id: String,
    /// How many.
    pub count: u32,
    /// vCPUs of each.
    pub vcpus: u32,
    /// Guest-physical memory of each.
    pub memory: Size,
    /// Weight of each against the others; one for each MiB of memory if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u32>,
    /// What each is given whatever happens.
    #[serde(skip_serializing_if = "is_no_size")]
    pub min: Size,
    /// What each gets at most; its memory if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Size>,
    /// Sharing group (security domain).
    pub group: u32,
    /// Disks, in order.
    pub disks: Vec<DiskSpec>,
    /// Its place on a virtual network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<GuestNetwork>,
    /// When the first starts, after the first guest of the experiment.
    #[serde(skip_serializing_if = "is_no_time")]
    pub start_at: Time,
    /// Time between the starts of two guests.
    pub stagger: Time,
    /// What runs in them.
    #[serde(flatten)]
    pub system: System,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
const fn is_no_size(size: &Size) -> bool {
    size.0 == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
const fn is_no_time(time: &Time) -> bool {
    time.0.is_zero()
}

impl GuestGroup {
    /// What each guest gets at most, bytes.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.unwrap_or(self.memory).0
    }
}

/// The operating system of a guest, and what it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum System {
    /// The thin guest.
    Splash {
        /// Its workload.
        workload: WorkloadSpec,
    },
    /// An unmodified Linux distribution.
    Linux(LinuxSpec),
}

impl System {
    /// The thin guest's workload; `None` for other guests.
    #[must_use]
    pub const fn workload(&self) -> Option<&WorkloadSpec> {
        match self {
            Self::Splash { workload } => Some(workload),
            Self::Linux(_) => None,
        }
    }

    /// What a Linux guest is made of; `None` for other guests.
    #[must_use]
    pub const fn linux(&self) -> Option<&LinuxSpec> {
        match self {
            Self::Splash { .. } => None,
            Self::Linux(linux) => Some(linux),
        }
    }
}

/// One disk of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskSpec {
    /// Id of its image.
    pub image: String,
    /// Whether writes outlive the run.
    pub mode: DiskMode,
    /// Blank space after the image, for the guest's writes.
    pub scratch: Size,
}

/// Whether a disk's writes outlive the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskMode {
    /// Dropped at the end.
    Nonpersistent,
    /// Kept in the run's folder.
    Persistent,
}

/// A workload and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// Which.
    pub kind: WorkloadKind,
    /// Its name in the file.
    pub name: &'static str,
    /// Its own seed, if it shall not be the experiment's.
    pub seed: Option<u64>,
    /// Buffer cache limit in percent of the guest's memory; 0: the guest's default.
    pub cache_percent: u32,
    /// Parameters by position, 0 where not given.
    pub params: [u64; 16],
    /// The same by name, as given.
    pub named: BTreeMap<&'static str, u64>,
}

impl Serialize for WorkloadSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = BTreeMap::new();
        for (name, value) in &self.named {
            map.insert(*name, serde_json::Value::from(*value));
        }
        map.insert("name", self.name.into());
        map.insert("cache", self.cache_percent.into());
        if let Some(seed) = self.seed {
            map.insert("seed", seed.into());
        }
        map.serialize(serializer)
    }
}

/// Limits of the phases of each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Phases {
    /// Until every guest is ready.
    pub start_timeout: Time,
    /// How long the workload runs before it is asked to end; until it is done if not given.
    pub workload_for: Option<Time>,
    /// When guests have their memory, and their rate of work is measured from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure_after: Option<Time>,
    /// Until every guest is done.
    pub workload_timeout: Time,
    /// Full scans of quiet guests after the workload.
    pub settle_scans: u32,
    /// How long what is saved must have stayed the same besides, if it must.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle_stable: Option<Stable>,
    /// Longest time for them.
    pub settle_timeout: Time,
    /// Until all guests have stopped.
    pub stop_timeout: Time,
}

impl Default for Phases {
    fn default() -> Self {
        let seconds = |seconds| Time(Duration::from_secs(seconds));
        Self {
            start_timeout: seconds(30),
            workload_for: None,
            measure_after: None,
            workload_timeout: seconds(300),
            settle_scans: 2,
            settle_stable: None,
            settle_timeout: seconds(30),
            stop_timeout: seconds(30),
        }
    }
}

/// When what is saved counts as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stable {
    /// For so long.
    pub time: Time,
    /// It changes by no more.
    pub within: Size,
}

/// Order of the runs of all cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOrder {
    /// A B, then B A, ...
    Interleaved,
    /// A A, then B B, ...
    Blocked,
    /// Each repeat in a random order of its own.
    Shuffled,
}

/// Repeats.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Repeat {
    /// Runs of each cell before those that count.
    #[serde(skip_serializing_if = "is_zero")]
    pub warmup: u32,
    /// Runs of each cell.
    pub runs: Runs,
    /// Their order.
    pub order: RunOrder,
    /// How often a run is made again that the host spoilt.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How many runs of each cell count.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Runs {
    /// So many.
    Fixed(u32),
    /// As many as a figure needs to be known well enough.
    Until(Precision),
}

/// When a figure is known well enough.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Precision {
    /// Runs at least.
    pub min: u32,
    /// Runs at most.
    pub max: u32,
    /// The figure.
    pub metric: String,
    /// Half the width of its interval, as a part of its mean, at most.
    pub relative_half_width: f64,
}

impl Repeat {
    /// Runs of a cell at most, those that do not count among them.
    #[must_use]
    pub fn most(&self) -> u32 {
        let counted = match &self.runs {
            Runs::Fixed(runs) => *runs,
            Runs::Until(precision) => precision.max,
        };
        counted.saturating_add(self.warmup)
    }
}

/// What is measured when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Period of the sampling grid.
    pub sample: Time,
}

/// Where results go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outputs {
    /// Folder that gets one folder for each run of the experiment.
    pub directory: PathBuf,
}
