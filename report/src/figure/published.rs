//! What is shared and saved against the number of guests, as in figure 4 of the ESX Server paper,
//! with the published values beside ours where the experiment has them; also `sweep.svg` of a
//! results folder.

use kuva::plot::scatter::MarkerShape;
use kuva::plot::{LinePlot, ScatterPlot};
use kuva::render::plots::Plot;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::footprint::PublishedFootprint;
use super::tex::{Chart, Point, Series, Shape, pgfplots};
use super::{Figure, Form, Key, Mark, PAGE_WIDTH, Panel, draw, row};
use crate::results::Results;
use crate::summary::{Cell, Figures};
use crate::sweep::lines;

/// Published values of a sweep, in percent of the memory in use; empty where there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Published {
    /// Where they were published.
    pub source: String,
    /// Numbers of guests.
    pub count: Vec<u32>,
    /// Pages that share a frame.
    pub shared: Vec<f64>,
    /// Pages saved.
    pub reclaimed: Vec<f64>,
    /// Pages of zeros.
    pub zero: Vec<f64>,
    /// How far off the values may be that were read off a graph, in percent of the memory in use;
    /// `None` for values that were printed.
    pub reading_error: Option<f64>,
    /// Memory by what it is used for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub footprint: Option<PublishedFootprint>,
}

/// One line of the figure.
struct Curve {
    label: &'static str,
    color: &'static str,
    ours: fn(&Figures) -> Option<u64>,
    published: fn(&Published) -> &[f64],
}

/// What the paper draws. Colours are Okabe and Ito's.
const CURVES: [Curve; 3] = [
    Curve {
        label: "shared",
        color: "#0072B2",
        ours: |figures| figures.memory.shared,
        published: |published| &published.shared,
    },
    Curve {
        label: "reclaimed",
        color: "#E69F00",
        ours: |figures| figures.memory.reclaimed,
        published: |published| &published.reclaimed,
    },
    Curve {
        label: "zero",
        color: "#009E73",
        ours: |figures| figures.memory.zero,
        published: |published| &published.zero,
    },
];

/// The figure as SVG, in percent of the memory that guests use; `None` for fewer than two numbers of
/// guests, and where more is swept than that. Of several mechanism sets the last is drawn.
#[must_use]
pub fn sweep_svg(title: &str, cells: &[Cell], published: Option<&Published>) -> Option<String> {
    let cells = last_set(cells)?;
    let source = published.map_or_else(
        || "source: summary.json".to_owned(),
        |published| format!("here: summary.json; published: {}", published.source),
    );
    let form = Form::File {
        title,
        source: &source,
        height: 420.0,
    };
    Some(drawn(form, &cells, published))
}

/// The cells of the last mechanism set that has a curve.
fn last_set(cells: &[Cell]) -> Option<Vec<&Cell>> {
    let mut sets = cells.iter().rev().map(Cell::set_name);
    sets.find_map(|set| curve_of(cells, set))
}

/// The cells of a mechanism set, if they are of two numbers of guests at least and differ in nothing
/// else.
fn curve_of<'a>(cells: &'a [Cell], set: &str) -> Option<Vec<&'a Cell>> {
    let cells = cells
        .iter()
        .filter(|cell| cell.set_name() == set && share(&cell.figures, CURVES[0].ours).is_some());
    let cells = without_asides(cells.collect());
    let mut lines = lines(cells, |cell| Some(count(cell.guests)));
    let line = lines.pop().filter(|_| lines.is_empty())?;
    let (first, _) = line.cells.first()?;
    let several = line.cells.iter().any(|(guests, _)| guests != first);
    several.then(|| line.cells.into_iter().map(|(_, cell)| cell).collect())
}

/// Without cells that stand beside a curve: the first of each number of guests, where some number has
/// one cell alone. Where each has several, something else is swept, too, and all stay.
fn without_asides(mut cells: Vec<&Cell>) -> Vec<&Cell> {
    let mut seen = BTreeMap::<u64, usize>::new();
    for cell in &cells {
        *seen.entry(cell.guests).or_default() += 1;
    }
    if seen.values().any(|cells| *cells == 1) {
        cells.retain(|cell| seen.remove(&cell.guests).is_some());
    }
    cells
}

