//! The comparison for people.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use super::{CellComparison, Compared, Comparison, Difference};
use crate::metrics::{Metric, Unit, by_path, number};
use crate::stats::{Finding, Interval};

/// Values longer than this are cut in the list of conditions.
const LONGEST: usize = 60;

/// The comparison as text: a table of each pair of cells, then what it means.
#[must_use]
pub fn render(comparison: &Comparison) -> String {
    let mut text = String::new();
    text.push_str(if comparison.paired {
        "paired by repeat: both cells are of one session\n"
    } else {
        "two sessions: runs have no pairs, intervals are of the difference of medians\n"
    });
    if !comparison.conditions.is_empty() {
        text.push_str("\nthese conditions differ, besides the results:\n");
        text.push_str(&unlike_text(comparison.conditions.iter()));
    }
    for cell in &comparison.cells {
        text.push_str(&format!("\n{} -> {}\n\n", cell.before, cell.after));
        text.push_str(&table(cell));
        text.push_str("\n\n");
        text.push_str(&meaning(cell));
    }
    if !comparison.unmatched.is_empty() {
        let cells = comparison.unmatched.join(", ");
        text.push_str(&format!("\non one side only: {cells}\n"));
    }
    text
}

/// Conditions that differ, a line each.
pub fn unlike_text<'a>(conditions: impl IntoIterator<Item = &'a Difference>) -> String {
    let line = |condition: &Difference| {
        let shown = |value: &serde_json::Value| match value {
            serde_json::Value::Null => "not available".to_owned(),
            value => cut(&value.to_string()),
        };
        let (before, after) = (shown(&condition.before), shown(&condition.after));
        format!("  {}: {before} -> {after}\n", condition.what)
    };
    conditions.into_iter().map(line).collect()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let kept: String = text.chars().take(LONGEST).collect();
    format!("{kept}…")
}

fn table(cell: &CellComparison) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "",
        "",
        "before",
        "after",
        "difference",
        "95 % interval",
        "ratio",
        "finding",
    ]);
    for figure in &cell.figures {
        let Some(metric) = by_path(figure.metric) else {
            continue;
        };
        // A figure that is 0 on both sides says nothing here.
        if figure.change.finding == Finding::Same && figure.change.before == 0.0 {
            continue;
        }
        table.add_row(row(metric, figure));
    }
    for column in table.column_iter_mut().skip(2).take(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn row(metric: &Metric, figure: &Compared) -> [String; 8] {
    let (unit, change) = (metric.unit, &figure.change);
    let interval = |interval: Interval| {
        format!(
            "{} to {}",
            signed(unit, interval.low),
            signed(unit, interval.high)
        )
    };
    [
        metric.name.to_owned(),
        unit.name().to_owned(),
        unit.text(change.before),
        unit.text(change.after),
        signed(unit, change.difference),
        change.difference_interval.map_or_else(
            || format!("n/a (n = {})", change.runs.0.min(change.runs.1)),
            interval,
        ),
        change
            .ratio
            .map_or_else(|| "n/a".to_owned(), |ratio| format!("{ratio:.3}")),
        word(figure).to_owned(),
    ]
}

fn signed(unit: Unit, value: f64) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    format!("{sign}{}", unit.text(value))
}

pub(super) fn word(figure: &Compared) -> &'static str {
    match (figure.change.finding, figure.better) {
        (Finding::Same, _) => "the same",
        (Finding::NoChange, _) => "no change",
        (Finding::Changed, Some(true)) => "better",
        (Finding::Changed, Some(false)) => "worse",
        (Finding::Changed, None) => "changed",
        (Finding::Perhaps, Some(true)) => "better?",
        (Finding::Perhaps, Some(false)) => "worse?",
        (Finding::Perhaps, None) => "changed?",
        (Finding::TooFew, _) => "too few runs",
    }
}

/// The findings as sentences.
fn meaning(cell: &CellComparison) -> String {
    let mut text = String::new();
    let mut line = |head: &str, finding: fn(Finding) -> bool, full: bool| {
        let figures = cell.figures.iter().filter(|figure| {
            let nothing = figure.change.before == 0.0 && figure.change.after == 0.0;
            finding(figure.change.finding) && !nothing
        });
        let names: Vec<String> = figures.map(|figure| named(figure, full)).collect();
        if !names.is_empty() {
            text.push_str(&format!("{head}: {}\n", names.join(", ")));
        }
    };
    line("changed beyond noise", |f| f == Finding::Changed, true);
    line(
        "changed perhaps (run it at least 6 times to be sure)",
        |f| f == Finding::Perhaps,
        true,
    );
    line(
        "no change beyond noise",
        |f| matches!(f, Finding::NoChange | Finding::Same),
        false,
    );
    line("too few runs to say", |f| f == Finding::TooFew, false);
    text
}

/// A figure's name, with its change: in its own unit first, a part of something says nothing alone.
fn named(figure: &Compared, full: bool) -> String {
    let name = by_path(figure.metric).map_or(figure.metric, |metric| metric.name);
    let name = name.trim_start_matches("… ");
    if !full {
        return name.to_owned();
    }
    let unit = by_path(figure.metric).map_or(Unit::Count, |metric| metric.unit);
    // A difference of percentages is none in percent.
    let word = if unit == Unit::Part {
        "points"
    } else {
        unit.name()
    };
    let size = format!("{} {word}", signed(unit, figure.change.difference));
    let size = size.trim_end();
    match figure.change.ratio {
        Some(ratio) => {
            let percent = (ratio - 1.0) * 100.0;
            let sign = if percent > 0.0 { "+" } else { "" };
            format!("{name} ({size}, {sign}{} %)", number(percent))
        }
        None => format!("{name} ({size})"),
    }
}
