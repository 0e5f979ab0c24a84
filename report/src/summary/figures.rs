//! What is measured in a run: the groups of figures, with their units.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    /// Guests by their group, at the end of the workload; of experiments with a memory policy, or with
    /// numbers that guests print.
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
    /// Units of work a second of thin guests, once they have their memory: from the workload's
    /// `measure-after` until guests are asked to end.
    #[serde(default)]
    pub rate: Option<f64>,
    /// How long the workload `touch` takes for a page in that time, 99th percentile.
    #[serde(default)]
    pub touch_p99_seconds: Option<f64>,
    /// The same, 99.9th percentile.
    #[serde(default)]
    pub touch_p999_seconds: Option<f64>,
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
    /// The most that was kept free because guests can't be stopped at once, as a part of the budget.
    #[serde(default)]
    pub reserve: Option<f64>,
    /// Time in the state `soft`.
    pub soft_seconds: Option<f64>,
    /// Time in the state `hard`.
    pub hard_seconds: Option<f64>,
    /// Time in the state `low`.
    pub low_seconds: Option<f64>,
    /// Time that guests were held, summed.
    pub held_seconds: Option<f64>,
    /// Passes of the scanner that came before swapping.
    #[serde(default)]
    pub share_passes: Option<u64>,
    /// Pages that they freed.
    #[serde(default)]
    pub share_freed_pages: Option<u64>,
    /// Time that they took.
    #[serde(default)]
    pub share_seconds: Option<f64>,
    /// Pages written to swap.
    pub swapped_out_pages: Option<u64>,
    /// Pages read back.
    pub swapped_in_pages: Option<u64>,
    /// Pages that were compressed and kept in memory in place of being written.
    #[serde(default)]
    pub packed_pages: Option<u64>,
    /// Those of the pages read back that came from there.
    #[serde(default)]
    pub unpacked_pages: Option<u64>,
    /// Their size over what they were compressed to.
    #[serde(default)]
    pub packed_ratio: Option<f64>,
    /// The most memory that they took at a time, bytes.
    #[serde(default)]
    pub pool_bytes: Option<u64>,
    /// From a touch to the page's return, 99th percentile.
    pub swap_in_p99_seconds: Option<f64>,
    /// Mean distance of the estimates of active memory from what guests say, as a part of their
    /// memory, while what they say stays the same.
    pub active_error: Option<f64>,
    /// The longest that an estimate took to come within a tenth of a guest's memory of what the guest
    /// says, after the guest took to using more; in sampling periods.
    #[serde(default)]
    pub active_lag_periods: Option<f64>,
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
    /// Numbers that the commands of Linux guests printed, by their names in the experiment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub printed: BTreeMap<String, f64>,
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
