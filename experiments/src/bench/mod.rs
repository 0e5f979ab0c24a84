//! `bench`: what the mechanisms cost, as ratios whose two sides come from the same run.
//!
//! Absolute times say little on a machine that others use too; a ratio of two things measured one
//! after the other says more. Each measurement is repeated at least [`LEAST_RUNS`] times; the
//! median and the spread are shown, never the best.

mod hashing;
mod stats;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

pub use stats::Spread;

use crate::output::provenance::{self, Provenance};

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

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// Id.
    pub id: &'static str,
    /// What is measured, in one line.
    pub what: &'static str,
    /// Unit of the value; empty for a ratio.
    pub unit: &'static str,
    /// What it should come to.
    pub wanted: Wanted,
    /// Measures once.
    pub measure: fn() -> Result<f64, BenchError>,
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BenchError(pub String);

/// All measurements, in the order of the table.
pub const BENCHES: &[Bench] = &[hashing::BENCH];

/// One line of the report.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Id.
    pub id: &'static str,
    /// What was measured.
    pub what: &'static str,
    /// Unit of the values; empty for a ratio.
    pub unit: &'static str,
    /// What it should come to.
    pub wanted: Wanted,
    /// Median and spread; `null` where it could not be measured.
    pub result: Option<Spread>,
    /// Whether it came to that.
    pub met: Option<bool>,
    /// Why there is no value.
    pub problem: Option<String>,
}

/// All lines, and what they were measured with.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of the format.
    pub schema_version: u32,
    /// Repetitions of each.
    pub runs: u32,
    /// The lines.
    pub lines: Vec<Line>,
    /// The host and the binary.
    pub provenance: Provenance,
    /// The lines as a table.
    #[serde(skip)]
    pub table: String,
}

/// Measures everything, or what `only` names.
///
/// # Errors
/// `only` names a measurement that does not exist.
pub fn run(runs: u32, only: &[String], mut progress: impl FnMut(&str)) -> Result<Report, BenchError> {
    if let Some(unknown) = only.iter().find(|id| !BENCHES.iter().any(|bench| bench.id == **id)) {
        let ids = BENCHES.iter().map(|bench| bench.id).collect::<Vec<_>>().join(", ");
        return Err(BenchError(format!("there is no measurement `{unknown}`; there are {ids}")));
    }
    let mut lines = Vec::new();
    for bench in BENCHES.iter().filter(|bench| only.is_empty() || only.iter().any(|id| id == bench.id)) {
        progress(&format!("{}: {} times", bench.what, runs));
        lines.push(line(bench, runs));
    }
    let kvm = crate::doctor::kvm_word(mirrorball_monitor::probe::host().kvm);
    let table = table(&lines);
    Ok(Report { schema_version: 1, runs, lines, provenance: provenance::collect(kvm), table })
}

fn line(bench: &Bench, runs: u32) -> Line {
    let values = (0..runs).map(|_| (bench.measure)()).collect::<Result<Vec<_>, _>>();
    let (result, problem) = match values {
        Ok(values) => (Spread::of(&values), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let met = result.as_ref().map(|spread| match bench.wanted {
        Wanted::AtLeast(bound) => spread.median >= bound,
        Wanted::AtMost(bound) => spread.median <= bound,
    });
    Line { id: bench.id, what: bench.what, unit: bench.unit, wanted: bench.wanted, result, met, problem }
}

fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(["what", "wanted", "median", "min to max", "n", "met"]);
    for line in lines {
        let (sign, bound) = match line.wanted {
            Wanted::AtLeast(bound) => (">=", bound),
            Wanted::AtMost(bound) => ("<=", bound),
        };
        let unit = line.unit;
        let value = |value: f64| format!("{value:.3} {unit}").trim_end().to_owned();
        let (median, range, n) = match &line.result {
            Some(spread) => {
                let range = format!("{:.3} to {:.3}", spread.min, spread.max);
                (value(spread.median), range, spread.values.len().to_string())
            }
            None => ("not measured".to_owned(), line.problem.clone().unwrap_or_default(), "0".to_owned()),
        };
        let met = match line.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        table.add_row([line.what.to_owned(), format!("{sign} {}", value(bound)), median, range, n, met.to_owned()]);
    }
    format!("{table}\n")
}
