//! Memory saved against the number of guests, a line for each mechanism set.

use kuva::plot::{LinePlot, ScatterPlot};
use kuva::render::plots::Plot;

use super::tex::{self, Chart, Series, Shape, pgfplots};
use super::{Figure, Form, Key, Mark, PAGE_WIDTH, Panel, color, draw, row};
use crate::results::{Results, Set};
use crate::stats::{Estimate, estimate, pairs_of};
use crate::summary::Cell;

const TITLE: &str = "Memory saved against the number of guests";

/// A point of a line: guests, and percent saved.
struct Point {
    guests: f64,
    saved: Estimate,
}

/// The figure; `None` for results of one number of guests.
#[must_use]
pub fn savings(results: &Results) -> Option<Figure> {
    let sets = results.sets();
    let lines: Vec<(&Set<'_>, Vec<Point>)> = sets
        .iter()
        .map(|set| (set, points(results, set)))
        .filter(|(_, points)| points.len() > 1)
        .collect();
    if lines.is_empty() {
        return None;
    }
    let keys = lines.iter().enumerate().map(|(index, (set, _))| Key {
        label: set.name.clone(),
        color: color(index),
        mark: Mark::Line,
    });
    let page = Form::Page {
        id: "savings",
        width: PAGE_WIDTH,
        height: 290.0,
    };
    let file = Form::File {
        title: TITLE,
        source: "medians with 95 % intervals; source: run.json",
        height: 420.0,
    };
    let drawn = |form| {
        draw(form, plots(&lines), |layout| {
            layout
                .with_x_label("guests")
                .with_y_label("saved, of memory touched (%)")
                .with_y_axis_min(0.0)
        })
    };
    Some(Figure {
        id: "savings".into(),
        title: TITLE.into(),
        caption: "Reclaimed memory as a part of what guests touched, at the end of the quiet \
                  period; medians, whiskers are 95 % bootstrap intervals over the runs where \
                  there are three or more."
            .into(),
        source: "run.json".into(),
        keys: keys.collect(),
        panels: vec![Panel {
            name: String::new(),
            svg: drawn(page),
        }],
        file: drawn(file),
        data: data(&lines),
        tex: pgfplots(&[chart(&lines)]),
    })
}

fn points(results: &Results, set: &Set<'_>) -> Vec<Point> {
    let point = |cell: &&Cell| {
        let pairs = pairs_of(
            &results.values(cell, "memory.touched"),
            &results.values(cell, "memory.reclaimed"),
        );
        let shares: Vec<f64> = pairs
            .iter()
            .map(|pair| pair.value / pair.base * 100.0)
            .collect();
        Some(Point {
            guests: count(cell.guests),
            saved: estimate(&shares)?,
        })
    };
    set.cells.iter().filter_map(point).collect()
}

fn plots(lines: &[(&Set<'_>, Vec<Point>)]) -> Vec<Plot> {
    let mut plots = Vec::new();
    for (index, (set, points)) in lines.iter().enumerate() {
        let data: Vec<(f64, f64)> = points
            .iter()
            .map(|point| (point.guests, point.saved.median))
            .collect();
        let arms = points.iter().map(|point| match point.saved.interval {
            Some(interval) => (
                point.saved.median - interval.low,
                interval.high - point.saved.median,
            ),
            None => (0.0, 0.0),
        });
        let mut line = LinePlot::new()
            .with_data(data.clone())
            .with_color(color(index))
            .with_legend(set.name.clone());
        if points.iter().any(|point| point.saved.interval.is_some()) {
            line = line.with_y_err_asymmetric(arms.collect::<Vec<_>>());
        }
        plots.push(Plot::Line(line));
        let marks = ScatterPlot::new().with_data(data).with_color(color(index));
        plots.push(Plot::Scatter(marks));
    }
    plots
}

fn chart(lines: &[(&Set<'_>, Vec<Point>)]) -> Chart {
    let point = |point: &Point| tex::Point {
        x: point.guests,
        y: point.saved.median,
        arms: point.saved.interval.map(|ends| {
            let middle = point.saved.median;
            (middle - ends.low, ends.high - middle)
        }),
    };
    let series = lines.iter().enumerate();
    let series = series.map(|(index, (set, points))| Series {
        label: set.name.clone(),
        color: color(index),
        dashed: false,
        points: points.iter().map(point).collect(),
    });
    Chart {
        title: TITLE.to_owned(),
        x: "guests",
        y: "saved, of memory touched (%)",
        shape: Shape::Lines,
        series: series.collect(),
    }
}

fn data(lines: &[(&Set<'_>, Vec<Point>)]) -> String {
    let head = [
        "mechanisms",
        "guests",
        "runs",
        "saved (%)",
        "low (%)",
        "high (%)",
    ];
    let mut text = row(&head.map(str::to_owned));
    for (set, points) in lines {
        for point in points {
            let end = |end: Option<f64>| end.map_or_else(String::new, |end| format!("{end:.3}"));
            text.push_str(&row(&[
                set.name.clone(),
                point.guests.to_string(),
                point.saved.runs.to_string(),
                format!("{:.3}", point.saved.median),
                end(point.saved.interval.map(|interval| interval.low)),
                end(point.saved.interval.map(|interval| interval.high)),
            ]));
        }
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "a place in a figure")]
fn count(guests: u64) -> f64 {
    guests as f64
}
