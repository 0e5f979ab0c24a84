//! Where the memory that guests touched went over time; also `memory.svg` of a results folder.
//!
//! The stack is what guests use of the machine's memory, with what each mechanism saves on top: it
//! is as high as what guests touched. Guest-physical memory would dwarf it where guests leave most
//! of theirs untouched, so that figure stands in the subtitle.

use kuva::plot::{LinePlot, StackedAreaPlot};
use kuva::render::plots::Plot;

use super::tex::{Chart, Series, Shape, pgfplots};
use super::time::{panel, thinned, with_cells};
use super::{Figure, Form, Key, Mark, Panel, draw, mib, row};
use crate::results::Results;
use crate::samples::{MACHINE, Sample};
use crate::table::bytes;

/// More points than this can't be told apart in the figure.
const MOST_POINTS: usize = 1500;
/// The same for a panel of the page.
const MOST_PANEL_POINTS: usize = 200;

/// One layer of the stack.
struct Layer {
    label: &'static str,
    color: &'static str,
    value: fn(&Sample) -> u64,
}

/// From the bottom up: what machine memory is used for, then what was saved.
const LAYERS: [Layer; 7] = [
    Layer {
        label: "used: private pages",
        color: "#0072B2",
        value: |s| s.private_bytes.saturating_sub(s.ksm_bytes.unwrap_or(0)),
    },
    Layer {
        label: "used: shared frames",
        color: "#56B4E9",
        value: |s| s.frames_bytes.unwrap_or(0),
    },
    Layer {
        label: "saved by disk",
        color: "#009E73",
        value: |s| s.disk_bytes.unwrap_or(0),
    },
    Layer {
        label: "saved by network",
        color: "#D55E00",
        value: |s| s.network_bytes.unwrap_or(0),
    },
    Layer {
        label: "saved by content",
        color: "#E69F00",
        value: |s| s.content_bytes.unwrap_or(0),
    },
    Layer {
        label: "saved by zero",
        color: "#F0E442",
        value: |s| s.zero_bytes,
    },
    Layer {
        label: "saved by KSM",
        color: "#CC79A7",
        value: |s| s.ksm_bytes.unwrap_or(0),
    },
];

/// What over-commitment risks: every shared page may be written, and all may be at once.
const RISK: &str = "needed if all shares broke";
const RISK_COLOR: &str = "#000000";

/// What the axes can't say: the memory the guests were given, and where the numbers are.
fn subtitle(samples: &[&Sample]) -> String {
    format!("{}; source: samples.csv", given(samples))
}

fn given(samples: &[&Sample]) -> String {
    let most = |value: fn(&Sample) -> u64| samples.iter().map(|s| value(s)).max();
    let given = bytes(most(|sample| sample.guest_physical_bytes));
    let touched = bytes(most(|sample| sample.touched_bytes));
    format!("guests have {given} of guest-physical memory and touch {touched} at most")
}

/// The memory that guests may use, in words: above it, a break of all shares ends in swapping.
fn budget(results: &Results) -> String {
    let budget = results.run.conditions["experiment"]["machine"]["memory"].as_u64();
    budget.map_or_else(String::new, |budget| {
        format!(" The experiment gives them {}.", bytes(Some(budget)))
    })
}

/// The machine's samples of the first run of each cell: further ones would only crowd the figure.
fn first_runs(samples: &[Sample]) -> Vec<&Sample> {
    let machine = samples.iter().filter(|sample| sample.vm == MACHINE);
    machine.filter(|sample| sample.run == 1).collect()
}

/// The layers that any of these samples has a value for.
fn layers(samples: &[&Sample]) -> Vec<&'static Layer> {
    let any = |layer: &&Layer| samples.iter().any(|sample| (layer.value)(sample) > 0);
    LAYERS.iter().filter(any).collect()
}

