//! A results folder, read back.
//!
//! Readers take what there is: a folder of an older version, or of an experiment that was killed,
//! gives what it holds. Only `summary.json` must be there.

mod hgrm;
mod histograms;
mod run_file;

pub use hgrm::hgrm;
pub use histograms::{Histograms, tags};
pub use run_file::{Expectation, Experiment, Run, RunFile, Sweep};

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::metrics::value_of_run;
use crate::samples::{MACHINE, Sample};
use crate::stats::{Pair, pairs_of};
use crate::summary::{Cell, SCHEMA_VERSION, Summary};
use crate::sweep::beside;

/// A folder that can't be read.
#[derive(Debug, Error)]
pub enum ResultsError {
    /// A file is missing or can't be read.
    #[error("{}: {error}\n  a results folder is what `mirrorball run` wrote: it holds summary.json", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer version wrote it.
    #[error("{}: schema version {found}, this binary reads up to {SCHEMA_VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It was only tried.
    #[error("{}: a smoke run, every cell once and cut short: its figures say nothing, so it is not compared", path.display())]
    Smoke {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such cell.
    #[error("no cell {cell} in {}; its cells are: {known}", path.display())]
    NoCell {
        /// The folder.
        path: PathBuf,
        /// The cell asked for.
        cell: String,
        /// The cells there are.
        known: String,
    },
}

/// Everything in a results folder that reports are made of.
#[derive(Debug)]
pub struct Results {
    /// The folder.
    pub path: PathBuf,
    /// `summary.json`.
    pub summary: Summary,
    /// `run.json`; empty if it is not there.
    pub run: RunFile,
    /// Rows of `samples.csv` about the whole machine.
    pub samples: Vec<Sample>,
    /// Rows of it about VMs in the first run of each cell, where there is a memory policy.
    pub guests: Vec<Sample>,
    /// Merged histograms.
    pub histograms: Histograms,
}

impl Results {
    /// Reads a folder.
    ///
    /// # Errors
    /// There is no readable `summary.json`, or a file that is there is damaged.
    pub fn load(path: &Path) -> Result<Self, ResultsError> {
        let file = path.join("summary.json");
        let summary: Summary = parse(&file, &read(&file)?)?;
        if summary.schema_version > SCHEMA_VERSION {
            return Err(ResultsError::Newer {
                path: file,
                found: summary.schema_version,
            });
        }
        let file = path.join("run.json");
        let run = if file.exists() {
            RunFile::parse(&read(&file)?).map_err(|error| ResultsError::Damaged {
                path: file,
                reason: error.to_string(),
            })?
        } else {
            RunFile::default()
        };
        let file = path.join("samples.csv");
        let (samples, guests) = if file.exists() {
            let with_policy = !run.conditions["experiment"]["policy"].is_null();
            samples(&file, with_policy)?
        } else {
            (Vec::new(), Vec::new())
        };
        let ids: Vec<&str> = summary.cells.iter().map(|cell| cell.id.as_str()).collect();
        let histograms = Histograms::load(&path.join("histograms"), &ids)?;
        Ok(Self {
            path: path.to_owned(),
            summary,
            run,
            samples,
            guests,
            histograms,
        })
    }

    /// The experiment's title, or its name.
    #[must_use]
    pub fn title(&self) -> &str {
        let title = self.run.experiment.title.as_deref();
        title.unwrap_or(&self.summary.name)
    }

    /// A cell by its id.
    ///
    /// # Errors
    /// There is none.
    pub fn cell(&self, id: &str) -> Result<&Cell, ResultsError> {
        let cells = &self.summary.cells;
        cells
            .iter()
            .find(|cell| cell.id == id)
            .ok_or_else(|| ResultsError::NoCell {
                path: self.path.clone(),
                cell: id.to_owned(),
                known: cells
                    .iter()
                    .map(|c| c.id.clone())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// A metric of a cell in each of its complete runs, by run number. Without `run.json`, the
    /// cell's own figure stands as one run.
    #[must_use]
    pub fn values(&self, cell: &Cell, metric: &str) -> Vec<(u32, f64)> {
        if self.run.runs.is_empty() {
            let value = crate::metrics::value(&cell.figures, metric);
            return value.into_iter().map(|value| (1, value)).collect();
        }
        let mut values = self.values_as_made(cell, metric);
        values.sort_by_key(|(run, _)| *run);
        values
    }

    /// The same in the order in which the runs were made; empty without `run.json`.
    #[must_use]
    pub fn values_as_made(&self, cell: &Cell, metric: &str) -> Vec<(u32, f64)> {
        let mut runs: Vec<&Run> = self.run.runs.iter().collect();
        // Times are in UTC and of one form; runs without one keep their place.
        runs.sort_by_key(|run| &run.started);
        runs.into_iter()
            .filter(|run| run.cell == cell.id && run.complete)
            .filter_map(|run| {
                let value = value_of_run(&run.figures, metric, Some(run.seconds));
                Some((run.run, value?))
            })
            .collect()
    }

    /// The cell that a cell is measured against: the one without mechanisms and with as many guests at
    /// the same point of the sweep, or at a part of it; itself has none.
    #[must_use]
    pub fn baseline(&self, cell: &Cell) -> Option<&Cell> {
        let cells = self.summary.cells.iter();
        let bare = cells.filter(|other| other.mechanisms.is_empty() && other.guests == cell.guests);
        let nearest = beside(bare, cell);
        nearest.filter(|other| !cell.mechanisms.is_empty() && other.id != cell.id)
    }

    /// The values of two cells in the same repeats.
    #[must_use]
    pub fn pairs(&self, base: &Cell, cell: &Cell, metric: &str) -> Vec<Pair> {
        pairs_of(&self.values(base, metric), &self.values(cell, metric))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ResultsError> {
    fs::read(path).map_err(|error| ResultsError::File {
        path: path.to_owned(),
        error,
    })
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ResultsError> {
    serde_json::from_slice(bytes).map_err(|error| ResultsError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The rows about the machine, and, if wanted, those about VMs in the first run of each cell.
fn samples(path: &Path, of_vms: bool) -> Result<(Vec<Sample>, Vec<Sample>), ResultsError> {
    let damaged = |error: csv::Error| ResultsError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let mut reader = csv::Reader::from_path(path).map_err(damaged)?;
    let headers = reader.headers().map_err(damaged)?.clone();
    let column = |wanted| headers.iter().position(|name| name == wanted);
    let (vm, run) = (column("vm"), column("run"));
    let (mut machine, mut guests) = (Vec::new(), Vec::new());
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row).map_err(damaged)? {
        // Most rows are about one VM; only those that are wanted are worth the parsing.
        let text = |column: Option<usize>| column.and_then(|column| row.get(column));
        if text(vm) == Some(MACHINE) {
            machine.push(row.deserialize(Some(&headers)).map_err(damaged)?);
        } else if of_vms && text(run) == Some("1") {
            guests.push(row.deserialize(Some(&headers)).map_err(damaged)?);
        }
    }
    Ok((machine, guests))
}

#[cfg(test)]
mod tests;
