//! Values of a paper beside ours, one pair of bars for each claim that names one.
//!
//! For results whose sweep has published values the other figure shows them as curves.

use kuva::plot::BarPlot;
use kuva::render::plots::Plot;

use super::tex::{Chart, Series, Shape, pgfplots};
use super::{Figure, Form, Key, Mark, PAGE_WIDTH, Panel, color, count, draw, row};
use crate::judge::words;
use crate::metrics::Unit;
use crate::results::Results;

/// The parts of a pair, in their order.
const PARTS: [&str; 2] = ["here", "published"];

/// Fewer pairs than this are in the table of claims already, and make no figure.
const LEAST: usize = 2;

/// One claim.
struct Pair {
    name: String,
    /// Here and as published, in the unit that is shown.
    values: [f64; 2],
}

/// A figure for each unit that claims with published values have.
#[must_use]
pub fn claimed(results: &Results) -> Vec<Figure> {
    let sweep = results.run.experiment.sweep.as_ref();
    if sweep.is_some_and(|sweep| sweep.published.is_some()) {
        return Vec::new();
    }
    let units = [Unit::Part, Unit::Bytes, Unit::Seconds, Unit::Count];
    let figures = units.into_iter().map(|unit| (unit, pairs(results, unit)));
    figures
        .filter(|(_, pairs)| pairs.len() >= LEAST)
        .map(|(unit, pairs)| figure(unit, &pairs))
        .collect()
}

/// Claims in the order of the file, each with its cell where there are several.
fn pairs(results: &Results, unit: Unit) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for claim in &results.run.experiment.expect {
        if words::unit(claim) != unit {
            continue;
        }
        for cell in &results.summary.cells {
            let outcome = cell.expect.iter().find(|outcome| outcome.id == claim.id);
            let values = outcome.and_then(|outcome| Some([outcome.value?, outcome.published?]));
            pairs.extend(values.map(|values| Pair {
                name: match claim.cell {
                    Some(_) => claim.id.clone(),
                    None => format!("{}, {}", claim.id, cell.id),
                },
                values: values.map(|value| unit.scaled(value)),
            }));
        }
    }
    pairs
}

fn figure(unit: Unit, pairs: &[Pair]) -> Figure {
    let (id, axis) = match unit {
        Unit::Part => ("claimed-parts", "part (%)"),
        Unit::Bytes => ("claimed-sizes", "memory (MiB)"),
        Unit::Seconds | Unit::Micros => ("claimed-times", "time (s)"),
        Unit::Count => ("claimed-numbers", "ratio, or number"),
    };
    let title = "Claims, here and as published";
    let source = "here: summary.json; published: see the claims";
    let height = 44.0f64.mul_add(count(pairs.len()), 90.0);
    let drawn = |form| draw(form, plots(pairs), |layout| layout.with_x_label(axis));
    let keys = PARTS.iter().enumerate().map(|(index, label)| Key {
        label: (*label).to_owned(),
        color: color(index),
        mark: Mark::Area,
    });
    Figure {
        id: id.into(),
        title: title.into(),
        caption: "The value that was judged of each claim that names a published one; medians of \
                  the runs."
            .into(),
        source: source.into(),
        keys: keys.collect(),
        panels: vec![Panel {
            name: String::new(),
            svg: drawn(Form::Page {
                id,
                width: PAGE_WIDTH,
                height,
            }),
        }],
        file: drawn(Form::File {
            title,
            source,
            height: height + 90.0,
        }),
        data: data(unit, pairs),
        tex: pgfplots(&[chart(title, axis, pairs)]),
    }
}

fn plots(pairs: &[Pair]) -> Vec<Plot> {
    let mut bars = BarPlot::new().with_horizontal(true);
    // The library draws the first group, and in it the first bar, at the bottom.
    for pair in pairs.iter().rev() {
        let values = pair.values.iter().enumerate().rev();
        let values = values.map(|(part, value)| (*value, color(part)));
        bars = bars.with_group(pair.name.clone(), values.collect::<Vec<_>>());
    }
    let labels = PARTS.iter().rev().copied().collect();
    vec![Plot::Bar(bars.with_legend(labels))]
}

fn chart(title: &str, axis: &str, pairs: &[Pair]) -> Chart {
    let series = PARTS.iter().enumerate().map(|(part, label)| Series {
        label: (*label).to_owned(),
        color: color(part),
        dashed: false,
        points: pairs
            .iter()
            .enumerate()
            .map(|(place, pair)| (pair.values[part], count(place)).into())
            .collect(),
    });
    Chart {
        title: title.to_owned(),
        x: axis.to_owned(),
        y: String::new(),
        shape: Shape::Bars(pairs.iter().map(|pair| pair.name.clone()).collect()),
        series: series.collect(),
    }
}

fn data(unit: Unit, pairs: &[Pair]) -> String {
    let mut text = row(&["claim", "here", "published", "unit"].map(str::to_owned));
    for pair in pairs {
        let [here, published] = pair.values.map(|value| format!("{value:.4}"));
        text.push_str(&row(&[
            pair.name.clone(),
            here,
            published,
            unit.name().to_owned(),
        ]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::results::Expectation;
    use crate::summary::{Cell, Outcome, Severity, Verdict};

    fn results(claims: &[(&str, f64, Option<f64>)]) -> Results {
        let claim = |(id, ..): &(&str, f64, Option<f64>)| Expectation {
            id: (*id).to_owned(),
            metric: "sharing.reclaimed_share".into(),
            cell: Some("all".into()),
            ..Expectation::default()
        };
        let outcome = |(id, value, published): &(&str, f64, Option<f64>)| Outcome {
            id: (*id).to_owned(),
            verdict: Verdict::Met,
            value: Some(*value),
            interval: None,
            severity: Severity::default(),
            published: *published,
            cells: Vec::new(),
        };
        let cell = Cell {
            expect: claims.iter().map(outcome).collect(),
            ..fixture::cell("all")
        };
        let mut results = fixture::results(vec![cell]);
        results.run.experiment.expect = claims.iter().map(claim).collect();
        results
    }

    #[test]
    fn claims_with_published_values_stand_beside_them() {
        let figures = claimed(&results(&[
            ("a", 0.4, Some(0.329)),
            ("b", 0.3, None),
            ("c", 0.2, Some(0.072)),
        ]));
        let [figure] = figures.as_slice() else {
            panic!("{figures:?}");
        };
        assert_eq!(
            figure.data,
            "claim,here,published,unit\na,40.0000,32.9000,%\nc,20.0000,7.2000,%\n"
        );
        assert!(figure.file.contains(">published<"));
    }

    #[test]
    fn one_pair_makes_no_figure() {
        assert!(claimed(&results(&[("a", 0.4, Some(0.3)), ("b", 0.4, None)])).is_empty());
    }
}
