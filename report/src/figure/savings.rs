//! Memory saved against the number of guests, or whatever else is swept; a line for each mechanism set
//! and each combination of the other swept fields.

use kuva::plot::{LinePlot, ScatterPlot};
use kuva::render::plots::Plot;

use super::tex::{self, Chart, Series, Shape, pgfplots};
use super::{COLORS, Figure, Form, Key, Mark, PAGE_WIDTH, Panel, color, draw, row};
use crate::results::Results;
use crate::stats::{Estimate, Ratios, estimate, pairs_of};
use crate::summary::Cell;
use crate::sweep::{Axis, lines};

/// A line: its name and its points.
type Line = (String, Vec<Point>);

/// A point of a line: its place, and percent saved.
struct Point {
    at: f64,
    saved: Estimate,
}

/// The figure; `None` where nothing is swept.
#[must_use]
pub fn savings(results: &Results) -> Option<Figure> {
    let cells = &results.summary.cells;
    let axis = Axis::of(cells)?;
    let drawn = lines(cells, |cell| axis.place(cell)).into_iter();
    let drawn = drawn.map(|line| (line.name(), points(results, &line.cells)));
    let lines: Vec<Line> = drawn.filter(|(_, points)| points.len() > 1).collect();
    if lines.is_empty() {
        return None;
    }
    let title = title(&axis);
    let keys = lines.iter().enumerate().map(|(index, (name, _))| Key {
        label: name.clone(),
        color: color(index),
        mark: match again(index) {
            true => Mark::Dashed,
            false => Mark::Line,
        },
    });
    let page = Form::Page {
        id: "savings",
        width: PAGE_WIDTH,
        height: 290.0,
    };
    let file = Form::File {
        title: &title,
        source: "medians with 95 % intervals; source: run.json",
        height: 420.0,
    };
    let drawn = |form| {
        draw(form, plots(&lines), |layout| {
            layout
                .with_x_label(axis.label.clone())
                .with_y_label("saved, of memory touched (%)")
                .with_y_axis_min(0.0)
        })
    };
    Some(Figure {
        id: "savings".into(),
        title: title.clone(),
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
        data: data(&axis, &lines),
        tex: pgfplots(&[chart(title, &axis, &lines)]),
    })
}

/// Whether a line has a colour that an earlier one has.
fn again(index: usize) -> bool {
    index >= COLORS.len()
}

fn title(axis: &Axis) -> String {
    match axis.label.as_str() {
        "guests" => "Memory saved against the number of guests".to_owned(),
        label => format!("Memory saved against {label}"),
    }
}

fn points(results: &Results, cells: &[(f64, &Cell)]) -> Vec<Point> {
    let point = |(at, cell): &(f64, &Cell)| {
        let pairs = pairs_of(
            &results.values(cell, "memory.touched"),
            &results.values(cell, "memory.reclaimed"),
        );
        let shares = Ratios::of(&pairs)?;
        let shares: Vec<f64> = shares.each().iter().map(|share| share * 100.0).collect();
        Some(Point {
            at: *at,
            saved: estimate(&shares)?,
        })
    };
    cells.iter().filter_map(point).collect()
}

fn plots(lines: &[Line]) -> Vec<Plot> {
    let mut plots = Vec::new();
    for (index, (name, points)) in lines.iter().enumerate() {
        let data: Vec<(f64, f64)> = points
            .iter()
            .map(|point| (point.at, point.saved.median))
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
            .with_legend(name.clone());
        if points.iter().any(|point| point.saved.interval.is_some()) {
            line = line.with_y_err_asymmetric(arms.collect::<Vec<_>>());
        }
        if again(index) {
            line = line.with_dashed();
        }
        plots.push(Plot::Line(line));
        let marks = ScatterPlot::new().with_data(data).with_color(color(index));
        plots.push(Plot::Scatter(marks));
    }
    plots
}

fn chart(title: String, axis: &Axis, lines: &[Line]) -> Chart {
    let point = |point: &Point| tex::Point {
        x: point.at,
        y: point.saved.median,
        arms: point.saved.interval.map(|ends| {
            let middle = point.saved.median;
            (middle - ends.low, ends.high - middle)
        }),
    };
    let series = lines.iter().enumerate();
    let series = series.map(|(index, (name, points))| Series {
        label: name.clone(),
        color: color(index),
        dashed: again(index),
        points: points.iter().map(point).collect(),
    });
    Chart {
        title,
        x: axis.label.clone(),
        y: "saved, of memory touched (%)".to_owned(),
        shape: Shape::Lines,
        series: series.collect(),
    }
}

fn data(axis: &Axis, lines: &[Line]) -> String {
    let head = [
        "mechanisms",
        &axis.label,
        "runs",
        "saved (%)",
        "low (%)",
        "high (%)",
    ];
    let mut text = row(&head.map(str::to_owned));
    for (name, points) in lines {
        for point in points {
            let end = |end: Option<f64>| end.map_or_else(String::new, |end| format!("{end:.3}"));
            text.push_str(&row(&[
                name.clone(),
                point.at.to_string(),
                point.saved.runs.to_string(),
                format!("{:.3}", point.saved.median),
                end(point.saved.interval.map(|interval| interval.low)),
                end(point.saved.interval.map(|interval| interval.high)),
            ]));
        }
    }
    text
}