fn drawn(form: Form<'_>, cells: &[&Cell], published: Option<&Published>) -> String {
    let mut plots = Vec::new();
    for curve in &CURVES {
        let points = ours(cells, curve);
        let line = LinePlot::new().with_data(points.clone());
        let line = line.with_color(curve.color);
        plots.push(Plot::Line(
            line.with_legend(format!("{}, here", curve.label)),
        ));
        // What was measured, apart from the line between.
        let marks = ScatterPlot::new().with_data(points);
        let marks = marks.with_marker(MarkerShape::Square);
        plots.push(Plot::Scatter(marks.with_color(curve.color)));
        plots.extend(theirs_drawn(published, curve));
    }
    draw(form, plots, |layout| {
        layout
            .with_x_label("guests")
            .with_y_label("part of the memory in use (%)")
            .with_y_axis_min(0.0)
    })
}

/// The published values: a dashed line, and a dot for each, with arms as long as its reading error.
fn theirs_drawn(published: Option<&Published>, curve: &Curve) -> Vec<Plot> {
    let theirs = theirs(published, curve);
    if theirs.is_empty() {
        return Vec::new();
    }
    let mut line = LinePlot::new()
        .with_data(theirs.clone())
        .with_color(curve.color);
    if let Some(error) = published.and_then(|published| published.reading_error) {
        line = line.with_y_err_asymmetric(vec![(error, error); theirs.len()]);
    }
    let label = format!("{}, published", curve.label);
    let marks = ScatterPlot::new().with_data(theirs);
    vec![
        Plot::Line(line.with_dashed().with_legend(label)),
        Plot::Scatter(marks.with_color(curve.color)),
    ]
}

fn ours(cells: &[&Cell], curve: &Curve) -> Vec<(f64, f64)> {
    let points = cells.iter();
    points
        .filter_map(|cell| Some((count(cell.guests), share(&cell.figures, curve.ours)?)))
        .collect()
}

fn theirs(published: Option<&Published>, curve: &Curve) -> Vec<(f64, f64)> {
    let counts = published.into_iter().flat_map(|published| &published.count);
    let values = published.map_or(&[][..], curve.published);
    counts
        .zip(values)
        .map(|(guests, value)| (f64::from(*guests), *value))
        .collect()
}

/// The figure for the page; `None` without published values.
#[must_use]
pub fn published(results: &Results) -> Option<Figure> {
    let published = results.run.experiment.sweep.as_ref()?.published.as_ref()?;
    let cells = last_set(&results.summary.cells)?;
    let title = "Here, and as published";
    let form = Form::Page {
        id: "published",
        width: PAGE_WIDTH,
        height: 290.0,
    };
    let svg = drawn(form, &cells, Some(published));
    let mut keys = Vec::new();
    for curve in &CURVES {
        let mut key = |what: &str, mark| {
            keys.push(Key {
                label: format!("{}, {what}", curve.label),
                color: curve.color,
                mark,
            });
        };
        key("here", Mark::Line);
        if !(curve.published)(published).is_empty() {
            key("published", Mark::Dashed);
        }
    }
    Some(Figure {
        id: "published".into(),
        title: title.into(),
        caption: format!(
            "Percent of the memory in use that is shared, saved, and zero pages, against the \
             number of guests; medians of the runs. {}",
            read_off(published)
        ),
        source: format!("here: summary.json; published: {}", published.source),
        keys,
        panels: vec![Panel {
            name: String::new(),
            svg,
        }],
        file: sweep_svg(title, &results.summary.cells, Some(published))?,
        data: data(&residuals(results), published.reading_error),
        tex: pgfplots(&[chart(title, &cells, published)]),
    })
}

/// How sure the published values are.
fn read_off(published: &Published) -> String {
    match published.reading_error {
        Some(error) => format!(
            "Squares: here. Dots with arms: published, read off the graph to ±{error} percentage points."
        ),
        None => "Squares: here. Dots: published.".to_owned(),
    }
}

fn chart(title: &str, cells: &[&Cell], published: &Published) -> Chart {
    let mut series = Vec::new();
    for curve in &CURVES {
        series.push(Series {
            label: format!("{}, here", curve.label),
            color: curve.color,
            dashed: false,
            points: ours(cells, curve).into_iter().map(Into::into).collect(),
        });
        let error = published.reading_error.map(|error| (error, error));
        let theirs = theirs(Some(published), curve).into_iter();
        series.push(Series {
            label: format!("{}, published", curve.label),
            color: curve.color,
            dashed: true,
            points: theirs.map(|(x, y)| Point { x, y, arms: error }).collect(),
        });
    }
    series.retain(|series| !series.points.is_empty());
    Chart {
        title: title.to_owned(),
        x: "guests".to_owned(),
        y: "part of the memory in use (%)".to_owned(),
        shape: Shape::Lines,
        series,
    }
}

/// A published value with ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Residual {
    /// What it is.
    pub what: &'static str,
    /// Number of guests.
    pub guests: u64,
    /// Ours, percent; `None` where we did not measure.
    pub here: Option<f64>,
    /// The published one, percent.
    pub published: f64,
}

