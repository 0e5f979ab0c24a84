//! Tables for people: cells side by side, medians with their intervals.

use std::fmt::Write as _;

use crate::figure::latex;
use crate::metrics::{Metric, SHOWN};
use crate::results::Results;
use crate::stats::estimate;

const NOT_MEASURED: &str = "n/a";

/// What the numbers are, below the table.
const LEGEND: &str = "Medians over the runs; in brackets their 95 % bootstrap interval, for three runs \
                      or more. n/a: not measured.";

/// A row: figure, unit, and a text for each cell.
struct Row {
    head: [&'static str; 2],
    values: Vec<String>,
}

/// The table as Markdown.
#[must_use]
pub fn cells_markdown(results: &Results) -> String {
    let ids = results.summary.cells.iter().map(|cell| cell.id.as_str());
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(&mut ["figure", "unit"].into_iter().chain(ids));
    text.push_str("|---|---|");
    text.push_str(&"---:|".repeat(results.summary.cells.len()));
    text.push('\n');
    for row in rows(results) {
        let values = row.values.iter().map(String::as_str);
        text.push_str(&line(&mut row.head.into_iter().chain(values)));
    }
    let _ = write!(text, "\n{LEGEND}\n");
    text
}

/// The table as LaTeX, for the package booktabs.
#[must_use]
pub fn cells_latex(results: &Results) -> String {
    let cells = &results.summary.cells;
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.map(latex);
        format!("{} \\\\\n", cells.collect::<Vec<_>>().join(" & "))
    };
    let mut text = format!(
        "% In the preamble: \\usepackage{{booktabs}}\n\\begin{{tabular}}{{ll{}}}\n\\toprule\n",
        "r".repeat(cells.len())
    );
    let ids = cells.iter().map(|cell| cell.id.as_str());
    text.push_str(&line(&mut ["figure", "unit"].into_iter().chain(ids)));
    text.push_str("\\midrule\n");
    for row in rows(results) {
        let values = row.values.iter().map(String::as_str);
        text.push_str(&line(&mut row.head.into_iter().chain(values)));
    }
    let _ = write!(
        text,
        "\\bottomrule\n\\multicolumn{{{}}}{{l}}{{{}}}\n\\end{{tabular}}\n",
        cells.len() + 2,
        latex(LEGEND)
    );
    text
}

/// The figures that some cell has.
fn rows(results: &Results) -> Vec<Row> {
    let row = |metric: &Metric| {
        let cells = results.summary.cells.iter();
        let values: Vec<String> = cells
            .map(|cell| {
                let values = results.values(cell, metric.path);
                let values: Vec<f64> = values.into_iter().map(|(_, value)| value).collect();
                shown(metric, &values)
            })
            .collect();
        let measured = values.iter().any(|value| value != NOT_MEASURED);
        measured.then(|| Row {
            head: [metric.name, metric.unit.name()],
            values,
        })
    };
    SHOWN.iter().filter_map(row).collect()
}

fn shown(metric: &Metric, values: &[f64]) -> String {
    let Some(known) = estimate(values) else {
        return NOT_MEASURED.to_owned();
    };
    let (unit, median) = (metric.unit, metric.unit.text(known.median));
    let Some(interval) = known.interval else {
        return median;
    };
    let (low, high) = (unit.text(interval.low), unit.text(interval.high));
    if low == high {
        median
    } else {
        format!("{median} [{low}, {high}]")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn quick() -> Results {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1");
        let mut results = Results::load(&path).unwrap();
        let wanted = ["none", "ksm"];
        let cells = &mut results.summary.cells;
        cells.retain(|cell| wanted.contains(&cell.id.as_str()));
        results
    }

    fn has(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{line}\n{text}");
        }
    }

    #[test]
    fn markdown_is_as_it_was() {
        has(
            &cells_markdown(&quick()),
            &[
                "| figure | unit | none | ksm |",
                "|---|---|---:|---:|",
                "| guest-physical | MiB | 1024 | 1024 |",
                "| ksmd CPU | s | n/a | 0.915 [0.841, 0.938] |",
            ],
        );
    }

    #[test]
    fn latex_is_as_it_was() {
        has(
            &cells_latex(&quick()),
            &[
                "\\begin{tabular}{llrr}",
                "figure & unit & none & ksm \\\\",
                "guest-physical & MiB & 1024 & 1024 \\\\",
                "of what is possible & \\% & 0 & 99.9 [99.7, 99.9] \\\\",
                "\\end{tabular}",
            ],
        );
    }
}
