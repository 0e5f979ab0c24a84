//! The part of the page about one results folder.

use std::collections::{BTreeMap, BTreeSet};

use super::Part;
use super::cells::{Grid, Row, apart, every, grids};
use super::cost::{Costs, costs};
use super::drawn::{Drawn, drawn};
use super::expected::{Expected, expectations};
use super::files::{Link, files, tables};
use super::origin::{Fact, Image, facts, images};
use super::published::{ResidualRow, residual_rows};
use super::text::Judged;
use crate::results::Results;
use crate::stats::LEAST_RUNS;
use crate::summary::Cell;
use crate::table::verdict;

/// Everything that the template shows of one results folder.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) anchor: String,
    pub(super) title: &'a str,
    pub(super) question: Option<&'a str>,
    pub(super) verdict: Judged,
    pub(super) extent: String,
    pub(super) notes: Vec<String>,
    pub(super) expectations: Vec<Expected>,
    pub(super) any_published: bool,
    pub(super) residuals: Vec<ResidualRow>,
    pub(super) published_source: &'a str,
    pub(super) figures: Vec<Drawn<'a>>,
    pub(super) grids: Vec<Grid>,
    pub(super) cells: Vec<&'a str>,
    pub(super) rows: Vec<Row>,
    pub(super) verdicts: Vec<Judged>,
    pub(super) unmeasured: String,
    pub(super) costs: Costs,
    pub(super) outliers: Vec<String>,
    pub(super) problems: Vec<String>,
    pub(super) facts: Vec<Fact>,
    pub(super) images: Vec<Image>,
    pub(super) experiment: Option<String>,
    pub(super) files: Vec<Link>,
}

impl<'a> Section<'a> {
    pub(super) fn new(index: usize, part: &'a Part<'a>) -> Self {
        let results = part.results;
        let (rows, unmeasured) = every(results);
        let expectations = expectations(results);
        let sweep = results.run.experiment.sweep.as_ref();
        let published = sweep.and_then(|sweep| sweep.published.as_ref());
        let cells = &results.summary.cells;
        Self {
            anchor: format!("e{}", index + 1),
            title: results.title(),
            question: results.run.experiment.question.as_deref(),
            verdict: results.summary.verdict.into(),
            extent: extent(results),
            notes: notes(results),
            any_published: expectations.iter().any(|row| !row.published.is_empty()),
            expectations,
            residuals: residual_rows(results),
            published_source: published.map_or("", |published| published.source.as_str()),
            figures: part
                .figures
                .iter()
                .map(|figure| drawn(figure, part))
                .collect(),
            grids: grids(results),
            cells: cells.iter().map(|cell| cell.id.as_str()).collect(),
            rows,
            verdicts: cells.iter().map(|cell| verdict(cell).into()).collect(),
            unmeasured: unmeasured.join(", "),
            costs: costs(results),
            outliers: apart(results),
            problems: problems(results),
            facts: facts(results),
            images: images(results),
            experiment: std::fs::read_to_string(results.path.join("experiment.yaml")).ok(),
            files: files(part).into_iter().chain(tables(part)).collect(),
        }
    }
}

/// How much was run.
fn extent(results: &Results) -> String {
    let cells = results.summary.cells.len();
    let complete: u64 = results.summary.cells.iter().map(|cell| cell.runs).sum();
    let counted = results.run.runs.iter().filter(|run| !run.warmup);
    let (made, warmups) = (
        counted.count(),
        results.run.runs.iter().filter(|run| run.warmup),
    );
    let warmups = warmups.count() as u64;
    let plural = |count: u64, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let mut text = format!(
        "{}, {}",
        plural(cells as u64, "cell"),
        plural(complete, "complete run")
    );
    let failed = (made as u64).saturating_sub(complete);
    if made > 0 && failed > 0 {
        text.push_str(&format!(", {failed} not complete"));
    }
    if warmups > 0 {
        text.push_str(&format!(", {} before them", plural(warmups, "warm-up")));
    }
    text.push_str(&format!("; experiment {}", results.summary.name));
    // To the second.
    if let Some(started) = results.run.started.get(..19) {
        text.push_str(&format!(", started {}Z", started.replace('T', " ")));
    }
    text
}

/// What a reader must know before any number.
fn notes(results: &Results) -> Vec<String> {
    let mut notes = Vec::new();
    let summary = &results.summary;
    if summary.emulated {
        notes.push(
            "Measured on an emulated host: times compare within this result only; sizes and \
             counts are real."
                .to_owned(),
        );
    }
    if summary.smoke {
        notes.push(
            "A smoke run: every cell once, as shortly as possible. Its figures say nothing."
                .to_owned(),
        );
    }
    if summary.interrupted {
        notes.push("The experiment was stopped before its end; what is here is whole.".to_owned());
    }
    let few = |cell: &&Cell| (1..LEAST_RUNS as u64).contains(&cell.runs);
    let few = summary.cells.iter().filter(few).count();
    if few > 0 {
        notes.push(format!(
            "{few} of {} cells have fewer than {LEAST_RUNS} complete runs: their values are single \
             observations, and nothing is said about their spread.",
            summary.cells.len()
        ));
    }
    notes.extend(results.run.ended_by.clone());
    notes
}

/// Failures, each once, and warnings; of those that differ in numbers only, the first with how many
/// there are.
fn problems(results: &Results) -> Vec<String> {
    let mut lines = BTreeSet::new();
    let mut alike: BTreeMap<(&str, String), BTreeSet<&str>> = BTreeMap::new();
    for cell in &results.summary.cells {
        for failure in &cell.failures {
            let (run, class, cause) = (failure.run, &failure.class, &failure.cause);
            lines.insert(format!("{} run {run}: {class}: {cause}", cell.id));
        }
        for warning in &cell.warnings {
            let plain = warning.replace(|letter: char| letter.is_ascii_digit(), "");
            alike.entry((&cell.id, plain)).or_default().insert(warning);
        }
    }
    let warnings = alike.iter().filter_map(|((cell, _), texts)| {
        let first = texts.first()?;
        Some(match texts.len() - 1 {
            0 => format!("{cell}: {first}"),
            more => format!("{cell}: {first} (and {more} alike)"),
        })
    });
    lines.into_iter().chain(warnings).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn warnings_that_differ_in_numbers_only_are_one_line() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/quick");
        let mut results = Results::load(&path).unwrap();
        let warnings = [
            "times are noisy: other programs used 63 % of the CPUs",
            "times are noisy: other programs used 70 % of the CPUs",
            "build-3: stopped",
        ];
        for cell in &mut results.summary.cells {
            cell.warnings.clear();
        }
        results.summary.cells[0].warnings = warnings.map(str::to_owned).to_vec();
        assert_eq!(
            problems(&results),
            [
                "none: build-3: stopped".to_owned(),
                format!("none: {} (and 1 alike)", warnings[0]),
            ]
        );
    }
}