/// Every published value of the sweep with ours at the same number of guests.
#[must_use]
pub fn residuals(results: &Results) -> Vec<Residual> {
    let sweep = results.run.experiment.sweep.as_ref();
    let Some(published) = sweep.and_then(|sweep| sweep.published.as_ref()) else {
        return Vec::new();
    };
    let cells = last_set(&results.summary.cells).unwrap_or_default();
    let mut residuals = Vec::new();
    for curve in &CURVES {
        for (guests, value) in published.count.iter().zip((curve.published)(published)) {
            let guests = u64::from(*guests);
            let cell = cells.iter().find(|cell| cell.guests == guests);
            residuals.push(Residual {
                what: curve.label,
                guests,
                here: cell.and_then(|cell| share(&cell.figures, curve.ours)),
                published: *value,
            });
        }
    }
    residuals
}

fn data(residuals: &[Residual], error: Option<f64>) -> String {
    let head = [
        "what",
        "guests",
        "here (%)",
        "published (%)",
        "reading error (%)",
        "residual (%)",
    ];
    let mut text = row(&head.map(str::to_owned));
    for point in residuals {
        text.push_str(&row(&[
            point.what.to_owned(),
            point.guests.to_string(),
            point
                .here
                .map_or_else(String::new, |here| format!("{here:.2}")),
            format!("{:.2}", point.published),
            error.map_or_else(String::new, |error| error.to_string()),
            point
                .here
                .map_or_else(String::new, |here| format!("{:.2}", here - point.published)),
        ]));
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "a place in a figure")]
fn count(guests: u64) -> f64 {
    guests as f64
}

/// Percent of the memory that guests use.
fn share(figures: &Figures, value: fn(&Figures) -> Option<u64>) -> Option<f64> {
    let (value, used) = (
        value(figures)?,
        figures.memory.touched.filter(|used| *used > 0)?,
    );
    #[allow(clippy::cast_precision_loss, reason = "a height in a figure")]
    let share = value as f64 / used as f64 * 100.0;
    Some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(guests: u64) -> Cell {
        let mut figures = Figures::default();
        figures.memory.touched = Some(guests * 100);
        figures.memory.shared = Some(guests * 67);
        figures.memory.reclaimed = Some(guests * 50);
        figures.memory.zero = Some(guests * 7);
        Cell {
            id: format!("all-{guests}"),
            guests,
            runs: 1,
            figures,
            ..Cell::default()
        }
    }

    #[test]
    fn the_figure_shows_ours_and_the_published_values() {
        let published = Published {
            source: "a paper".into(),
            count: vec![1, 2],
            shared: vec![16.9, 61.1],
            reclaimed: vec![12.6, 36.4],
            zero: Vec::new(),
            reading_error: Some(0.5),
            footprint: None,
        };
        let svg = sweep_svg("n guests", &[cell(1), cell(2)], Some(&published)).unwrap();
        for text in [
            "n guests",
            "shared, here",
            "shared, published",
            "zero, here",
            "a paper",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("zero, published"));
        // After a wanted change: MIRRORBALL_BLESS=1, and look at the drawing.
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/published.svg");
        if std::env::var_os("MIRRORBALL_BLESS").is_some() {
            std::fs::write(golden, &svg).unwrap();
        }
        let golden = std::fs::read_to_string(golden).unwrap();
        assert!(svg == golden, "the figure is another:\n{svg}");
        assert!(sweep_svg("one point", &[cell(1)], None).is_none());
    }

    #[test]
    fn a_curve_has_one_point_for_a_number_of_guests() {
        let named = |id: &str, guests| Cell {
            id: id.to_owned(),
            set: "all".to_owned(),
            ..cell(guests)
        };
        let cells = [named("all-1", 1), named("all-2", 2), named("all-copied", 2)];
        let drawn = last_set(&cells).unwrap();
        let ids: Vec<_> = drawn.iter().map(|cell| &*cell.id).collect();
        assert_eq!(ids, ["all-1", "all-2"]);
    }

    #[test]
    fn cells_that_are_no_curve_hide_none() {
        // Older results do not say of which set a cell is: its id tells, but for those with names.
        let named = |id: &str, guests| Cell {
            id: id.to_owned(),
            set: String::new(),
            ..cell(guests)
        };
        let cells = [
            named("disk-1", 1),
            named("disk-8", 8),
            named("disk-mapped", 8),
        ];
        let drawn = last_set(&cells).unwrap();
        let ids: Vec<_> = drawn.iter().map(|cell| &*cell.id).collect();
        assert_eq!(ids, ["disk-1", "disk-8"]);
    }
}