fn stack(samples: &[&Sample], layers: &[&Layer], from: f64) -> Vec<Plot> {
    let times = samples.iter().map(|sample| sample.time_seconds - from);
    let mut stack = StackedAreaPlot::new()
        .with_x(times)
        .with_strokes(false)
        .with_fill_opacity(1.0);
    for layer in layers {
        stack = stack
            .with_series(samples.iter().map(|sample| mib((layer.value)(sample))))
            .with_color(layer.color)
            .with_legend(layer.label);
    }
    let mut plots = vec![Plot::StackedArea(stack)];
    if saves(samples) {
        let edge = samples
            .iter()
            .map(|sample| (sample.time_seconds - from, height(sample)));
        let line = LinePlot::new()
            .with_data(edge.collect::<Vec<_>>())
            .with_color(RISK_COLOR)
            .with_dashed()
            .with_legend(RISK);
        plots.push(Plot::Line(line));
    }
    plots
}

/// Whether anything is saved that a write could take back.
fn saves(samples: &[&Sample]) -> bool {
    let saved = LAYERS
        .iter()
        .filter(|layer| layer.label.starts_with("saved"));
    let mut values = saved.flat_map(|layer| samples.iter().map(|sample| (layer.value)(sample)));
    values.any(|value| value > 0)
}

/// The figure as SVG; `None` without samples.
#[must_use]
pub fn memory_svg(title: &str, samples: &[Sample]) -> Option<String> {
    let machine = first_runs(samples);
    let kept = thinned(&machine, MOST_POINTS);
    let end = kept.last().filter(|_| kept.len() > 1)?.time_seconds;
    let form = Form::File {
        title,
        source: &subtitle(&machine),
        height: 420.0,
    };
    Some(draw(form, stack(&kept, &layers(&kept), 0.0), |layout| {
        let layout = layout
            .with_x_label("time (s); the first run of each cell")
            .with_y_label("touched guest memory (MiB)");
        with_cells(layout, &begins(&kept), end, highest(&kept))
    }))
}

/// When each cell begins, and its name.
fn begins<'a>(samples: &[&'a Sample]) -> Vec<(f64, &'a str)> {
    let cells = samples.chunk_by(|one, next| one.cell == next.cell);
    let firsts = cells.filter_map(|cell| cell.first());
    firsts
        .map(|first| (first.time_seconds, first.cell.as_str()))
        .collect()
}

/// The figure for the page: a panel for each cell, all with the same height of axis.
#[must_use]
pub fn memory(results: &Results) -> Option<Figure> {
    let machine = first_runs(&results.samples);
    let title = "Where the memory that guests touched went, over time";
    let file = memory_svg(title, &results.samples)?;
    let layers = layers(&machine);
    let highest = highest(&machine);
    let (mut panels, mut charts) = (Vec::new(), Vec::new());
    for cell in &results.summary.cells {
        let own: Vec<&Sample> = machine
            .iter()
            .copied()
            .filter(|sample| sample.cell == cell.id)
            .collect();
        let kept = thinned(&own, MOST_PANEL_POINTS);
        let Some(first) = kept.first().filter(|_| kept.len() > 1) else {
            continue;
        };
        let id = format!("memory-{}", panels.len());
        let plots = stack(&kept, &layers, first.time_seconds);
        let svg = draw(panel(&id), plots, |layout| {
            layout
                .with_x_label("time (s)")
                .with_y_label("memory (MiB)")
                .with_ticks(5)
                .with_y_axis_max(highest * 1.05)
        });
        charts.push(chart(&cell.id, &kept, &layers));
        panels.push(Panel {
            name: cell.id.clone(),
            svg,
        });
    }
    Some(Figure {
        id: "memory".into(),
        title: title.into(),
        caption: format!(
            "First run of each cell; {}. The stack is as high as what guests touched: below, what \
             they use of the machine's memory; above, what each mechanism saves. The dashed line is \
             what they would need if every shared page were written now.{}",
            given(&machine),
            budget(results)
        ),
        source: "samples.csv".into(),
        keys: keys(&machine, &layers),
        panels,
        file,
        data: data(&machine, &layers),
        tex: pgfplots(&charts),
    })
}

