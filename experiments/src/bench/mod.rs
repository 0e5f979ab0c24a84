//! `bench`: what the mechanisms cost, as ratios whose two sides come from the same run.
//!
//! Absolute times say little on a machine that others use too; a ratio of two things measured one
//! after the other says more. Each measurement is repeated at least [`LEAST_RUNS`] times, its two
//! sides in turns; the median and the spread are shown, never the best, and a wish that lies inside
//! the middle half of the values is neither met nor missed. CPU time is taken instead of wall time
//! wherever the question allows it.

mod breaks;
mod bridge;
mod clean;
mod disk;
mod hashing;
mod hold;
mod kernel;
mod linux;
mod merge;
mod oracle;
mod policy;
mod report;
mod rig;
mod scale;
mod slowdown;
mod stats;
mod stream;

pub use report::{Line, Report, Verdict};
pub use stats::Spread;

use crate::output::provenance;
use serde::Serialize;

/// Fewest repetitions of a measurement.
pub const LEAST_RUNS: u32 = 5;

/// What a measurement should come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// No less than.
    AtLeast(f64),
    /// No more than.
    AtMost(f64),
}

impl Wanted {
    /// Whether a value is as wished.
    #[must_use]
    pub fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

/// One figure of the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// Id.
    pub id: String,
    /// What it says, in one line.
    pub what: String,
    /// Unit of the value; empty for a ratio.
    pub unit: &'static str,
    /// What it should come to; `None` for a figure that explains another.
    pub wanted: Option<Wanted>,
}

impl Row {
    /// A figure with a wish.
    fn new(id: &str, what: &str, unit: &'static str, wanted: Wanted) -> Self {
        Self {
            id: id.to_owned(),
            what: what.to_owned(),
            unit,
            wanted: Some(wanted),
        }
    }

    /// A figure that explains another.
    fn detail(id: &str, what: &str, unit: &'static str) -> Self {
        Self {
            id: id.to_owned(),
            what: what.to_owned(),
            unit,
            wanted: None,
        }
    }
}

/// One measurement; it may give several figures.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// Id.
    pub id: &'static str,
    /// What is measured, in one line.
    pub what: &'static str,
    /// Measures as often as the log says.
    pub measure: fn(&mut Log<'_>) -> Result<(), BenchError>,
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BenchError(pub String);

impl BenchError {
    fn of(what: &str) -> impl Fn(std::io::Error) -> Self {
        let what = what.to_owned();
        move |error| Self(format!("{what}: {error}"))
    }
}

/// Where a measurement puts its values.
pub struct Log<'a> {
    /// Repetitions that are wanted.
    runs: u32,
    rows: Vec<(Row, Vec<f64>)>,
    progress: &'a mut dyn FnMut(&str),
}

impl std::fmt::Debug for Log<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("runs", &self.runs)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl Log<'_> {
    /// Adds a value of a figure; lines come in the order of their first values.
    fn add(&mut self, row: &Row, value: f64) {
        (self.progress)(&format!("  {} = {value:.4} {}", row.id, row.unit));
        match self.rows.iter_mut().find(|(other, _)| other.id == row.id) {
            Some((_, values)) => values.push(value),
            None => self.rows.push((row.clone(), vec![value])),
        }
    }
}

/// All measurements, in the order of the table.
pub const BENCHES: &[Bench] = &[
    merge::BENCH,
    clean::BENCH,
    oracle::BENCH,
    disk::BENCH,
    slowdown::BENCH,
    hold::BENCH,
    breaks::BENCH,
    hashing::BENCH,
    scale::BENCH,
    policy::BENCH,
    stream::BENCH,
    linux::BOOT,
    linux::BLOCK,
    linux::NET,
    linux::WORK,
    linux::MAKE,
];

/// Makes what can only be made on a machine with a network: what Linux guests boot.
///
/// # Errors
/// `only` names a measurement that does not exist; a package can't be had.
pub fn prepare(only: &[String], progress: &dyn Fn(&str)) -> Result<(), BenchError> {
    check(only)?;
    linux::prepare(|id| is_wanted(only, id), progress)
}

fn is_wanted(only: &[String], id: &str) -> bool {
    only.is_empty() || only.iter().any(|wanted| wanted == id)
}

/// Whether there are these measurements.
///
/// # Errors
/// One does not exist; all that do are named.
pub fn check(only: &[String]) -> Result<(), BenchError> {
    let is_known = |id: &String| BENCHES.iter().any(|bench| bench.id == *id);
    let Some(unknown) = only.iter().find(|id| !is_known(id)) else {
        return Ok(());
    };
    let ids: Vec<_> = BENCHES.iter().map(|bench| bench.id).collect();
    let ids = ids.join(", ");
    Err(BenchError(format!(
        "there is no measurement `{unknown}`; there are {ids}"
    )))
}

/// Measures everything, or what `only` names.
///
/// # Errors
/// `only` names a measurement that does not exist.
pub fn run(
    runs: u32,
    only: &[String],
    mut progress: impl FnMut(&str),
) -> Result<Report, BenchError> {
    check(only)?;
    let kvm = crate::doctor::kvm_word(mirrorball_monitor::probe::host().kvm);
    let provenance = provenance::collect(kvm);
    let mut lines = Vec::new();
    for bench in BENCHES.iter().filter(|bench| is_wanted(only, bench.id)) {
        progress(&format!("{}: {}, {runs} times", bench.id, bench.what));
        let mut log = Log {
            runs,
            rows: Vec::new(),
            progress: &mut progress,
        };
        let problem = (bench.measure)(&mut log)
            .err()
            .map(|error| error.to_string());
        lines.extend(report::lines(bench, log.rows, problem));
    }
    Ok(Report::new(runs, lines, provenance))
}
