//! Tables as CSV, for papers and scripts: one row for each figure of each cell.

use crate::metrics::SHOWN;
use crate::results::Results;
use crate::stats::estimate;

/// Every figure of every cell: runs, median, middle half, interval, in base units.
#[must_use]
pub fn cells_csv(results: &Results) -> String {
    let mut text = String::from(
        "cell,mechanisms,guests,metric,runs,median,middle_half_low,middle_half_high,\
         interval_95_low,interval_95_high,smallest,largest\n",
    );
    for cell in &results.summary.cells {
        for metric in &SHOWN {
            let values = results.values(cell, metric.path);
            let values: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
            let Some(known) = estimate(&values) else {
                continue;
            };
            let ends = |range: Option<crate::stats::Interval>| {
                range.map_or_else(|| ",".to_owned(), |r| format!("{},{}", r.low, r.high))
            };
            text.push_str(&format!(
                "{},{},{},{},{},{},{},{},{},{}\n",
                cell.id,
                cell.mechanisms.join("+"),
                cell.guests,
                metric.path,
                known.runs,
                known.median,
                ends(known.middle_half),
                ends(known.interval),
                known.range.low,
                known.range.high,
            ));
        }
    }
    text
}
