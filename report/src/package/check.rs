//! Checks a package: that nothing in it was changed, and that what it says follows from its runs.

use std::path::Path;

use serde::Serialize;

use super::{DESCRIPTION, Entries, MANIFEST, PackageError, derive, digest, unpack};
use crate::judge::{Judged, judge_all};
use crate::median::median;
use crate::results::Results;
use crate::summary::{Figures, Outcome};
use crate::table;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub what: String,
    /// What is wrong; empty if nothing is.
    pub problems: Vec<String>,
    /// Why it was not checked.
    pub skipped: Option<String>,
}

impl Check {
    fn new(what: &str, problems: Vec<String>) -> Self {
        Self {
            what: what.to_owned(),
            problems,
            skipped: None,
        }
    }

    /// Checks what another version may rightly do in another way.
    fn of_this_version(
        what: &str,
        entries: &Entries,
        check: impl FnOnce() -> Result<Vec<String>, PackageError>,
    ) -> Result<Self, PackageError> {
        let made_by = made_by(entries);
        if made_by.as_deref() == Some(VERSION) {
            return Ok(Self::new(what, check()?));
        }
        let other = made_by.unwrap_or_else(|| "an unknown version".to_owned());
        Ok(Self {
            skipped: Some(format!("packaged by {other}, this is {VERSION}")),
            ..Self::new(what, Vec::new())
        })
    }
}

/// The version that made the package.
fn made_by(entries: &Entries) -> Option<String> {
    let about: serde_json::Value = serde_json::from_slice(entries.get(DESCRIPTION)?).ok()?;
    Some(about["packaged_by"].as_str()?.to_owned())
}

/// Checks digests, and makes again what was made of the runs. The package's files are also written
/// to `folder`, which is empty.
///
/// # Errors
/// The folder can't be written. What is wrong with the package is no error but a problem.
pub fn check(entries: &Entries, folder: &Path) -> Result<Vec<Check>, PackageError> {
    let mut checks = vec![Check::new("digests", digests(entries))];
    unpack(entries, folder)?;
    let results = match Results::load(folder) {
        Ok(results) => results,
        Err(error) => {
            checks.push(Check::new("results", vec![error.to_string()]));
            return Ok(checks);
        }
    };
    checks.push(Check::new("medians of the runs", medians(&results)));
    checks.push(Check::new("verdicts of the claims", verdicts(&results)));
    checks.push(Check::of_this_version(
        "the printed table",
        entries,
        || Ok(printed(entries, &results)),
    )?);
    checks.push(Check::of_this_version(
        "report, figures and tables",
        entries,
        || derived(entries, &results),
    )?);
    Ok(checks)
}

/// What is wrong with the digests.
pub(super) fn digests(entries: &Entries) -> Vec<String> {
    let mut problems = Vec::new();
    let Some(manifest) = entries.get(MANIFEST) else {
        return vec![format!("{MANIFEST} is missing")];
    };
    let manifest = String::from_utf8_lossy(manifest);
    let mut listed = Vec::new();
    for line in manifest.lines() {
        let Some((sum, name)) = line.split_once("  ") else {
            problems.push(format!("{MANIFEST}: not a line of a list: {line}"));
            continue;
        };
        listed.push(name);
        match entries.get(name) {
            None => problems.push(format!("{name} is missing")),
            Some(bytes) if digest(bytes) != sum => problems.push(format!("{name} was changed")),
            Some(_) => {}
        }
    }
    let extra = entries
        .keys()
        .filter(|name| *name != MANIFEST && !listed.contains(&name.as_str()));
    problems.extend(extra.map(|name| format!("{name} is not in {MANIFEST}")));
    problems
}

/// The figures of every cell, made again from its runs.
fn medians(results: &Results) -> Vec<String> {
    let mut problems = Vec::new();
    for cell in &results.summary.cells {
        let runs: Vec<Figures> = results
            .run
            .runs
            .iter()
            .filter(|run| run.cell == cell.id && run.complete)
            .filter_map(|run| serde_json::from_value(run.figures.clone()).ok())
            .collect();
        if runs.len() as u64 != cell.runs {
            problems.push(format!(
                "{}: summary.json counts {} runs, run.json holds {}",
                cell.id,
                cell.runs,
                runs.len()
            ));
        } else if median(&runs) != cell.figures {
            problems.push(format!(
                "{}: its figures do not follow from its runs",
                cell.id
            ));
        }
    }
    problems
}

fn verdicts(results: &Results) -> Vec<String> {
    let cells = &results.summary.cells;
    let told = |again: &Judged<'_>| {
        let first = again.outcome.cells.first().unwrap_or(&again.cell);
        let cell = cells.iter().find(|other| other.id == *first)?;
        let same = |outcome: &&Outcome| {
            outcome.id == again.outcome.id && outcome.cells == again.outcome.cells
        };
        cell.expect.iter().find(same)
    };
    let again = judge_all(results, &results.run.experiment.expect);
    let differs = again.into_iter().filter(|again| {
        let told = told(again);
        told.map(|told| told.verdict) != Some(again.outcome.verdict)
            || told.and_then(|told| told.value) != again.outcome.value
    });
    differs
        .map(|again| {
            let (cell, id) = (&again.cell, &again.outcome.id);
            format!("{cell}: the verdict on {id} does not follow")
        })
        .collect()
}

/// The rows of `table.txt`, made again. Rows that only one version knows are left out: tables grow.
fn printed(entries: &Entries, results: &Results) -> Vec<String> {
    let again = table::render(&results.summary, true);
    let rows = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines().filter(|line| line.starts_with('|'));
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect();
        lines.map(cells).collect()
    };
    let again = rows(&again);
    let told = entries
        .get("table.txt")
        .map(|told| rows(&String::from_utf8_lossy(told)));
    let mut problems = Vec::new();
    for row in told.unwrap_or_default() {
        let name = row.get(1).map_or("", String::as_str);
        let same_name = again.iter().find(|other| other.get(1) == row.get(1));
        // The lines below the head are as wide as the columns.
        let ruled = name.starts_with('-');
        if !ruled && same_name.is_some_and(|other| *other != row) {
            problems.push(format!("table.txt: the row \"{name}\" does not follow"));
        }
    }
    problems
}

/// The report and all that belongs to it, made again.
fn derived(entries: &Entries, results: &Results) -> Result<Vec<String>, PackageError> {
    let mut again = Entries::new();
    derive(&mut again, results)?;
    let differs = |(name, bytes): (String, Vec<u8>)| match entries.get(&name) {
        None => Some(format!("{name} is missing")),
        Some(told) if *told != bytes => Some(format!("{name} does not follow from the runs")),
        Some(_) => None,
    };
    Ok(again.into_iter().filter_map(differs).collect())
}
