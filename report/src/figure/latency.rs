//! Latencies by percentile. The axis of percentiles is logarithmic in what is left above them, as
//! HdrHistogram's plots are: the tail is where sharing hurts.

use std::collections::BTreeMap;
use std::sync::Arc;

use hdrhistogram::Histogram;
use kuva::plot::LinePlot;
use kuva::render::layout::TickFormat;
use kuva::render::plots::Plot;

use super::tex::{Chart, Series, Shape, pgfplots};
use super::{Figure, Form, Key, Mark, PAGE_WIDTH, Panel, color, draw, row};
use crate::results::{Results, tags};

/// Fewer values than this have no tail to draw.
const LEAST: u64 = 20;

/// Points for each factor of ten.
const STEPS: u32 = 8;

/// A line: a cell and its points, each what is left above (as 1 / part) and microseconds.
type Line = (String, Vec<(f64, f64)>);

/// A figure for everything that histograms were kept of.
#[must_use]
pub fn latencies(results: &Results) -> Vec<Figure> {
    results
        .histograms
        .iter()
        .filter_map(|(tag, cells)| figure(results, tag, cells))
        .collect()
}

fn figure(
    results: &Results,
    tag: &str,
    cells: &BTreeMap<String, Histogram<u64>>,
) -> Option<Figure> {
    let ids = results.summary.cells.iter().map(|cell| &cell.id);
    let lines: Vec<Line> = ids
        .filter_map(|id| Some((id.clone(), cells.get(id)?)))
        .filter(|(_, histogram)| histogram.len() >= LEAST)
        .map(|(id, histogram)| (id, points(histogram)))
        .collect();
    if lines.is_empty() {
        return None;
    }
    let id = format!("latency-{tag}");
    let title = format!("Latency by percentile: {}", tags(tag));
    let page = Form::Page {
        id: &id,
        width: PAGE_WIDTH,
        height: 290.0,
    };
    let file = Form::File {
        title: &title,
        source: "all runs of a cell together; source: histograms/",
        height: 420.0,
    };
    let ends = lines.iter().filter_map(|(_, points)| points.last());
    let furthest = ends.map(|(left, _)| *left).fold(1.0, f64::max);
    let drawn = |form| {
        draw(form, plots(&lines), |layout| {
            layout
                .with_log_x()
                .with_log_y()
                .with_x_tick_format(TickFormat::Custom(Arc::new(percentile)))
                .with_y_tick_format(TickFormat::Custom(Arc::new(plain)))
                .with_x_label("percentile (%)")
                .with_y_label("latency (µs)")
                // Room for the last tick's label.
                .with_x_axis_max(furthest * 1.8)
        })
    };
    Some(Figure {
        title: title.clone(),
        caption:
            "All runs of a cell together; both axes are logarithmic. Each point: this part of \
                  the values is at most so high."
                .into(),
        source: format!("histograms/*.hlog, tag {tag}"),
        keys: keys(&lines),
        panels: vec![Panel {
            name: String::new(),
            svg: drawn(page),
        }],
        file: drawn(file),
        data: data(&lines),
        tex: pgfplots(&[chart(title, &lines)]),
        id: id.clone(),
    })
}

fn keys(lines: &[Line]) -> Vec<Key> {
    let keys = lines.iter().enumerate().map(|(index, (cell, _))| Key {
        label: cell.clone(),
        color: color(index),
        mark: if dashed(index) {
            Mark::Dashed
        } else {
            Mark::Line
        },
    });
    keys.collect()
}

/// After one round of colours, lines are dashed.
fn dashed(index: usize) -> bool {
    index >= super::COLORS.len()
}

/// Points as far out as the histogram has values for.
fn points(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let most = micros(histogram.len());
    for step in 0.. {
        let left = 10f64.powf(f64::from(step) / f64::from(STEPS));
        if left > most * 1e3 || step > 8 * STEPS {
            break;
        }
        let value = histogram.value_at_quantile(1.0 - 1.0 / left);
        points.push((left, micros(value.max(1))));
    }
    points
}

#[allow(clippy::cast_precision_loss, reason = "a place in a figure")]
fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

/// What is left above, as the percentile that it is.
fn percentile(left: f64) -> String {
    let part = 100.0 - 100.0 / left;
    let digits = left.log10().round() - 2.0;
    if digits >= 3.0 {
        format!("{part:.3}")
    } else if digits >= 2.0 {
        format!("{part:.2}")
    } else if digits >= 1.0 {
        format!("{part:.1}")
    } else {
        format!("{part:.0}")
    }
}

/// A power of ten without needless digits.
fn plain(value: f64) -> String {
    format!("{value}")
}

fn plots(lines: &[Line]) -> Vec<Plot> {
    let line = |(index, (cell, points)): (usize, &Line)| {
        let line = LinePlot::new()
            .with_data(points.clone())
            .with_color(color(index))
            .with_legend(cell.clone());
        Plot::Line(if dashed(index) {
            line.with_dashed()
        } else {
            line
        })
    };
    lines.iter().enumerate().map(line).collect()
}

fn chart(title: String, lines: &[Line]) -> Chart {
    let series = lines.iter().enumerate();
    let series = series.map(|(index, (cell, points))| Series {
        label: cell.clone(),
        color: color(index),
        dashed: dashed(index),
        points: points.iter().copied().map(Into::into).collect(),
    });
    Chart {
        title,
        x: "percentile (%)".to_owned(),
        y: "latency (µs)".to_owned(),
        shape: Shape::Tail,
        series: series.collect(),
    }
}

fn data(lines: &[Line]) -> String {
    let mut text = row(&["cell", "percentile (%)", "latency (µs)"].map(str::to_owned));
    for (cell, points) in lines {
        for (left, value) in points {
            text.push_str(&row(&[
                cell.clone(),
                format!("{:.5}", 100.0 - 100.0 / left),
                format!("{value:.3}"),
            ]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_percentiles() {
        let texts = [1.0, 10.0, 100.0, 1000.0, 10_000.0].map(percentile);
        assert_eq!(texts, ["0", "90", "99", "99.9", "99.99"]);
    }

    #[test]
    fn a_tail_is_drawn_as_far_as_there_are_values() {
        let mut histogram = Histogram::new(3).unwrap();
        for value in 1..=1000 {
            histogram.record(value * 1000).unwrap();
        }
        let points = points(&histogram);
        let (left, value) = *points.last().unwrap();
        assert!((left - 1000.0).abs() < 1e-6, "{left}");
        assert!((value - 1000.0).abs() < 2.0, "{value}");
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    }
}
