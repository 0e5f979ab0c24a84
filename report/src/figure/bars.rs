//! Bars of cells, cut into parts: what each mechanism saves, and what CPU time goes where.

use kuva::plot::BarPlot;
use kuva::render::plots::Plot;

use super::tex::{Chart, Series, Shape, pgfplots};
use super::{Figure, Form, Key, Mark, PAGE_WIDTH, Panel, count, draw, row};
use crate::metrics::{Unit, by_path, value};
use crate::results::Results;
use crate::summary::Cell;

/// One part of the bars.
struct Part {
    path: &'static str,
    label: &'static str,
    color: &'static str,
}

const fn part(path: &'static str, label: &'static str, color: &'static str) -> Part {
    Part { path, label, color }
}

/// The colours are those of the memory figure.
const SAVED: [Part; 5] = [
    part("by_mechanism.disk", "disk", "#009E73"),
    part("by_mechanism.network", "network", "#D55E00"),
    part("by_mechanism.content", "content", "#E69F00"),
    part("by_mechanism.zero", "zero", "#F0E442"),
    part("by_mechanism.ksm", "KSM", "#CC79A7"),
];

const SPENT: [Part; 4] = [
    part("cpu_seconds.vcpu", "vCPUs", "#0072B2"),
    part("cpu_seconds.device", "devices", "#56B4E9"),
    part("cpu_seconds.scanner", "scanner", "#E69F00"),
    part("cpu_seconds.ksmd", "ksmd", "#CC79A7"),
];

/// What each mechanism saves in each cell.
#[must_use]
pub fn mechanisms(results: &Results) -> Option<Figure> {
    bars(
        results,
        &SAVED,
        &Words {
            id: "mechanisms",
            title: "Memory saved in each cell, by mechanism",
            axis: "memory saved (MiB)",
            caption: "At the end of the quiet period; medians of the runs. A page is counted for \
                      the mechanism that saved it first.",
        },
    )
}

/// What CPU time goes where.
#[must_use]
pub fn costs(results: &Results) -> Option<Figure> {
    bars(
        results,
        &SPENT,
        &Words {
            id: "costs",
            title: "CPU time of each cell, by component",
            axis: "CPU time (s)",
            caption: "Of a whole run; medians of the runs. What was not measured is left out, not \
                      drawn as nothing.",
        },
    )
}

struct Words {
    id: &'static str,
    title: &'static str,
    axis: &'static str,
    caption: &'static str,
}

fn bars(results: &Results, parts: &[Part], words: &Words) -> Option<Figure> {
    let cells: Vec<&Cell> = results
        .summary
        .cells
        .iter()
        .filter(|cell| cell.runs > 0)
        .collect();
    let measured = |part: &&Part| {
        let values = cells
            .iter()
            .filter_map(|cell| value(&cell.figures, part.path));
        values.fold(0.0, f64::max) > 0.0
    };
    let parts: Vec<&Part> = parts.iter().filter(measured).collect();
    if parts.is_empty() {
        return None;
    }
    let keys = parts.iter().map(|part| Key {
        label: part.label.to_owned(),
        color: part.color,
        mark: Mark::Area,
    });
    let height = 24.0f64.mul_add(count(cells.len()), 90.0);
    let file = Form::File {
        title: words.title,
        source: "medians of the runs; source: summary.json",
        height: height + 90.0,
    };
    let page = Form::Page {
        id: words.id,
        width: PAGE_WIDTH,
        height,
    };
    let drawn = |form| {
        draw(form, plots(&cells, &parts), |layout| {
            layout.with_x_label(words.axis)
        })
    };
    Some(Figure {
        id: words.id.into(),
        title: words.title.into(),
        caption: words.caption.into(),
        source: "summary.json".into(),
        keys: keys.collect(),
        panels: vec![Panel {
            name: String::new(),
            svg: drawn(page),
        }],
        file: drawn(file),
        data: data(&cells, &parts),
        tex: pgfplots(&[chart(&cells, &parts, words)]),
    })
}

fn plots(cells: &[&Cell], parts: &[&Part]) -> Vec<Plot> {
    let mut bars = BarPlot::new().with_stacked().with_horizontal(true);
    // The library draws the first group at the bottom.
    for cell in cells.iter().rev() {
        let values = parts.iter().map(|part| (scaled(cell, part), part.color));
        bars = bars.with_group(cell.id.clone(), values.collect::<Vec<_>>());
    }
    let labels = parts.iter().map(|part| part.label).collect();
    vec![Plot::Bar(bars.with_legend(labels))]
}

fn chart(cells: &[&Cell], parts: &[&Part], words: &Words) -> Chart {
    let series = parts.iter().map(|part| Series {
        label: part.label.to_owned(),
        color: part.color,
        dashed: false,
        points: cells
            .iter()
            .enumerate()
            .map(|(place, cell)| (scaled(cell, part), count(place)).into())
            .collect(),
    });
    Chart {
        title: words.title.to_owned(),
        x: words.axis.to_owned(),
        y: String::new(),
        shape: Shape::Bars(cells.iter().map(|cell| cell.id.clone()).collect()),
        series: series.collect(),
    }
}

fn scaled(cell: &Cell, part: &Part) -> f64 {
    let unit = by_path(part.path).map_or(Unit::Count, |metric| metric.unit);
    unit.scaled(value(&cell.figures, part.path).unwrap_or(0.0))
}

fn data(cells: &[&Cell], parts: &[&Part]) -> String {
    let heads = parts.iter().map(|part| {
        let unit = by_path(part.path).map_or("", |metric| metric.unit.name());
        format!("{} ({unit})", part.label)
    });
    let mut text = row(&["cell".to_owned()]
        .into_iter()
        .chain(heads)
        .collect::<Vec<_>>());
    for cell in cells {
        let values = parts.iter().map(|part| {
            let known = value(&cell.figures, part.path);
            known.map_or_else(String::new, |_| format!("{:.4}", scaled(cell, part)))
        });
        text.push_str(&row(&[cell.id.clone()]
            .into_iter()
            .chain(values)
            .collect::<Vec<_>>()));
    }
    text
}
