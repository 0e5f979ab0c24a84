//! Percentile distributions as text (`.hgrm`), which HdrHistogram's plotters read.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Lines for each halving of what is left above; the other programs' default.
const STEPS: u32 = 5;

/// The distribution of values in nanoseconds, in microseconds.
#[must_use]
pub fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for step in histogram.iter_quantiles(STEPS) {
        let part = step.quantile_iterated_to();
        let (value, below) = (
            micros(step.value_iterated_to()),
            count_at(histogram, step.value_iterated_to()),
        );
        // Writing to a string does not fail.
        let _ = if part < 1.0 {
            let left = 1.0 / (1.0 - part);
            writeln!(text, "{value:12.3} {part:.12} {below:10} {left:14.2}")
        } else {
            writeln!(text, "{value:12.3} {part:.12} {below:10}")
        };
    }
    let buckets = u64::from(histogram.buckets());
    let places = u64::try_from(histogram.distinct_values()).unwrap_or(u64::MAX);
    let _ = write!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n\
         #[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {buckets:12}, SubBuckets     = {:12}]\n",
        histogram.mean() / 1e3,
        histogram.stdev() / 1e3,
        micros(histogram.max()),
        histogram.len(),
        // Half of each bucket but the first lies in the one before.
        2 * places / (buckets + 1),
    );
    text
}

/// Values that are at most this one.
fn count_at(histogram: &Histogram<u64>, value: u64) -> u64 {
    histogram.count_between(0, value)
}

#[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_form_that_plotters_read() {
        let mut histogram = Histogram::new(3).unwrap();
        for value in 1..=1000_u64 {
            histogram.record(value * 1000).unwrap();
        }
        let text = hgrm(&histogram);
        let mut lines = text.lines();
        let head = lines.next().unwrap();
        let head: Vec<&str> = head.split_whitespace().collect();
        assert_eq!(
            head,
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        assert_eq!(lines.next(), Some(""));
        let rows: Vec<Vec<f64>> = lines
            .take_while(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|n| n.parse().unwrap())
                    .collect()
            })
            .collect();
        // The median, and the last line, which holds all values and has no fourth column.
        let median = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((median[0] - 500.0).abs() < 1.0 && (median[2] - 500.0).abs() < 1.0);
        assert!((median[3] - 2.0).abs() < 1e-9);
        let last = rows.last().unwrap();
        assert_eq!((last.len(), last[1], last[2]), (3, 1.0, 1000.0));
        assert!(
            rows.windows(2)
                .all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] < pair[1][1])
        );
        assert!(text.contains("#[Mean    =      500.5"), "{text}");
        assert!(text.contains("Total count    =         1000]"), "{text}");
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
    }
}
