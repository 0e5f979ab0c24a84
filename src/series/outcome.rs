//! What came of the experiments of a folder, in words.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use mirrorball_experiments::output::summary::{Summary, Verdict};
use serde::Serialize;

use super::Member;

/// How one went.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    file: PathBuf,
    name: String,
    /// Whether it was run on an emulated host.
    emulated: bool,
    /// `None` if it was not begun.
    pub(super) exit_code: Option<u8>,
    results: Option<PathBuf>,
    summary: Option<Summary>,
}

fn summary_of(results: &Path) -> Option<Summary> {
    let text = std::fs::read_to_string(results.join("summary.json")).ok()?;
    serde_json::from_str(&text).ok()
}

impl Outcome {
    pub(super) fn not_begun(member: &Member) -> Self {
        Self {
            file: member.file.clone(),
            name: member.name().to_owned(),
            emulated: member.emulated,
            exit_code: None,
            results: None,
            summary: None,
        }
    }

    /// One that ended with that code, in that folder if it made one.
    pub(super) fn ended(member: &Member, code: u8, results: Option<PathBuf>) -> Self {
        Self {
            exit_code: Some(code),
            summary: results.as_deref().and_then(summary_of),
            results,
            ..Self::not_begun(member)
        }
    }

    /// What is said of it in a word or two.
    fn verdict(&self) -> String {
        match (&self.summary, self.exit_code) {
            (_, None) => "not begun".to_owned(),
            (Some(summary), _) if summary.interrupted => "stopped".to_owned(),
            (Some(summary), _) => summary.verdict.word().to_owned(),
            (None, Some(code)) => format!("no result ({code})"),
        }
    }

    /// Claims that are met, of how many; empty without any.
    fn claims(&self) -> String {
        let cells = self.summary.iter().flat_map(|summary| &summary.cells);
        let claims = cells.flat_map(|cell| &cell.expect).collect::<Vec<_>>();
        let met = claims.iter().filter(|claim| claim.verdict == Verdict::Met);
        match claims.len() {
            0 => String::new(),
            all => format!("{} of {all}", met.count()),
        }
    }
}

/// A line for each experiment.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["experiment", "verdict", "claims met", "results"]);
    for outcome in outcomes {
        let results = outcome.results.as_ref();
        table.add_row([
            outcome.name.clone(),
            outcome.verdict(),
            outcome.claims(),
            results.map_or_else(String::new, |path| path.display().to_string()),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    format!("\n{}\n", table.trim_fmt())
}

/// What to do next.
pub(super) fn closing(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let results = |outcome: &Outcome| outcome.results.clone();
    let stopped = |outcome: &&Outcome| outcome.summary.as_ref().is_some_and(|s| s.interrupted);
    for folder in outcomes.iter().filter(stopped).filter_map(results) {
        let _ = writeln!(
            text,
            "next:    mirrorball run --resume {}",
            folder.display()
        );
    }
    let left = outcomes
        .iter()
        .filter(|outcome| outcome.exit_code.is_none());
    for outcome in left {
        let _ = writeln!(text, "next:    mirrorball run {}", outcome.file.display());
    }
    let folders = outcomes.iter().filter(|outcome| outcome.summary.is_some());
    let folders = folders.filter_map(results);
    let folders = folders.map(|folder| folder.display().to_string());
    let folders = folders.collect::<Vec<_>>().join(" ");
    if !folders.is_empty() {
        let _ = writeln!(text, "report:  mirrorball report {folders}");
    }
    text
}
