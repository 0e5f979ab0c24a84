//! Several results against the first, side by side.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use super::text::word;
use super::{CellComparison, Comparison};
use crate::metrics::{Metric, SHOWN};
use crate::stats::Finding;

/// A table for each cell of the first: its medians, and behind each other's median the difference,
/// the ratio and the finding.
#[must_use]
pub fn render_many(comparisons: &[Comparison]) -> String {
    let mut text = String::new();
    let Some(first) = comparisons.first() else {
        return text;
    };
    for cell in &first.cells {
        let others = comparisons.iter().map(|comparison| {
            let mut cells = comparison.cells.iter();
            cells.find(|other| other.before == cell.before)
        });
        let others: Vec<Option<&CellComparison>> = others.collect();
        text.push_str(&format!("\n{}\n\n{}\n", cell.before, table(cell, &others)));
    }
    text.push_str(
        "\neach against the first: median, difference, ratio, finding; run `mirrorball compare` \
         with two of them for intervals\n",
    );
    text
}

fn table(first: &CellComparison, others: &[Option<&CellComparison>]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let names = others.iter().enumerate().map(|(index, other)| match other {
        Some(other) => format!("{} ({})", other.after, index + 2),
        None => format!("({})", index + 2),
    });
    let head = [
        String::new(),
        String::new(),
        format!("{} (1)", first.before),
    ];
    table.set_header(head.into_iter().chain(names));
    for metric in &SHOWN {
        if let Some(row) = row(metric, others) {
            table.add_row(row);
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// `None` for a figure that nobody has, or that is 0 everywhere.
fn row(metric: &Metric, others: &[Option<&CellComparison>]) -> Option<Vec<String>> {
    let found = others.iter().map(|other| {
        let mut figures = other.iter().flat_map(|other| &other.figures);
        figures.find(|figure| figure.metric == metric.path)
    });
    let found: Vec<_> = found.collect();
    let before = found.iter().flatten().next()?.change.before;
    let nothing = |figure: &&super::Compared| {
        figure.change.finding == Finding::Same && figure.change.before == 0.0
    };
    if found.iter().flatten().all(nothing) {
        return None;
    }
    let cells = found.iter().map(|figure| {
        let Some(figure) = figure else {
            return "n/a".to_owned();
        };
        let change = &figure.change;
        let sign = if change.difference > 0.0 { "+" } else { "" };
        let ratio = change
            .ratio
            .map_or_else(String::new, |ratio| format!(", {ratio:.3}"));
        format!(
            "{} ({sign}{}{ratio}) {}",
            metric.unit.text(change.after),
            metric.unit.text(change.difference),
            word(figure)
        )
    });
    let head = [
        metric.name.to_owned(),
        metric.unit.name().to_owned(),
        metric.unit.text(before),
    ];
    Some(head.into_iter().chain(cells).collect())
}
