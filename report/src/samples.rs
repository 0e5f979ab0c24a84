//! A row of `samples.csv`, the time series.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The `vm` of a row about the whole machine.
pub const MACHINE: &str = "machine";

/// One reading of the machine or of one VM. Fields that have no meaning there are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Cell.
    pub cell: String,
    /// Run of that cell, from 1.
    pub run: u32,
    /// Seconds since the experiment began.
    pub time_seconds: f64,
    /// Phase, or the event that made this sample.
    pub phase: String,
    /// VM's number, or [`MACHINE`].
    pub vm: String,
    /// Guest-physical size.
    pub guest_physical_bytes: u64,
    /// Touched pages.
    pub touched_bytes: u64,
    /// Private pages.
    pub private_bytes: u64,
    /// Pages that map a frame.
    pub mapped_bytes: u64,
    /// Pages that are the zero page because they were given back.
    pub zero_bytes: u64,
    /// Pages in guests' balloons.
    pub ballooned_bytes: Option<u64>,
    /// Pages on swap.
    pub swapped_bytes: Option<u64>,
    /// What a VM is entitled to by the memory policy.
    pub target_bytes: Option<u64>,
    /// What a VM is thought to use.
    pub active_bytes: Option<u64>,
    /// What the guest says it uses, where its workload knows.
    pub working_set_bytes: Option<u64>,
    /// Shared pages, in ESX's sense.
    pub shared_bytes: Option<u64>,
    /// Shared less the frames that back them.
    pub reclaimed_bytes: Option<u64>,
    /// Frames in use.
    pub frames_bytes: Option<u64>,
    /// What the machine would need if every shared page were written now: the reserve for un-sharing.
    pub if_all_broke_bytes: Option<u64>,
    /// Reclaimed by the disk.
    pub disk_bytes: Option<u64>,
    /// Reclaimed by the network.
    pub network_bytes: Option<u64>,
    /// Reclaimed by content scanning.
    pub content_bytes: Option<u64>,
    /// Saved by KSM.
    pub ksm_bytes: Option<u64>,
    /// The pmap's own memory.
    pub overhead_bytes: Option<u64>,
    /// The worst reclamation state since the row before: `high`, `soft`, `hard` or `low`.
    pub state: Option<String>,
    /// Guests that run.
    pub guests_up: Option<u64>,
    /// Mappings in use.
    pub vmas: u64,
    /// Shared pages broken so far.
    pub broken_pages: u64,
    /// Pages that the scanner hashed so far.
    pub hashed_pages: Option<u64>,
    /// CPU time of vCPUs so far.
    pub vcpu_seconds: Option<f64>,
    /// CPU time of device workers so far.
    pub device_seconds: Option<f64>,
    /// CPU time of our scanner so far.
    pub scanner_seconds: Option<f64>,
    /// CPU time of ksmd so far.
    pub ksmd_seconds: Option<f64>,
}

/// The rows of a file, in their order.
///
/// # Errors
/// The file can't be opened. A row that can't be read is an error in its place.
pub fn rows(
    path: &Path,
) -> Result<impl Iterator<Item = Result<Sample, csv::Error>> + use<>, csv::Error> {
    Ok(csv::Reader::from_path(path)?.into_deserialize())
}
