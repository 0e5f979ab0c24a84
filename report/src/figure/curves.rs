//! Curves of a paper with ours: values against whatever the paper has on its axis.
//!
//! Where a paper's figure is about time, its curves stand alone: what our guests did over time is
//! another figure ([`super::guests`]), since neither clock nor sizes are the paper's.

use kuva::plot::scatter::MarkerShape;
use kuva::plot::{LinePlot, LineStyle, ScatterPlot};
use kuva::render::plots::Plot;
use serde::{Deserialize, Serialize};

use super::tex::{Chart, Point, Series, Shape, pgfplots};
use super::{Figure, Form, Key, Mark, PAGE_WIDTH, Panel, color, draw, row};
use crate::results::Results;
use crate::stats::{Interval, Ratios, estimate, pairs_of};

/// Dashes of published curves, in turn: of two that lie on each other both are seen.
const DASHES: [&str; 4] = ["8 4", "5 3", "12 5", "3 3"];

/// A figure of a paper, as an experiment file has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PublishedFigure {
    /// Names its files.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// Where it was published.
    pub source: String,
    /// What is on the axes, with units.
    pub x: String,
    /// The same.
    pub y: String,
    /// Its curves.
    pub lines: Vec<PublishedLine>,
}

/// A curve of a paper, and which of our values stand beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PublishedLine {
    /// What it is of.
    pub name: String,
    /// Places of the published values.
    pub x: Vec<f64>,
    /// The values.
    pub y: Vec<f64>,
    /// Our figure, by its path; without it we have none here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Our cells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<String>,
    /// The place of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<f64>,
    /// Ours are in percent of this cell's figure in the same repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent_of: Option<String>,
}

/// A value of ours.
struct Own {
    x: f64,
    y: f64,
    interval: Option<Interval>,
}

/// The figures that the experiment has published curves for.
#[must_use]
pub fn curves(results: &Results) -> Vec<Figure> {
    let figures = results.run.experiment.curves.iter();
    figures
        .map(|published| figure(results, published))
        .collect()
}

/// Our values beside a curve; none for cells that were not run.
fn own(results: &Results, line: &PublishedLine) -> Vec<Own> {
    let value = |(id, x): (&String, &f64)| {
        let metric = line.metric.as_deref()?;
        let values = results.values(results.cell(id).ok()?, metric);
        let values: Vec<f64> = match &line.percent_of {
            None => values.into_iter().map(|(_, value)| value).collect(),
            Some(base) => {
                let base = results.values(results.cell(base).ok()?, metric);
                let ratios = Ratios::of(&pairs_of(&base, &values))?;
                ratios.each().iter().map(|ratio| ratio * 100.0).collect()
            }
        };
        let estimate = estimate(&values)?;
        Some(Own {
            x: *x,
            y: estimate.median,
            interval: estimate.interval,
        })
    };
    line.cells.iter().zip(&line.at).filter_map(value).collect()
}

fn figure(results: &Results, published: &PublishedFigure) -> Figure {
    let lines = &published.lines;
    let ours: Vec<Vec<Own>> = lines.iter().map(|line| own(results, line)).collect();
    let (title, source) = (&published.title, &published.source);
    let place = match is_alone(&ours) {
        true => format!("published: {source}"),
        false => format!("here: run.json; published: {source}"),
    };
    let shape = |layout: kuva::render::layout::Layout| {
        layout
            .with_x_label(published.x.clone())
            .with_y_label(published.y.clone())
            .with_y_axis_min(0.0)
    };
    let id = format!("curve-{}", published.id);
    let page = Form::Page {
        id: &id,
        width: PAGE_WIDTH,
        height: 320.0,
    };
    let file = Form::File {
        title,
        source: &place,
        height: 420.0,
    };
    let how = match is_alone(&ours) {
        true => "As published; what was measured here is in the figure of the guests over time.",
        false => {
            "Squares and full lines: here, medians of the runs, with 95 % intervals from three runs on. \
             Dots and dashed lines: published."
        }
    };
    Figure {
        id: id.clone(),
        title: title.clone(),
        caption: how.to_owned(),
        source: place.clone(),
        keys: keys(lines, &ours),
        panels: vec![Panel {
            name: String::new(),
            svg: draw(page, plots(lines, &ours), shape),
        }],
        file: draw(file, plots(lines, &ours), shape),
        data: data(published, &ours),
        tex: pgfplots(&[chart(published, &ours)]),
    }
}

fn here(line: &PublishedLine) -> String {
    format!("{}, here", line.name)
}

fn theirs(line: &PublishedLine, ours: &[Vec<Own>]) -> String {
    match is_alone(ours) {
        // The figure's source says it.
        true => line.name.clone(),
        false => format!("{}, published", line.name),
    }
}

/// Whether no curve has values of ours beside it.
fn is_alone(ours: &[Vec<Own>]) -> bool {
    ours.iter().all(Vec::is_empty)
}

fn points(line: &PublishedLine) -> Vec<(f64, f64)> {
    line.x.iter().copied().zip(line.y.iter().copied()).collect()
}

fn keys(lines: &[PublishedLine], ours: &[Vec<Own>]) -> Vec<Key> {
    let mut keys = Vec::new();
    for (index, (line, own)) in lines.iter().zip(ours).enumerate() {
        let mut key = |label, mark| {
            keys.push(Key {
                label,
                color: color(index),
                mark,
            });
        };
        if !own.is_empty() {
            key(here(line), Mark::Line);
        }
        key(theirs(line, ours), Mark::Dashed);
    }
    keys
}

