//! What sharing costs the workload: its time against the baseline's in the same repeat.

use kuva::plot::ForestPlot;
use kuva::render::plots::Plot;

use super::tex::{Chart, Point, Series, Shape, pgfplots};
use super::{Figure, Form, Key, Mark, PAGE_WIDTH, Panel, draw, row};
use crate::results::Results;
use crate::stats::{Pair, Paired, median, paired};

const TITLE: &str = "Workload time against the baseline of the same repeat";

/// The figure; `None` without a cell and its baseline that were both measured.
#[must_use]
pub fn ratios(results: &Results) -> Option<Figure> {
    let rows = rows(results);
    if rows.is_empty() {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "a height in a figure")]
    let height = 26.0f64.mul_add(rows.len() as f64, 90.0);
    let page = Form::Page {
        id: "ratios",
        width: PAGE_WIDTH,
        height,
    };
    let file = Form::File {
        title: TITLE,
        source: "medians of paired ratios with 95 % intervals; source: run.json",
        height: height + 90.0,
    };
    let drawn = |form| {
        draw(form, vec![Plot::Forest(plot(&rows))], |layout| {
            layout.with_x_label("time of the cell / time of its baseline (ratio)")
        })
    };
    Some(Figure {
        id: "ratios".into(),
        title: TITLE.into(),
        caption:
            "Each repeat's time is divided by that of the cell without mechanisms in the same \
                  repeat. The mark is the median ratio, the line its 95 % interval (none for \
                  fewer than three repeats). Right of 1 is slower."
                .into(),
        source: "run.json".into(),
        keys: vec![Key {
            label: "median ratio and 95 % interval".into(),
            color: COLOR,
            mark: Mark::Line,
        }],
        panels: vec![Panel {
            name: String::new(),
            svg: drawn(page),
        }],
        file: drawn(file),
        data: data(&rows),
        tex: pgfplots(&[chart(&rows)]),
    })
}

const COLOR: &str = "#0072B2";

struct Row {
    cell: String,
    /// Median of the cell's times and of the baseline's: a ratio says nothing of sizes.
    seconds: (f64, f64),
    ratio: f64,
    paired: Paired,
}

fn rows(results: &Results) -> Vec<Row> {
    let cells = results.summary.cells.iter();
    cells
        .filter_map(|cell| {
            let base = results.baseline(cell)?;
            let pairs = results.pairs(base, cell, "workload.seconds");
            let paired = paired(&pairs)?;
            let middle =
                |value: fn(&Pair) -> f64| median(&pairs.iter().map(value).collect::<Vec<_>>());
            Some(Row {
                cell: cell.id.clone(),
                seconds: (middle(|pair| pair.value), middle(|pair| pair.base)),
                ratio: paired.ratio?,
                paired,
            })
        })
        .collect()
}

fn plot(rows: &[Row]) -> ForestPlot {
    let mut plot = ForestPlot::new().with_null_value(1.0).with_color(COLOR);
    for row in rows {
        let (low, high) = row
            .paired
            .ratio_interval
            .map_or((row.ratio, row.ratio), |interval| {
                (interval.low, interval.high)
            });
        plot = plot.with_row(row.cell.clone(), row.ratio, low, high);
    }
    plot
}

fn chart(rows: &[Row]) -> Chart {
    let points = rows.iter().enumerate().map(|(place, row)| {
        let interval = row.paired.ratio_interval;
        #[allow(clippy::cast_precision_loss, reason = "a place in a figure")]
        let x = place as f64;
        Point {
            x,
            y: row.ratio,
            arms: interval.map(|ends| (row.ratio - ends.low, ends.high - row.ratio)),
        }
    });
    let points = points.collect();
    Chart {
        title: TITLE.to_owned(),
        x: String::new(),
        y: "time of the cell / time of its baseline (ratio)".to_owned(),
        shape: Shape::Marks(rows.iter().map(|row| row.cell.clone()).collect()),
        series: vec![Series {
            label: "median ratio and 95 % interval".to_owned(),
            color: COLOR,
            dashed: false,
            points,
        }],
    }
}

fn data(rows: &[Row]) -> String {
    let mut text = row(&[
        "cell",
        "repeats",
        "time (s)",
        "baseline (s)",
        "ratio",
        "low",
        "high",
    ]
    .map(str::to_owned));
    for line in rows {
        let end = |end: Option<f64>| end.map_or_else(String::new, |end| format!("{end:.4}"));
        let interval = line.paired.ratio_interval;
        text.push_str(&row(&[
            line.cell.clone(),
            line.paired.runs.to_string(),
            format!("{:.4}", line.seconds.0),
            format!("{:.4}", line.seconds.1),
            format!("{:.4}", line.ratio),
            end(interval.map(|interval| interval.low)),
            end(interval.map(|interval| interval.high)),
        ]));
    }
    text
}
