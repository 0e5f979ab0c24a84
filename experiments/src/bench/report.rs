//! What was measured, as lines with a verdict and as a table.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

use super::{Bench, Row, Spread, Wanted};
use crate::output::provenance::Provenance;

/// Whether a figure came to what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The middle half of the values is as wished.
    Met,
    /// The middle half of the values is not.
    NotMet,
    /// The bound lies inside the middle half.
    Inconclusive,
    /// There is no value.
    NotMeasured,
}

impl Verdict {
    fn of(wanted: Wanted, spread: &Spread) -> Self {
        match (wanted.is_met_by(spread.low), wanted.is_met_by(spread.high)) {
            (true, true) => Self::Met,
            (false, false) => Self::NotMet,
            _ => Self::Inconclusive,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "NOT MET",
            Self::Inconclusive => "inconclusive",
            Self::NotMeasured => "not measured",
        }
    }
}

/// One line of the report.
#[derive(Debug, Serialize)]
pub struct Line {
    /// The measurement it comes from.
    pub bench: &'static str,
    /// Id.
    pub id: String,
    /// What was measured.
    pub what: String,
    /// Unit of the values; empty for a ratio.
    pub unit: &'static str,
    /// What it should come to; `null` for a figure that explains another.
    pub wanted: Option<Wanted>,
    /// Median and spread; `null` where it could not be measured.
    pub result: Option<Spread>,
    /// Whether it came to that.
    pub verdict: Option<Verdict>,
    /// Why there is no value.
    pub problem: Option<String>,
    /// Load average of the last minute when it was measured.
    pub load: Option<f64>,
}

/// The lines of a measurement that gave these values and may have ended with a problem.
pub fn lines(bench: &Bench, rows: Vec<(Row, Vec<f64>)>, problem: Option<String>) -> Vec<Line> {
    let load = load_average();
    let line = |(row, values): (Row, Vec<f64>)| {
        let result = Spread::of(&values);
        let verdict = row
            .wanted
            .zip(result.as_ref())
            .map(|(wanted, spread)| Verdict::of(wanted, spread));
        let Row {
            id,
            what,
            unit,
            wanted,
        } = row;
        Line {
            bench: bench.id,
            id,
            what,
            unit,
            wanted,
            result,
            verdict,
            problem: None,
            load,
        }
    };
    let mut lines: Vec<Line> = rows.into_iter().map(line).collect();
    if problem.is_some() {
        lines.push(Line {
            bench: bench.id,
            id: bench.id.to_owned(),
            what: bench.what.to_owned(),
            unit: "",
            wanted: None,
            result: None,
            verdict: Some(Verdict::NotMeasured),
            problem,
            load,
        });
    }
    lines
}

fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg")
        .ok()?
        .split(' ')
        .next()?
        .parse()
        .ok()
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

impl Report {
    pub(super) fn new(runs: u32, lines: Vec<Line>, provenance: Provenance) -> Self {
        let table = table(&lines, &provenance);
        Self {
            schema_version: 2,
            runs,
            lines,
            provenance,
            table,
        }
    }
}

fn table(lines: &[Line], provenance: &Provenance) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "id",
        "what",
        "wanted",
        "median",
        "middle half",
        "min to max",
        "n",
        "load",
        "verdict",
    ]);
    for line in lines {
        let value = |value: f64| {
            format!("{} {}", short(value), line.unit)
                .trim_end()
                .to_owned()
        };
        let wanted = match line.wanted {
            Some(Wanted::AtLeast(bound)) => format!(">= {}", value(bound)),
            Some(Wanted::AtMost(bound)) => format!("<= {}", value(bound)),
            None => String::new(),
        };
        let (median, half, range, n) = match &line.result {
            Some(spread) => (
                value(spread.median),
                format!("{} to {}", short(spread.low), short(spread.high)),
                format!("{} to {}", short(spread.min), short(spread.max)),
                spread.values.len().to_string(),
            ),
            None => (
                line.problem.clone().unwrap_or_default(),
                String::new(),
                String::new(),
                "0".to_owned(),
            ),
        };
        let load = line
            .load
            .map_or_else(String::new, |load| format!("{load:.1}"));
        let verdict = line.verdict.map_or("", Verdict::word).to_owned();
        table.add_row([
            line.id.clone(),
            line.what.clone(),
            wanted,
            median,
            half,
            range,
            n,
            load,
            verdict,
        ]);
    }
    format!("{table}\n\n{}\n", machine(provenance))
}

/// Three digits that count, however large the number.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 100.0 => format!("{value:.1}"),
        middle if middle >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn machine(provenance: &Provenance) -> String {
    let host = &provenance.host;
    format!(
        "{}, {} CPUs, {} GiB, Linux {}, KVM {}; built as {}",
        host.cpu.as_deref().unwrap_or("unknown CPU"),
        host.cpus.unwrap_or(0),
        host.memory.unwrap_or(0) >> 30,
        host.kernel.as_deref().unwrap_or("unknown"),
        host.kvm,
        provenance.profile
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_inside_the_middle_half_decides_nothing() {
        let verdict = |wanted, values: &[f64]| Verdict::of(wanted, &Spread::of(values).unwrap());
        assert_eq!(
            verdict(Wanted::AtLeast(5.0), &[1.0, 6.0, 7.0, 8.0, 9.0]),
            Verdict::Met
        );
        assert_eq!(
            verdict(Wanted::AtLeast(8.5), &[1.0, 6.0, 7.0, 8.0, 9.0]),
            Verdict::NotMet
        );
        assert_eq!(
            verdict(Wanted::AtMost(7.5), &[1.0, 6.0, 7.0, 8.0, 9.0]),
            Verdict::Inconclusive
        );
    }

    #[test]
    fn a_problem_keeps_the_values_that_there_are() {
        let bench = Bench {
            id: "x",
            what: "something",
            measure: |_| Ok(()),
        };
        let rows = vec![(Row::new("a", "b", "", Wanted::AtMost(1.0)), vec![2.0])];
        let lines = lines(&bench, rows, Some("no more guests".to_owned()));
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].verdict, Some(Verdict::NotMet));
        assert_eq!(lines[1].verdict, Some(Verdict::NotMeasured));
    }
}