fn plots(lines: &[PublishedLine], ours: &[Vec<Own>]) -> Vec<Plot> {
    let mut plots = Vec::new();
    for (index, (line, own)) in lines.iter().zip(ours).enumerate() {
        let color = color(index);
        if !own.is_empty() {
            let data: Vec<_> = own.iter().map(|own| (own.x, own.y)).collect();
            let mut drawn = LinePlot::new()
                .with_data(data.clone())
                .with_color(color)
                .with_legend(here(line));
            if own.iter().any(|own| own.interval.is_some()) {
                drawn = drawn.with_y_err_asymmetric(own.iter().map(arms).collect::<Vec<_>>());
            }
            plots.push(Plot::Line(drawn));
            let marks = ScatterPlot::new().with_data(data).with_color(color);
            plots.push(Plot::Scatter(marks.with_marker(MarkerShape::Square)));
        }
        let dashes = LineStyle::Custom(DASHES[index % DASHES.len()].to_owned());
        let drawn = LinePlot::new().with_data(points(line)).with_color(color);
        let drawn = drawn
            .with_line_style(dashes)
            .with_legend(theirs(line, ours));
        plots.push(Plot::Line(drawn));
        let marks = ScatterPlot::new().with_data(points(line));
        plots.push(Plot::Scatter(marks.with_color(color)));
    }
    plots
}

/// How far the interval reaches down and up.
fn arms(own: &Own) -> (f64, f64) {
    let arms = own.interval.as_ref();
    arms.map_or((0.0, 0.0), |ends| (own.y - ends.low, ends.high - own.y))
}

fn chart(published: &PublishedFigure, ours: &[Vec<Own>]) -> Chart {
    let mut series = Vec::new();
    for (index, (line, own)) in published.lines.iter().zip(ours).enumerate() {
        let color = color(index);
        let point = |own: &Own| Point {
            x: own.x,
            y: own.y,
            arms: own.interval.is_some().then(|| arms(own)),
        };
        series.push(Series {
            label: here(line),
            color,
            dashed: false,
            points: own.iter().map(point).collect(),
        });
        series.push(Series {
            label: theirs(line, ours),
            color,
            dashed: true,
            points: points(line).into_iter().map(Into::into).collect(),
        });
    }
    series.retain(|series| !series.points.is_empty());
    Chart {
        title: published.title.clone(),
        x: published.x.clone(),
        y: published.y.clone(),
        shape: Shape::Lines,
        series,
    }
}

fn data(published: &PublishedFigure, ours: &[Vec<Own>]) -> String {
    let head = ["line", "whose", &published.x, &published.y, "low", "high"];
    let mut text = row(&head.map(str::to_owned));
    let mut add = |name: &str, whose: &str, (x, y): (f64, f64), ends: Option<&Interval>| {
        let end = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.4}"));
        text.push_str(&row(&[
            name.to_owned(),
            whose.to_owned(),
            x.to_string(),
            format!("{y:.4}"),
            end(ends.map(|ends| ends.low)),
            end(ends.map(|ends| ends.high)),
        ]));
    };
    for (line, own) in published.lines.iter().zip(ours) {
        for own in own {
            add(&line.name, "here", (own.x, own.y), own.interval.as_ref());
        }
        for point in points(line) {
            add(&line.name, "published", point, None);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::results::Run;

    /// A figure of one published line, and three runs of a small cell and a large one.
    fn results() -> Results {
        let run = |cell: &str, run: u32, printed: f64| Run {
            cell: cell.into(),
            run,
            complete: true,
            figures: serde_json::json!({ "groups": { "a": { "printed": { "rate": printed } } } }),
            ..Run::default()
        };
        let line = PublishedLine {
            name: "configured".into(),
            x: vec![50.0, 100.0],
            y: vec![64.6, 100.0],
            metric: Some("groups.a.printed.rate".into()),
            cells: vec!["small".into(), "large".into(), "not-run".into()],
            at: vec![66.7, 100.0, 80.0],
            percent_of: Some("large".into()),
        };
        let figure = PublishedFigure {
            id: "throughput".into(),
            title: "Throughput".into(),
            source: "a paper".into(),
            x: "memory (%)".into(),
            y: "throughput (%)".into(),
            lines: vec![line],
        };
        let runs = [40.0, 50.0, 90.0].into_iter().zip(1..);
        let runs = runs
            .flat_map(|(rate, number)| [run("small", number, rate), run("large", number, 100.0)]);
        let cells = ["small", "large"].map(fixture::cell);
        let mut results = fixture::results(cells.into());
        results.run.experiment.curves = vec![figure];
        results.run.runs = runs.collect();
        results
    }

    #[test]
    fn ours_stand_beside_the_published_in_percent_of_a_cell() {
        let figures = curves(&results());
        let [figure] = figures.as_slice() else {
            panic!("{figures:?}");
        };
        let lines: Vec<_> = figure.data.lines().skip(1).collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(
            lines[0].starts_with("configured,here,66.7,50.0000,40"),
            "{lines:?}"
        );
        assert!(
            lines[1].starts_with("configured,here,100,100.0000,100"),
            "{lines:?}"
        );
        assert_eq!(lines[2], "configured,published,50,64.6000,,");
        assert!(figure.file.contains("configured, published"));
        assert_eq!(figure.keys.len(), 2);
    }

    #[test]
    fn a_curve_of_a_paper_stands_alone_where_we_have_none() {
        let mut results = results();
        results.run.experiment.curves[0].lines[0].metric = None;
        let figure = curves(&results).remove(0);
        assert_eq!(figure.keys.len(), 1);
        assert_eq!(figure.keys[0].label, "configured");
        assert!(!figure.file.contains("configured, here"));
    }
}
