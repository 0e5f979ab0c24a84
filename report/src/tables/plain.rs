//! Tables for scripts: one value in each row, base units, all digits, nothing but data.

use crate::metrics::{Metric, SHOWN, Unit};
use crate::results::Results;
use crate::stats::{Interval, estimate};

/// The base unit of a figure, as it is called in a file.
const fn base(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Seconds | Unit::Micros => "seconds",
        Unit::Part => "part",
        Unit::Count => "count",
    }
}

/// Every figure of every complete run.
#[must_use]
pub fn runs_csv(results: &Results) -> String {
    let mut rows = Rows::new(&[
        "cell",
        "mechanisms",
        "guests",
        "run",
        "started",
        "metric",
        "unit",
        "value",
    ]);
    for cell in &results.summary.cells {
        for metric in &SHOWN {
            for (run, value) in results.values(cell, metric.path) {
                rows.add(&[
                    cell.id.clone(),
                    cell.mechanisms.join("+"),
                    cell.guests.to_string(),
                    run.to_string(),
                    started(results, &cell.id, run),
                    metric.path.to_owned(),
                    base(metric.unit).to_owned(),
                    value.to_string(),
                ]);
            }
        }
    }
    rows.text()
}

fn started(results: &Results, cell: &str, run: u32) -> String {
    let mut runs = results.run.runs.iter();
    let found = runs.find(|found| found.cell == cell && found.run == run);
    found.map_or_else(String::new, |run| run.started.clone())
}

/// Every figure of every cell: what is known of it from its runs.
#[must_use]
pub fn cells_csv(results: &Results) -> String {
    let mut rows = Rows::new(&[
        "cell",
        "mechanisms",
        "guests",
        "metric",
        "unit",
        "runs",
        "median",
        "middle_half_low",
        "middle_half_high",
        "interval_95_low",
        "interval_95_high",
        "smallest",
        "largest",
        "mean",
        "mean_interval_95_low",
        "mean_interval_95_high",
        "median_absolute_deviation",
    ]);
    for cell in &results.summary.cells {
        for metric in &SHOWN {
            let values = results.values(cell, metric.path);
            let values: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
            let Some(row) = figures(metric, &values) else {
                continue;
            };
            let head = [
                cell.id.clone(),
                cell.mechanisms.join("+"),
                cell.guests.to_string(),
            ];
            rows.add(&[&head[..], &row].concat());
        }
    }
    rows.text()
}

fn figures(metric: &Metric, values: &[f64]) -> Option<Vec<String>> {
    let known = estimate(values)?;
    let text = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let ends = |range: Option<Interval>| {
        [
            text(range.map(|range| range.low)),
            text(range.map(|range| range.high)),
        ]
    };
    let head = [
        metric.path.to_owned(),
        base(metric.unit).to_owned(),
        known.runs.to_string(),
        known.median.to_string(),
    ];
    Some(
        [
            &head[..],
            &ends(known.middle_half),
            &ends(known.interval),
            &ends(Some(known.range)),
            &[text(known.mean)],
            &ends(known.mean_interval),
            &[text(known.deviation)],
        ]
        .concat(),
    )
}

/// Rows of a CSV file.
struct Rows(csv::Writer<Vec<u8>>);

impl Rows {
    fn new(head: &[&str]) -> Self {
        let mut rows = Self(csv::Writer::from_writer(Vec::new()));
        rows.add(head);
        rows
    }

    fn add(&mut self, row: &[impl AsRef<[u8]>]) {
        // Writing to memory does not fail, and all rows of a table have the same length.
        let _ = self.0.write_record(row);
    }

    fn text(self) -> String {
        let bytes = self.0.into_inner().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn reference(name: &str) -> Results {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference");
        Results::load(&path.join(name)).unwrap()
    }

    /// What a strict reader makes of a table.
    fn read(text: &str) -> Vec<std::collections::BTreeMap<String, String>> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(false)
            .from_reader(text.as_bytes());
        reader.deserialize().map(|row| row.unwrap()).collect()
    }

    #[test]
    fn each_run_has_a_row_for_each_figure() {
        let rows = read(&runs_csv(&reference("quick")));
        let of = |cell: &str, run: &str, metric: &str| {
            let mut rows = rows.iter();
            let row = rows.find(|r| r["cell"] == cell && r["run"] == run && r["metric"] == metric);
            row.unwrap().clone()
        };
        let row = of("all", "2", "memory.guest_physical");
        assert_eq!(
            (row["value"].as_str(), row["unit"].as_str()),
            ("1073741824", "bytes")
        );
        assert!(row["started"].starts_with("2026-"));
        for row in &rows {
            row["value"].parse::<f64>().unwrap();
        }
        let mut keys: Vec<_> = rows
            .iter()
            .map(|row| (&row["cell"], &row["run"], &row["metric"]))
            .collect();
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all, "a run has a figure twice");
    }

    #[test]
    fn few_runs_leave_the_columns_of_intervals_empty() {
        let rows = read(&cells_csv(&reference("fig4-identical-vms")));
        for row in &rows {
            assert_eq!(row["runs"], "1");
            for column in ["interval_95_low", "mean", "median_absolute_deviation"] {
                assert_eq!(row[column], "", "{column}");
            }
        }
        let rows = read(&cells_csv(&reference("quick")));
        let number = |text: &str| text.parse::<f64>().unwrap();
        for row in &rows {
            let (low, high) = (&row["interval_95_low"], &row["interval_95_high"]);
            assert!(number(low) <= number(&row["median"]));
            assert!(number(&row["median"]) <= number(high));
        }
    }
}
