//! What one run gave, as `run.json` holds it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::agent::LinuxRecord;
use super::events::Events;
use super::noise::Noise;
use crate::output::histogram::Histograms;
use crate::output::summary::{Failure, Figures};

/// What one run gave.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// Cell.
    pub cell: String,
    /// Run of that cell, from 1.
    pub run: u32,
    /// Its seed.
    #[serde(default)]
    pub seed: u64,
    /// Whether it was there to warm up only: its figures don't count then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warmup: bool,
    /// Whether the phase `settle` ran into its timeout: figures are of memory that still changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_converged: bool,
    /// When it began.
    pub started: String,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Whether its figures count.
    pub complete: bool,
    /// Its figures.
    pub figures: Figures,
    /// What its guests computed, by guest group, where it is the same in all runs.
    pub checksums: BTreeMap<String, String>,
    /// What its Linux guests did, by guest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub linux: BTreeMap<String, LinuxRecord>,
    /// Why it failed.
    pub failures: Vec<Failure>,
    /// Why earlier attempts at this run failed that were made again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Failure>,
    /// What was noticed.
    pub warnings: Vec<String>,
    /// Our scanner's statistics, as it prints them.
    pub scanner: Option<String>,
    /// What else the machine did.
    #[serde(default)]
    pub noise: Noise,
    /// CPU time of the thread that took the samples, seconds.
    #[serde(default)]
    pub sampler_seconds: Option<f64>,
    /// What happened; written to a file of its own.
    #[serde(skip)]
    pub events: Events,
    /// Latencies; written to files of their own.
    #[serde(skip)]
    pub histograms: Histograms,
    /// When it began and how long it took, for the histogram log.
    #[serde(skip, default = "no_clock")]
    pub clock: (SystemTime, Duration),
}

/// Of a record that has no histograms any more.
const fn no_clock() -> (SystemTime, Duration) {
    (SystemTime::UNIX_EPOCH, Duration::ZERO)
}

impl RunRecord {
    /// Of a run of which nothing is known yet.
    #[must_use]
    pub fn of(cell: &str, run: u32) -> Self {
        Self {
            cell: cell.to_owned(),
            run,
            seed: 0,
            warmup: false,
            not_converged: false,
            started: String::new(),
            seconds: 0.0,
            complete: false,
            figures: Figures::default(),
            checksums: BTreeMap::new(),
            linux: BTreeMap::new(),
            failures: Vec::new(),
            earlier: Vec::new(),
            warnings: Vec::new(),
            scanner: None,
            noise: Noise::default(),
            sampler_seconds: None,
            events: Events::default(),
            histograms: Vec::new(),
            clock: no_clock(),
        }
    }
}