fn keys(samples: &[&Sample], layers: &[&Layer]) -> Vec<Key> {
    let key = |layer: &&Layer| Key {
        label: layer.label.to_owned(),
        color: layer.color,
        mark: Mark::Area,
    };
    let risk = saves(samples).then(|| Key {
        label: RISK.to_owned(),
        color: RISK_COLOR,
        mark: Mark::Dashed,
    });
    layers.iter().map(key).chain(risk).collect()
}

fn chart(cell: &str, samples: &[&Sample], layers: &[&Layer]) -> Chart {
    let from = samples.first().map_or(0.0, |sample| sample.time_seconds);
    let series = layers.iter().map(|layer| Series {
        label: layer.label.to_owned(),
        color: layer.color,
        dashed: false,
        points: samples
            .iter()
            .map(|sample| (sample.time_seconds - from, mib((layer.value)(sample))).into())
            .collect(),
    });
    Chart {
        title: cell.to_owned(),
        x: "time (s)".to_owned(),
        y: "memory (MiB)".to_owned(),
        shape: Shape::Areas,
        series: series.collect(),
    }
}

fn data(samples: &[&Sample], layers: &[&Layer]) -> String {
    let heads = layers.iter().map(|layer| format!("{} (MiB)", layer.label));
    let heads: Vec<String> = ["cell".into(), "time (s)".into()]
        .into_iter()
        .chain(heads)
        .collect();
    let mut text = row(&heads);
    for sample in samples {
        let values = layers
            .iter()
            .map(|layer| format!("{:.3}", mib((layer.value)(sample))));
        let first = [sample.cell.clone(), format!("{:.3}", sample.time_seconds)];
        text.push_str(&row(&first.into_iter().chain(values).collect::<Vec<_>>()));
    }
    text
}

/// The stack's height in a sample, MiB.
fn height(sample: &Sample) -> f64 {
    LAYERS.iter().map(|layer| mib((layer.value)(sample))).sum()
}

fn highest(samples: &[&Sample]) -> f64 {
    let heights = samples.iter().map(|sample| height(sample));
    heights.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Sample> {
        let sample = |cell: &str, time: u32, disk| Sample {
            cell: cell.into(),
            run: 1,
            time_seconds: f64::from(time),
            vm: MACHINE.into(),
            guest_physical_bytes: 64 << 20,
            private_bytes: u64::from(time) << 20,
            disk_bytes: Some(disk),
            ..Sample::default()
        };
        (0..10)
            .map(|t| sample("none", t, 0))
            .chain((10..20).map(|t| sample("disk", t, 5 << 20)))
            .collect()
    }

    #[test]
    fn the_figure_names_cells_and_layers_and_is_the_same_each_time() {
        let svg = memory_svg("quick", &samples()).unwrap();
        for text in [
            "none",
            "used: private",
            "saved by disk",
            "have 64.0 MiB",
            "(MiB)",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(
            svg.contains("needed if all shares broke"),
            "no risk is shown"
        );
        let nothing = &samples()[..10];
        let nothing = memory_svg("quick", nothing).unwrap();
        assert!(
            !nothing.contains("if all shares broke"),
            "nothing is at risk"
        );
        assert!(
            !svg.contains("saved by KSM"),
            "a layer without a value is shown"
        );
        assert_eq!(svg, memory_svg("quick", &samples()).unwrap());
        assert!(memory_svg("quick", &[]).is_none());
    }

    #[test]
    fn the_png_is_one_and_shows_text() {
        let png = |samples: &[Sample], title| {
            super::super::png(&memory_svg(title, samples).unwrap()).unwrap()
        };
        let image = png(&samples(), "a title");
        assert_eq!(image[1..4], *b"PNG");
        assert_ne!(image, png(&samples(), "another"), "text is not drawn");
    }
}
