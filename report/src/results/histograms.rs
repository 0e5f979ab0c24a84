//! Histograms of all runs of a cell, added up.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::ResultsError;

/// What the runner's tags mean.
pub fn tags(tag: &str) -> &str {
    match tag {
        "block" => "block requests, from doorbell to completion",
        "exit" => "exits to the monitor",
        "hold" => "writers held by sharing",
        "kick" => "vCPUs stopped from outside",
        "network" => "network requests",
        other => other,
    }
}

/// Histograms by tag, then by cell; values are nanoseconds.
#[derive(Debug, Default)]
pub struct Histograms {
    by_tag: BTreeMap<String, BTreeMap<String, Histogram<u64>>>,
}

impl Histograms {
    /// Reads the logs `<cell>-run<n>.hlog` of a folder, which may be missing.
    ///
    /// # Errors
    /// A log can't be read.
    pub fn load(folder: &Path, cells: &[&str]) -> Result<Self, ResultsError> {
        let mut all = Self::default();
        let Ok(entries) = fs::read_dir(folder) else {
            return Ok(all);
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let cell = name.strip_suffix(".hlog").and_then(|name| {
                let (cell, run) = name.rsplit_once("-run")?;
                run.bytes().all(|b| b.is_ascii_digit()).then_some(cell)
            });
            let Some(cell) = cell.filter(|cell| cells.contains(cell)) else {
                continue;
            };
            all.add(&entry.path(), cell)?;
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path, cell: &str) -> Result<(), ResultsError> {
        let damaged = |reason: String| ResultsError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let bytes = super::read(path)?;
        for entry in IntervalLogIterator::new(&bytes) {
            let entry = entry.map_err(|error| damaged(format!("{error:?}")))?;
            let LogEntry::Interval(interval) = entry else {
                continue;
            };
            let coded = base64::engine::general_purpose::STANDARD
                .decode(interval.encoded_histogram())
                .map_err(|error| damaged(error.to_string()))?;
            let mut part: Histogram<u64> = Deserializer::new()
                .deserialize(&mut coded.as_slice())
                .map_err(|error| damaged(error.to_string()))?;
            part.auto(true);
            if part.is_empty() {
                continue;
            }
            let tag = interval.tag().map_or("", |tag| tag.as_str()).to_owned();
            let cells = self.by_tag.entry(tag).or_default();
            match cells.get_mut(cell) {
                Some(sum) => sum.add(&part).map_err(|error| damaged(error.to_string()))?,
                None => drop(cells.insert(cell.to_owned(), part)),
            }
        }
        Ok(())
    }

    /// What there are histograms of, with those of each cell.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, Histogram<u64>>)> {
        self.by_tag.iter().map(|(tag, cells)| (tag.as_str(), cells))
    }
}
