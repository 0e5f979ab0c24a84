//! What the experiment file expects, and what was found.

use super::cells::known;
use super::text::{Judged, NOT_MEASURED, Value};
use crate::judge::words;
use crate::metrics::Unit;
use crate::results::{Expectation, Results};
use crate::stats::estimate;
use crate::summary::{Cell, Outcome};

#[derive(Debug)]
pub(super) struct Expected {
    pub(super) claim: String,
    pub(super) cell: String,
    /// The cells of a curve as they are claimed to stand, each with its sign; empty for other claims.
    pub(super) curve: Vec<String>,
    pub(super) verdict: Judged,
    pub(super) found: Value,
    pub(super) bound: String,
    pub(super) published: String,
    pub(super) metric: String,
}

/// Each expectation once for every way in which it came out.
pub(super) fn expectations(results: &Results) -> Vec<Expected> {
    let mut groups: Vec<(&Outcome, Vec<&Cell>)> = Vec::new();
    for cell in &results.summary.cells {
        for outcome in &cell.expect {
            let alike = |group: &&mut (&Outcome, Vec<&Cell>)| {
                let one = group.0;
                one.id == outcome.id && one.verdict == outcome.verdict && one.cells == outcome.cells
            };
            match groups.iter_mut().find(alike) {
                Some((_, cells)) => cells.push(cell),
                None => groups.push((outcome, vec![cell])),
            }
        }
    }
    // In the order of the file: what is one claim stays together.
    let all = &results.run.experiment.expect;
    groups.sort_by_key(|(outcome, _)| all.iter().position(|claim| claim.id == outcome.id));
    let rows = groups.iter();
    rows.map(|(outcome, cells)| expected(results, outcome, cells))
        .collect()
}

fn expected(results: &Results, outcome: &Outcome, cells: &[&Cell]) -> Expected {
    let all = &results.run.experiment.expect;
    let declared = all.iter().find(|expectation| expectation.id == outcome.id);
    let expectation = declared.cloned().unwrap_or_default();
    let path = &expectation.metric;
    let unit = words::unit(&expectation);
    let found = match cells {
        _ if !outcome.cells.is_empty() => judged(outcome, "least step ", unit),
        // The figure alone would be another thing.
        [_] if expectation.ratio_to.is_some() => judged(outcome, "", unit),
        [cell] => {
            let known = known(results, cell, path).or_else(|| estimate(&[outcome.value?]));
            Value::new(known.as_ref(), unit)
        }
        // Different cells are no repeats: their medians have a range, not an interval.
        cells => over_cells(&outcomes(cells, &outcome.id), unit),
    };
    let everywhere = cells.len() > 1 && cells.len() == results.summary.cells.len();
    Expected {
        claim: claim(&expectation, &outcome.id),
        curve: curve(&expectation, outcome),
        cell: if everywhere {
            format!("all {}", cells.len())
        } else {
            let ids = cells.iter().map(|cell| cell.id.as_str());
            ids.collect::<Vec<_>>().join(", ")
        },
        verdict: outcome.verdict.into(),
        found: with_unit(found, unit),
        bound: words::bound(&expectation),
        published: outcome
            .published
            .map_or_else(String::new, |value| words::amount(value, unit)),
        metric: words::metric(&expectation),
    }
}

fn curve(expectation: &Expectation, outcome: &Outcome) -> Vec<String> {
    let falls = expectation.bound.get("decreases-with").is_some();
    let sign = if falls { '>' } else { '<' };
    let cells = outcome.cells.iter().enumerate();
    let told = cells.map(|(place, cell)| match place {
        0 => cell.clone(),
        _ => format!("{sign} {cell}"),
    });
    told.collect()
}

/// The value that was judged, which is not the figure itself.
fn judged(outcome: &Outcome, what: &str, unit: Unit) -> Value {
    let Some(value) = outcome.value else {
        return Value::none();
    };
    let range = outcome.interval.map_or_else(String::new, |[low, high]| {
        format!("[{}, {}]", unit.text(low), unit.text(high))
    });
    Value {
        middle: format!("{what}{}", unit.text(value)),
        range,
    }
}

fn outcomes(cells: &[&Cell], id: &str) -> Vec<f64> {
    let outcomes = cells.iter().flat_map(|cell| &cell.expect);
    let own = outcomes.filter(|outcome| outcome.id == id);
    own.filter_map(|outcome| outcome.value).collect()
}

fn over_cells(values: &[f64], unit: Unit) -> Value {
    let Some(range) = estimate(values).map(|known| known.range) else {
        return Value::none();
    };
    let (low, high) = (unit.text(range.low), unit.text(range.high));
    Value {
        middle: if low == high {
            low
        } else {
            format!("{low} to {high}")
        },
        range: "over cells".to_owned(),
    }
}

fn claim(expectation: &Expectation, id: &str) -> String {
    let claim = expectation.claim.as_deref().unwrap_or(id);
    match &expectation.source {
        Some(source) => format!("{claim} ({source})"),
        None => claim.to_owned(),
    }
}

fn with_unit(value: Value, unit: Unit) -> Value {
    if value.middle == NOT_MEASURED || unit.name().is_empty() {
        return value;
    }
    Value {
        middle: format!("{} {}", value.middle, unit.name()),
        range: value.range,
    }
}
